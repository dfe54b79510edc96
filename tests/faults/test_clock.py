"""Durations come from the monotonic clock: the wall clock may jump."""

import time
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import value
from support.waiting import until

from nextmv_exporter import Account, Client, QueueCollector

REAL = time.time
CLASS = {"execution_class": RUN["execution_class"]}


@pytest.fixture
def registry(api: FakeAPI) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(QueueCollector({"a": Account(Client(KEY, api.url))}))
    return registry


@pytest.mark.parametrize("ahead", [-3600, 3600, -50 * 365 * 86400])
def test_a_clock_that_is_set_between_scrapes_does_no_harm(
    ahead: float, api: FakeAPI, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {**RUN, "created_at": datetime.now(UTC).isoformat()}
    api.serves(run)
    assert value(generate_latest(registry).decode(), "nextmv_up") == 1
    monkeypatch.setattr(time, "time", lambda: REAL() + ahead)
    api.serves({**run, "status_v2": "running"})
    for _ in range(2):
        text = generate_latest(registry).decode()
        drained = value(text, "nextmv_account_queue_length", status_v2="queued")
        assert drained == 0, "the drained group is remembered"
        assert value(text, "nextmv_account_queue_runs_started_total") == 1
        assert value(text, "nextmv_account_queue_start_wait_seconds_count") == 0
        last = value(text, "nextmv_account_queue_last_start_timestamp_seconds", **CLASS)
        assert last == pytest.approx(REAL() + ahead, abs=60)
        age = value(text, "nextmv_account_queue_oldest_running_run_age_seconds")
        assert age == pytest.approx(max(0, ahead), abs=60)
        assert value(text, "nextmv_api_clock_offset_seconds") == pytest.approx(0, abs=2)
        assert 0 <= value(text, "nextmv_scrape_duration_seconds") < 60


def test_a_clock_that_is_set_neither_prolongs_nor_ends_a_back_off(
    api: FakeAPI, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers(429, b"", Retry_After="2")
    began = time.monotonic()
    generate_latest(registry)
    api.serves(RUN)
    for ahead in (-3600, 3600):
        monkeypatch.setattr(time, "time", lambda: REAL() + ahead)  # noqa: B023
        assert value(generate_latest(registry).decode(), "nextmv_up") == 0
    until(lambda: value(generate_latest(registry).decode(), "nextmv_up"), what="the end of it")
    assert time.monotonic() - began > 1.9
