"""`auto`: the queue endpoint for as long as there is one, then each application's runs."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from support.exporter import exporter_here
from support.harness import SteppedClock, Watched, profile, prometheus, write_yaml
from support.logs import capture_logs
from support.metrics import samples
from support.waiting import until

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.errors import Reason, StatusError
from nextmv_exporter.scrape import sources
from nextmv_exporter.scrape.sources import (
    AccountQueue,
    ApplicationRuns,
    Auto,
    Requests,
    SourceState,
)

HOUR = 3600.0
QUEUE = "/v1/account/queue"
RUNS = 60


@dataclass
class Moving:
    """A source `auto` in front of an account whose endpoints come and go, and its clock."""

    client: Client
    demo: DemoAPI
    api: Watched
    clock: SteppedClock
    auto: Auto = field(
        default_factory=lambda: Auto(AccountQueue(QUEUE[1:]), ApplicationRuns(24 * HOUR))
    )
    state: SourceState = field(default_factory=SourceState)

    def fetch(self, seconds: float = 10) -> int:
        requests = Requests(self.client, Deadline(seconds), lambda *_: None, "a")
        return len(list(self.auto.fetch(requests, self.state)))

    def to_the_next_try(self) -> None:
        """Let the queue endpoint be gone for so long that the next fetch tries it again."""
        self.demo.queue_removed = 404
        self.fetch()
        self.clock.now += HOUR

    @property
    def name(self) -> str:
        return self.auto.name(self.state)


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moving]:
    clock = SteppedClock()
    monkeypatch.setattr(sources, "time", clock)
    demo = DemoAPI({DEMO_KEY: StandingAccount(RUNS, at=time.time())}, page_size=10)
    api = Watched(demo)
    with DemoServer(api) as server:
        yield Moving(Client(DEMO_KEY, server.url), demo, api, clock)


async def hang(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Respond nothing until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def refuse(api: Watched, path: str, status: int) -> None:
    api.answers[path] = JSONResponse({"error": "refused"}, status)


def test_it_reads_the_queue_in_one_request_while_it_can(moving: Moving) -> None:
    assert moving.fetch() == RUNS
    assert moving.api.paths == [QUEUE]
    assert moving.name == "account-queue"


@pytest.mark.parametrize("status", [404, 410])
def test_it_switches_within_the_scrape_that_finds_the_endpoint_gone(
    moving: Moving, status: int
) -> None:
    moving.fetch()
    moving.demo.queue_removed = status
    with capture_logs() as log:
        assert [moving.fetch() for _ in range(3)] == [RUNS] * 3
    assert moving.name == "application-runs"
    assert [(line["event"], line["account"], line["source"]) for line in log] == [
        (
            "Queue endpoint is gone, reading each application's runs instead",
            "a",
            moving.name,
        )
    ]
    assert str(status) in log[0]["err"]


def test_it_tries_the_endpoint_again_once_an_hour(moving: Moving) -> None:
    moving.demo.queue_removed = 404
    for _ in range(3):
        moving.fetch()
    assert moving.api.paths.count(QUEUE) == 1
    moving.clock.now += HOUR - 1
    moving.fetch()
    assert moving.api.paths.count(QUEUE) == 1
    moving.clock.now += 1
    with capture_logs() as log:
        assert moving.fetch() == moving.fetch() == RUNS
    assert moving.api.paths.count(QUEUE) == 2
    assert log == []


def test_it_goes_back_when_the_endpoint_is_there_again(moving: Moving) -> None:
    moving.demo.queue_removed = 410
    moving.fetch()
    moving.demo.queue_removed = None
    assert moving.fetch() == RUNS
    assert moving.name == "application-runs"
    moving.clock.now += HOUR
    with capture_logs() as log:
        assert moving.fetch() == moving.fetch() == RUNS
    assert moving.name == "account-queue"
    assert [(line["event"], line["account"], line["source"]) for line in log] == [
        ("Queue endpoint is back", "a", "account-queue")
    ]


@pytest.mark.parametrize("status", [401, 429, 500])
def test_the_hourly_try_costs_nothing_where_the_endpoint_fails_otherwise(
    moving: Moving, status: int
) -> None:
    moving.to_the_next_try()
    refuse(moving.api, QUEUE, status)
    assert moving.fetch() == RUNS
    assert moving.name == "application-runs"


@pytest.mark.parametrize("body", [{}, {"runs": None}, {"error": "maintenance"}, []], ids=str)
def test_it_does_not_go_back_for_a_response_that_is_not_a_queue(
    moving: Moving, body: object
) -> None:
    moving.to_the_next_try()
    moving.api.answers[QUEUE] = JSONResponse(body)
    assert moving.fetch() == moving.fetch() == RUNS
    assert moving.api.paths.count(QUEUE) == 2
    assert moving.name == "application-runs"


def test_it_sends_nothing_else_when_the_hourly_try_is_told_to_wait(moving: Moving) -> None:
    moving.to_the_next_try()
    moving.api.answers[QUEUE] = JSONResponse({}, 429, {"Retry-After": "30"})
    before = moving.api.count("applications")
    with pytest.raises(StatusError, match="429") as caught:
        moving.fetch()
    assert caught.value.retry_after == 30
    assert moving.api.count("applications") == before
    assert moving.fetch() == RUNS  # the next try is in an hour


def test_an_hourly_try_that_hangs_leaves_time_for_the_other_endpoints(moving: Moving) -> None:
    moving.to_the_next_try()
    moving.api.answers[QUEUE] = hang
    assert moving.fetch(seconds=6) == RUNS
    assert moving.name == "application-runs"


def test_a_retry_with_too_large_a_response_costs_the_other_endpoints_nothing(
    moving: Moving,
) -> None:
    moving.client.max_response_bytes = 100_000
    moving.to_the_next_try()
    moving.api.answers[QUEUE] = JSONResponse({"runs": ["x" * 100_000]})
    assert moving.fetch() == moving.fetch() == RUNS
    assert moving.api.paths.count(QUEUE) == 2


def test_a_retry_that_took_the_time_of_the_other_endpoints_is_not_repeated_at_once(
    moving: Moving,
) -> None:
    moving.to_the_next_try()
    moving.api.answers[QUEUE] = hang
    refuse(moving.api, "/v1/applications/production-planning/runs", 503)
    with pytest.raises(StatusError):
        moving.fetch(seconds=3)
    del moving.api.answers["/v1/applications/production-planning/runs"]
    assert moving.fetch(seconds=3) == RUNS
    assert moving.api.paths.count(QUEUE) == 2


@pytest.mark.parametrize("status", [403, 429, 503])
def test_the_queue_is_tried_again_at_once_when_the_other_endpoints_fail(
    moving: Moving, status: int
) -> None:
    moving.demo.queue_removed = 404
    moving.fetch()
    moving.demo.queue_removed = None
    refuse(moving.api, "/v1/applications/production-planning/runs", status)
    with pytest.raises(StatusError, match=rf"{status}.*\(application 'production-planning'\)"):
        moving.fetch()
    assert moving.fetch() == RUNS
    assert moving.name == "account-queue"


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_no_other_status_makes_it_switch(moving: Moving, status: int) -> None:
    refuse(moving.api, QUEUE, status)
    with pytest.raises(StatusError, match=f"account/queue.*{status}"):
        moving.fetch()
    assert moving.name == "account-queue"
    assert moving.api.count("applications") == 0


def test_a_wrong_endpoint_is_told_apart_and_named(moving: Moving) -> None:
    moving.client = Client(DEMO_KEY, moving.client._credentials().url + "/elsewhere")
    with capture_logs() as log, pytest.raises(StatusError) as e:
        moving.fetch()
    assert e.value.reason is Reason.CLIENT_ERROR
    assert re.fullmatch(
        "v1/account/queue: [^;]*404[^;]*; v1/applications: [^;]*404[^;]*"
        ": the endpoint is not Nextmv's API",
        str(e.value),
    )
    assert moving.name == "account-queue"
    assert log == []


def test_a_key_that_may_not_list_applications_is_reported_as_such(moving: Moving) -> None:
    moving.demo.queue_removed = 404
    refuse(moving.api, "/v1/applications", 401)
    with pytest.raises(StatusError, match=r"v1/applications.*401") as caught:
        moving.fetch()
    assert caught.value.reason is Reason.AUTH
    assert moving.name == "account-queue"
    del moving.api.answers["/v1/applications"]
    assert moving.fetch() == RUNS


def test_a_wrong_endpoint_shows_in_the_metrics_as_configuration(tmp_path: Path) -> None:
    demo = DemoAPI({DEMO_KEY: StandingAccount(RUNS, at=time.time())})
    with DemoServer(demo) as server:
        entry = profile(f"{server.url}/elsewhere", DEMO_KEY)
        file = write_yaml(tmp_path / "config.yaml", {"a": entry})
        arguments = ("--nextmv.profile", "a", "--nextmv.config-file", str(file))
        with exporter_here(*arguments) as exporter, capture_logs() as log:
            text = exporter.scrape()
    errors = samples(text, "nextmv_scrape_errors_total")
    assert errors[frozenset({"account": "a", "reason": "client_error"}.items())] == 1
    assert samples(text, "nextmv_up") == {frozenset({("account", "a")}): 0}
    assert [line["event"] for line in log] == ["Scrape failed"]
    assert "the endpoint is not Nextmv's API" in log[0]["err"]


def test_under_prometheus_the_series_go_on_when_the_endpoint_goes_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RETRY_QUEUE_AFTER", 2.0)
    demo = DemoAPI({DEMO_KEY: StandingAccount(RUNS, at=time.time())}, page_size=10)
    with DemoServer(demo) as server:
        file = write_yaml(tmp_path / "config.yaml", {"a": profile(server.url, DEMO_KEY)})
        arguments = ("--nextmv.profile", "a", "--nextmv.config-file", str(file))
        with exporter_here(*arguments) as exporter:
            job = {
                "job_name": "nextmv-exporter",
                "http_sd_configs": [{"url": f"{exporter.url}/sd"}],
            }
            with prometheus(tmp_path, job) as prom:

                def reads(source: str) -> bool:
                    return set(prom.by("source", "nextmv_source_info")) == {source}

                until(lambda: reads("account-queue"))
                length = "nextmv_account_queue_length"
                before = prom.query(length)
                demo.queue_removed = 410
                until(lambda: reads("application-runs"))
                assert prom.query(length) == before
                demo.queue_removed = None
                until(lambda: reads("account-queue"))
                assert prom.query(length) == before
                # No series of other labels, and none that paused, came up in between.
                assert len(prom.series(length)) == len(before)
                for up in ("up", "nextmv_up"):
                    failed = f"count_over_time({up}[5m]) - sum_over_time({up}[5m])"
                    assert max(prom.query(failed).values()) <= 1
