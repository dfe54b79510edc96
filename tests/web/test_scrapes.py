"""The number of scrapes that wait at once is bounded, and what is beyond it is rejected."""

import asyncio
import threading
from collections.abc import Callable

import pytest
import requests
from faults.running_exporter import exporter_here
from support.fake_api import FakeAPI
from support.logs import capture_logs

from nextmv_exporter.scrape import threads
from nextmv_exporter.web import scrapes
from nextmv_exporter.web.scrapes import ScrapeThreads, TooManyScrapesError


def test_a_scrape_runs_in_a_thread_and_its_result_or_error_is_returned() -> None:
    async def scenario() -> None:
        running = ScrapeThreads()
        assert await running.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await running.run(lambda: 1 / 0)

    asyncio.run(scenario())


def test_scrapes_beyond_the_limit_are_rejected_and_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scrapes, "MAX_SCRAPES", 3)
    release = threading.Event()

    async def scenario() -> None:
        running = ScrapeThreads()
        waiting = [asyncio.create_task(running.run(lambda: release.wait(10))) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(5):
            with pytest.raises(TooManyScrapesError):
                await running.run(lambda: None)
        release.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await running.run(lambda: "again") == "again"

    with capture_logs() as lines:
        asyncio.run(scenario())
    assert [(line["event"], line["count"]) for line in lines] == [("Rejecting scrapes", 1)]


def test_a_system_without_threads_is_one_reason_to_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_work: Callable[[], None], _name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.WORKERS, "run", refuse)

    async def scenario() -> None:
        running = ScrapeThreads()
        for _ in range(3):
            with pytest.raises(TooManyScrapesError, match="can't start new thread"):
                await running.run(lambda: None)

    asyncio.run(scenario())


def test_a_rejected_scrape_gets_503_and_a_time_to_try_again(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exporter_here(api.url) as address:
        assert requests.get(f"http://{address}/metrics", timeout=10).status_code == 200
        monkeypatch.setattr(scrapes, "MAX_SCRAPES", 0)
        rejected = requests.get(f"http://{address}/metrics", timeout=10)
        healthy = requests.get(f"http://{address}/-/healthy", timeout=10)
    assert rejected.status_code == 503
    assert rejected.headers["Retry-After"] == "1"
    assert healthy.status_code == 200
