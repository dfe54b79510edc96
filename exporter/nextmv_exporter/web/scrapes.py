"""Run scrapes in threads, so that they do not block the event loop."""

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.logs import CLIENTS, get_logger
from threading import Thread

MAX_SCRAPES = 256
"""Maximum number of concurrent scrapes."""

SAME_MOMENT = 0.25
"""Seconds by which the deadlines of scrapes that share a response may differ."""

Result = TypeVar("Result")

log = get_logger(CLIENTS)


class TooManyScrapesError(Exception):
    """Too many scrapes are waiting, or the system starts no more threads."""


@dataclass(frozen=True)
class _Running:
    deadline: Deadline
    result: "asyncio.Future[Any]"


class ScrapeThreads:
    """Runner of scrapes in threads, of which up to `MAX_SCRAPES` may wait at a time."""

    def __init__(self) -> None:
        self._waiting = 0
        self._running: dict[Hashable, _Running] = {}

    async def run(self, key: Hashable, deadline: Deadline, scrape: Callable[[], Result]) -> Result:
        """Run a scrape in a thread and wait for it, or for the same scrape that is in progress.

        Args:
            key: what is asked for; scrapes with the same key return the same.
            deadline: when the result is needed. A scrape in progress is shared if its deadline is
                the same, or earlier by at most `SAME_MOMENT`.
            scrape: the function; keeps the deadline.

        Returns:
            Its result.

        Raises:
            TooManyScrapesError: too many are waiting already.
        """
        if self._waiting >= MAX_SCRAPES:
            raise _rejected("too many scrapes are waiting")
        running = self._running.get(key)
        if running is None or not 0 <= deadline.at - running.deadline.at <= SAME_MOMENT:
            running = self._start(key, deadline, scrape)
        self._waiting += 1
        try:
            result: Result = await asyncio.shield(running.result)
        finally:
            self._waiting -= 1
        return result

    def _start(self, key: Hashable, deadline: Deadline, scrape: Callable[[], Any]) -> _Running:
        loop = asyncio.get_running_loop()
        started = _Running(deadline, loop.create_future())

        def finish(result: object, error: Exception | None) -> None:
            if self._running.get(key) is started:
                del self._running[key]
            if error:
                started.result.set_exception(error)
            else:
                started.result.set_result(result)

        def run() -> None:
            result = error = None
            try:
                result = scrape()
            except Exception as caught:  # noqa: BLE001 - raised again where it is waited for
                error = caught
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(finish, result, error)

        try:
            Thread(target=run, name="scrape", daemon=True).start()
        except RuntimeError as error:
            raise _rejected(str(error)) from None
        self._running[key] = started
        return started


def _rejected(why: str) -> TooManyScrapesError:
    log.warning("Rejecting scrapes", err=why)
    return TooManyScrapesError(why)
