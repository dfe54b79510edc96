"""Threads that a scrape starts: daemons, so that one that hangs never delays the program's exit."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

STACK_BYTES = 4 * 1024 * 1024
"""Stack of a thread that parses. A nested response takes 2 MiB of it on Python 3.13 before it is
rejected; the default may be far less, as under musl or `ulimit -s`."""

Item = TypeVar("Item")
Result = TypeVar("Result")

_stack_size = threading.Lock()


def start_thread(work: Callable[[], None], name: str) -> None:
    """Start a daemon thread with a stack of `STACK_BYTES`.

    Args:
        work: what it does.
        name: its name.

    Raises:
        RuntimeError: the system starts no more threads.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    with _stack_size:
        default = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(default)


def each_in_parallel(
    items: Sequence[Item], work: Callable[[Item], Result], limit: int
) -> list[Result]:
    """Apply a function to each item, some at once.

    A failure is raised at once. What is in work then goes on, so the caller should end it.

    Args:
        items: the items.
        work: the function; after it has raised, no further item is started.
        limit: most items in work at once, in as many threads.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: the first that `work` raised.
        RuntimeError: no thread could be started; it is enough that one can.
    """
    results: dict[int, Result] = {}
    failures: list[Exception] = []
    pending = iter(enumerate(items))
    lock = threading.Lock()
    ended: SimpleQueue[None] = SimpleQueue()

    def worker() -> None:
        while not failures:
            with lock:
                number, item = next(pending, (None, None))
            if number is None or item is None:
                break
            try:
                results[number] = work(item)
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
        ended.put(None)

    started = 0
    try:
        for _ in range(min(limit, len(items))):
            start_thread(worker, threading.current_thread().name)
            started += 1
    except RuntimeError:
        if not started:
            raise
    for _ in range(started):
        ended.get()
        if failures:
            raise failures[0]
    return [results[number] for number in range(len(items))]
