"""Durations come from the monotonic clock: the wall clock may jump."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from support.fake_api import RUN

from faults.fault_server import FaultServer, after, answer, answers, queue
from faults.running_exporter import exporter_here, scrape

HOUR = 3600.0


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead: Callable[[], float]) -> None:
    """Set the exporter's wall clock wrong, and leave its monotonic one alone."""
    clock = SimpleNamespace(time=lambda: time.time() + ahead(), monotonic=time.monotonic)
    for module in ("target", "sources"):
        monkeypatch.setattr(f"nextmv_exporter.scrape.{module}.time", clock)


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
def test_a_clock_set_between_scrapes_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    run = {**RUN, "created_at": datetime.now(UTC).isoformat()}
    with (
        FaultServer(answers(queue(run), queue())) as server,
        exporter_here(server.url) as address,
    ):
        first = scrape(address, 10)
        set_clock(monkeypatch, lambda: ahead)
        drained = scrape(address, 10)
        server.behave = answers(queue(run))
        server.close_connections()
        again = scrape(address, 10)

    age = "nextmv_account_queue_oldest_queued_run_age_seconds"
    assert first.up
    assert drained.up
    assert drained.value("nextmv_account_queue_length") == 0, "the drained group is remembered"
    assert 0 <= drained.value("nextmv_scrape_duration_seconds") < 10
    assert again.value(age) == pytest.approx(max(0, ahead), abs=60)
    assert again.value("nextmv_account_queue_wait_seconds_gsum") >= 0


def test_a_clock_set_back_during_a_scrape_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    with (
        FaultServer(after(0.5, queue(RUN))) as server,
        exporter_here(server.url) as address,
    ):
        set_clock(monkeypatch, lambda: -HOUR * (time.monotonic() - started))
        answered = scrape(address, 10)

    assert answered.up
    assert 0.4 < answered.value("nextmv_scrape_duration_seconds") < 10


def test_a_clock_set_back_neither_prolongs_nor_ends_a_back_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = answer(b"", "429 Slow Down", Retry_After="2")
    with (
        FaultServer(answers(refusal, queue())) as server,
        exporter_here(server.url) as address,
    ):
        began = time.monotonic()
        assert not scrape(address, 10).up
        set_clock(monkeypatch, lambda: -HOUR)
        assert not scrape(address, 10).up
        while not scrape(address, 10).up:
            assert time.monotonic() - began < 20
            time.sleep(0.1)

    assert time.monotonic() - began > 1.9


def test_the_landing_page_stands_a_clock_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    with FaultServer(answers(queue(RUN))) as server, exporter_here(server.url) as address:
        set_clock(monkeypatch, lambda: -50 * 365 * 24 * HOUR)
        assert scrape(address, 10).up
        assert requests.get(f"http://{address}/", timeout=10).status_code == 200
