"""The threads of scrapes and fetches: daemon threads, so that one that hangs can't delay exit."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from nextmv_exporter.forks import repair_after_fork
from nextmv_exporter.nextmv.errors import ConnectionFailedError

STACK_BYTES = 4 * 1024 * 1024
"""Stack size of a thread that parses. A nested response takes 2 MiB of it on Python 3.13 before it
is rejected; the default may be far less, as under musl or `ulimit -s`."""

MAX_IDLE = 8
"""Maximum number of idle threads; each takes memory."""

IDLE_SECONDS = 120.0
"""Time after which an idle thread ends; longer than the usual scrape intervals."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = tuple[Callable[[], None], str]


class Workers:
    """Pool of reused threads: starting one for each scrape costs a tenth of its CPU time."""

    def __init__(self) -> None:
        self.after_fork()
        repair_after_fork(self)

    def run(self, work: Callable[[], None], name: str) -> None:
        """Run a function in a thread.

        Args:
            work: the function; must not raise.
            name: name of the thread while it runs the function.

        Raises:
            RuntimeError: the system starts no more threads.
        """
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._queue.put((work, name))
                return
            thread = threading.Thread(target=self._work, args=(work, name), daemon=True)
            default = threading.stack_size(STACK_BYTES)
            try:
                thread.start()
            finally:
                threading.stack_size(default)

    def after_fork(self) -> None:
        """Replace what a forked process can't use."""
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._idle = 0
        """Idle threads less the work that is queued for them."""

    def _work(self, work: Callable[[], None], name: str) -> None:
        thread = threading.current_thread()
        while True:
            thread.name = name
            work()
            thread.name = "idle"
            del work
            with self._lock:
                if self._idle >= MAX_IDLE:
                    return
                self._idle += 1
            try:
                work, name = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return
                work, name = self._queue.get()


WORKERS = Workers()


def each_in_parallel(
    items: Sequence[Item], work: Callable[[Item], Result], limit: int
) -> list[Result]:
    """Apply a function to the items in parallel.

    A failure is raised immediately. Calls in progress then continue, so the caller should end
    them.

    Args:
        items: the items.
        work: the function; after it has raised, no further item is started.
        limit: maximum number of threads.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: the first that `work` raised.
        ConnectionFailedError: the system starts no more threads, not even one.
    """
    results: dict[int, Result] = {}
    pending = deque(enumerate(items))
    lock = threading.Lock()
    ended: SimpleQueue[Exception | None] = SimpleQueue()
    failed = False

    def take() -> tuple[int, Item] | None:
        with lock:
            return pending.popleft() if pending else None

    def worker() -> None:
        nonlocal failed
        try:
            while taken := take():
                number, item = taken
                results[number] = work(item)
            ended.put(None)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            with lock:
                pending.clear()
                ended.put(None if failed else error)
                failed = True

    started = 0
    try:
        for _ in range(min(limit, len(items))):
            WORKERS.run(worker, threading.current_thread().name)
            started += 1
    except RuntimeError as error:
        if not started:
            raise ConnectionFailedError(str(error)) from None
    for _ in range(started):
        failure = ended.get()
        try:
            if failure:
                raise failure
        finally:
            del failure  # its traceback has this frame: a cycle, which would keep the results
    return [results[number] for number in range(len(items))]
