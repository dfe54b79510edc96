"""Run scrapes in threads, so that they do not block the event loop."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from nextmv_exporter.logs import get_logger
from nextmv_exporter.scrape.threads import WORKERS

MAX_SCRAPES = 256
"""Maximum number of concurrent scrapes."""

LOG_INTERVAL = 60.0
"""Seconds between two log lines about rejected scrapes."""

Result = TypeVar("Result")

log = get_logger()


class TooManyScrapesError(Exception):
    """Too many scrapes are running, or the system starts no more threads."""


class ScrapeThreads:
    """Runner of scrapes, each in a thread, up to `MAX_SCRAPES` at a time."""

    def __init__(self) -> None:
        self._running = 0
        self._rejected = 0
        self._logged = float("-inf")

    async def run(self, scrape: Callable[[], Result]) -> Result:
        """Run a scrape in a thread and wait for it.

        Args:
            scrape: the function.

        Returns:
            Its result.

        Raises:
            TooManyScrapesError: too many are running already.
        """
        if self._running >= MAX_SCRAPES:
            raise self._reject("too many scrapes are waiting")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def finish(result: Result | None, error: Exception | None) -> None:
            self._running -= 1
            if done.cancelled():
                return
            if error:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result = error = None
            try:
                result = scrape()
            except Exception as caught:  # noqa: BLE001 - raised again where it is waited for
                error = caught
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(finish, result, error)

        try:
            WORKERS.run(run, "scrape")
        except RuntimeError as error:
            raise self._reject(str(error)) from None
        self._running += 1
        return await done

    def _reject(self, why: str) -> TooManyScrapesError:
        self._rejected += 1
        now = time.monotonic()
        if now - self._logged >= LOG_INTERVAL:
            log.warning("Rejecting scrapes", err=why, count=self._rejected)
            self._logged, self._rejected = now, 0
        return TooManyScrapesError(why)
