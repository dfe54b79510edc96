"""Work on several things at once, in threads that never hold up the program's end."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_in_parallel(
    items: Sequence[Item], work: Callable[[Item], Result], limit: int
) -> list[Result]:
    """Apply a function to each item, some at once; the standard pool's threads are no daemons.

    A failure is raised at once. What is in work then goes on, so the caller should end it.

    Args:
        items: the items.
        work: the function; after it has raised, no further item is begun.
        limit: most items in work at once.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: the first that `work` raised.
    """
    results: dict[int, Result] = {}
    failures: list[Exception] = []
    pending = iter(enumerate(items))
    lock = threading.Lock()
    idle: SimpleQueue[None] = SimpleQueue()

    def labour() -> None:
        while not failures:
            with lock:
                number, item = next(pending, (None, None))
            if number is None or item is None:
                break
            try:
                results[number] = work(item)
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
        idle.put(None)

    threads = [
        threading.Thread(target=labour, name=threading.current_thread().name, daemon=True)
        for _ in range(min(limit, len(items)))
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        idle.get()
        if failures:
            raise failures[0]
    return [results[number] for number in range(len(items))]
