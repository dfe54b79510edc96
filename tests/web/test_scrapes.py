"""The number of scrapes that wait at once is bounded, and what is beyond it is rejected."""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable

import pytest
import requests
from faults.running_exporter import exporter_here
from support.fake_api import FakeAPI
from support.logs import capture_logs

from nextmv_exporter import logs
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.scrape import threads
from nextmv_exporter.web import scrapes
from nextmv_exporter.web.scrapes import ScrapeThreads, TooManyScrapesError


def test_a_scrape_runs_in_a_thread_and_its_result_or_error_is_returned() -> None:
    async def scenario() -> None:
        running = ScrapeThreads()
        name = await running.run("a", Deadline(9), lambda: threading.current_thread().name)
        assert name == "scrape"
        with pytest.raises(ZeroDivisionError):
            await running.run("a", Deadline(9), lambda: 1 / 0)
        assert await running.run("a", Deadline(9), lambda: "again") == "again"

    asyncio.run(scenario())


def test_the_same_scrapes_at_the_same_moment_share_one_result_or_error() -> None:
    numbers = itertools.count()
    release = threading.Event()

    def scrape() -> int:
        release.wait(10)
        return next(numbers)

    def fail() -> None:
        release.wait(10)
        raise ZeroDivisionError

    async def scenario() -> list[object]:
        running = ScrapeThreads()
        first, later, earlier, much_later = map(Deadline, (10, 10.1, 9, 11))
        asked = [
            running.run("a", first, scrape),
            running.run("a", later, scrape),
            running.run("b", first, scrape),
            running.run("c", first, fail),
            running.run("c", later, fail),
            running.run("a", earlier, scrape),
            running.run("a", much_later, scrape),
        ]
        waiting = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    a, also_a, b, c, also_c, earlier, later = asyncio.run(scenario())
    assert a == also_a
    assert len({a, b, earlier, later}) == 4
    assert isinstance(c, ZeroDivisionError)
    assert c is also_c


def test_scrapes_beyond_the_limit_are_rejected_and_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scrapes, "MAX_SCRAPES", 3)
    release = threading.Event()

    async def scenario() -> None:
        running = ScrapeThreads()
        waiting = [
            asyncio.create_task(running.run("a", Deadline(9), lambda: release.wait(10)))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        for _ in range(5):
            with pytest.raises(TooManyScrapesError):
                await running.run("a", Deadline(9), lambda: None)
        release.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await running.run("a", Deadline(9), lambda: "again") == "again"

    with capture_logs() as lines:
        logging.getLogger(logs.CLIENTS).addFilter(logs._RepeatFilter())
        asyncio.run(scenario())
    assert [(line["event"], line["err"]) for line in lines] == [
        ("Rejecting scrapes", "too many scrapes are waiting")
    ]


def test_a_system_without_threads_is_one_reason_to_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_work: Callable[[], None], _name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.WORKERS, "run", refuse)

    async def scenario() -> None:
        running = ScrapeThreads()
        for _ in range(3):
            with pytest.raises(TooManyScrapesError, match="can't start new thread"):
                await running.run("a", Deadline(9), lambda: None)

    asyncio.run(scenario())


def test_a_rejected_scrape_gets_503_and_a_time_to_try_again(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exporter_here(api.url) as address:
        assert requests.get(f"http://{address}/metrics", timeout=10).status_code == 200
        monkeypatch.setattr(scrapes, "MAX_SCRAPES", 0)
        rejected = requests.get(f"http://{address}/metrics", timeout=10)
        healthy = requests.get(f"http://{address}/-/healthy", timeout=10)
    assert (rejected.status_code, rejected.text) == (503, "Too many scrapes are waiting\n")
    assert rejected.headers["Retry-After"] == "1"
    assert healthy.status_code == 200
