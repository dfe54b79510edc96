"""`application-runs`: the queue put together from each application's list of runs."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from math import ceil
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults.fault_server import FaultServer, answers, queue
from nextmv import StatusV2  # type: ignore[import-untyped]
from nextmv.cloud import Client as SDKClient  # type: ignore[import-untyped]
from nextmv.cloud import list_applications
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from support.exporter import exporter_here
from support.harness import SteppedClock, Watched, profile, write_yaml
from support.metrics import samples

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator, StandingAccount
from nextmv_exporter.demo.catalogue import APPLICATIONS
from nextmv_exporter.demo.simulator import Account
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.client import MAX_REQUESTS
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    Reason,
    StatusError,
)
from nextmv_exporter.scrape import sources
from nextmv_exporter.scrape.runs import FEW_RUNS, Application, Run
from nextmv_exporter.scrape.sources import ApplicationRuns, Requests, SourceState

DAY = 86_400.0
NOW = time.time()
STATUSES = [status.value for status in StatusV2]
NEW = replace(APPLICATIONS[-1], id="newly-made")


@contextmanager
def serving(account: Account, page_size: int = 100) -> Iterator[tuple[str, Watched]]:
    """The URL of an account at a moment that does not pass, and the requests made there."""
    api = Watched(DemoAPI({DEMO_KEY: account}, clock=lambda: NOW, page_size=page_size))
    with DemoServer(api) as server:
        yield server.url, api


class Source:
    """The source, and what its fetches remember."""

    def __init__(self, url: str, lookback: float = DAY) -> None:
        self.client = Client(DEMO_KEY, url)
        self.runs = ApplicationRuns(lookback)
        self.state = SourceState()


def ids(runs: list[Run], status: str) -> set[str]:
    found = [run.id for run in runs if run.status_v2 == status]
    assert len(set(found)) == len(found)
    return {each for each in found if each}


def fetch(source: Source, seconds: float = 10) -> list[Run]:
    deadline = Deadline(seconds)
    requests = Requests(source.client, deadline, lambda *_: None, "a")
    try:
        return list(source.runs.fetch(requests, source.state))
    finally:
        deadline.cancel()  # as a scrape does, to end what is left


@pytest.mark.parametrize("page_size", [1, 7, 100])
@pytest.mark.parametrize("status", [StatusV2.queued, StatusV2.running])
def test_it_agrees_with_nextmvs_own_sdk_across_page_boundaries(
    page_size: int, status: StatusV2
) -> None:
    account: Account = StandingAccount(40, at=NOW) if page_size == 1 else _lively()
    with serving(account, page_size) as (url, _):
        sdk = SDKClient(api_key=DEMO_KEY, url=url)
        expected = {
            run.id for app in list_applications(sdk) for run in app.list_runs(status=status)
        }
        assert ids(fetch(Source(url)), status.value) == expected
        assert len(expected) > 7


def _lively() -> Simulator:
    return Simulator(seed=1, start=NOW)


def test_both_sources_make_the_same_metrics_of_the_same_moment(tmp_path: Path) -> None:
    with serving(_lively(), page_size=7) as (url, _):
        file = write_yaml(tmp_path / "config.yaml", {"a": profile(url, DEMO_KEY)})
        texts = {}
        for name in ("account-queue", "application-runs"):
            arguments = ("--nextmv.profile", "a", "--nextmv.config-file", str(file))
            with exporter_here(*arguments, "--nextmv.source", name) as exporter:
                texts[name] = exporter.scrape()
    one, other = texts.values()
    for series in (
        "nextmv_account_queue_length",
        "nextmv_account_queue_oldest_queued_run_created_timestamp_seconds",
        "nextmv_account_queue_runs",
        "nextmv_account_queue_malformed_runs",
        "nextmv_account_queue_wait_seconds_gcount",
    ):
        assert samples(one, series) == samples(other, series)
        assert samples(one, series)


def test_its_cost_shows_as_requests_by_endpoint(tmp_path: Path) -> None:
    with serving(_lively(), page_size=7) as (url, api):
        file = write_yaml(tmp_path / "config.yaml", {"a": profile(url, DEMO_KEY)})
        arguments = ("--nextmv.profile", "a", "--nextmv.config-file", str(file))
        with exporter_here(*arguments, "--nextmv.source", "application-runs") as exporter:
            text = exporter.scrape()
    labels = {"account": "a", "code": "200"}
    assert samples(text, "nextmv_api_requests_total") == {
        frozenset((labels | {"endpoint": "v1/applications"}).items()): 1,
        frozenset((labels | {"endpoint": "v1/applications/{id}/runs"}).items()): api.count("/runs"),
    }
    assert api.count("/runs") > 2 * len(APPLICATIONS)


def test_it_reads_pages_until_their_runs_are_older_than_the_lookback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standing = SimpleNamespace(monotonic=time.monotonic, time=lambda: NOW)
    monkeypatch.setattr(sources, "time", standing)
    account, size, lookback = _lively(), 5, 1800.0
    with serving(account, size) as (url, api):
        runs = fetch(Source(url, lookback))
    spared = 0
    for application in APPLICATIONS:
        listed = account.runs(application.id)
        within = sum(run.created_at >= NOW - lookback for run in listed)
        # The page that ends with a run beyond the lookback is the last one read.
        pages = min(ceil(len(listed) / size), ceil((within + 1) / size))
        assert api.count(f"/{application.id}/runs") == max(1, pages)
        spared += ceil(len(listed) / size) - pages
    assert spared > 20
    queue = {run.id for run in account.queue() if run.created_at >= NOW - lookback}
    assert queue
    assert queue <= ids(runs, "queued") | ids(runs, "running")


def test_it_sends_but_a_few_requests_at_once() -> None:
    with serving(StandingAccount(400, at=NOW, applications=40)) as (url, api):
        api.delay = 0.03
        assert len(fetch(Source(url))) == 400
        assert 1 < api.most_at_once <= MAX_REQUESTS
        assert api.count("/runs") == 40


def test_it_ends_by_the_deadline_however_many_applications_there_are() -> None:
    with serving(StandingAccount(400, at=NOW, applications=200)) as (url, api):
        api.delay = 0.1
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            fetch(Source(url), seconds=0.7)
        assert time.monotonic() - start < 1.5
        assert len(api.paths) < 100


def test_a_broken_application_is_told_at_once_though_its_neighbours_are_slow() -> None:
    with serving(StandingAccount(40, at=NOW)) as (url, api):
        runs = Source(url)
        fetch(runs)
        broken, *slow = (f"/v1/applications/{app.id}/runs" for app in APPLICATIONS)
        api.answers[broken] = JSONResponse({"error": "no"}, 403)
        api.answers |= dict.fromkeys(slow, hanging)
        start = time.monotonic()
        with pytest.raises(StatusError, match="403") as caught:
            fetch(runs)
        assert caught.value.reason is Reason.AUTH
        assert time.monotonic() - start < 3


async def hanging(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.sleep(30)


def test_applications_are_listed_anew_after_a_few_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SteppedClock()
    monkeypatch.setattr(sources, "time", clock)
    account = StandingAccount(12, at=NOW, applications=3)
    with serving(account) as (url, api):
        runs = Source(url)
        found = len(fetch(runs))
        clock.now += sources.APPLICATIONS_TTL - 1
        account.applications = [*account.applications, NEW]
        account._runs[NEW.id] = account._runs[account.applications[0].id]
        assert len(fetch(runs)) == found
        assert api.paths.count("/v1/applications") == 1
        clock.now += 2
        fetch(runs)
        assert api.paths.count("/v1/applications") == 2
        assert api.count(f"/{NEW.id}/runs") == 1
    assert 60 <= sources.APPLICATIONS_TTL <= 600


def test_an_application_deleted_since_it_was_listed_is_left_out() -> None:
    account = StandingAccount(60, at=NOW)
    with serving(account) as (url, api):
        runs = Source(url)
        fetch(runs)
        deleted, *rest = account.applications
        account.applications = rest
        left = {run.id for run in account.queue() if run.application_id != deleted.id}
        for _ in range(2):
            now = fetch(runs)
            assert ids(now, "queued") | ids(now, "running") == left
        assert api.count(f"/{deleted.id}/runs") == 2
        assert api.paths.count("/v1/applications") == 2


def test_runs_of_an_application_that_took_the_place_of_a_deleted_one_are_read_at_once() -> None:
    account = StandingAccount(12, at=NOW, applications=1)
    with serving(account) as (url, api):
        runs = Source(url)
        before = fetch(runs)
        account._runs[NEW.id] = account._runs[account.applications[0].id]
        account.applications = [NEW]
        assert fetch(runs) == before
        assert api.count(f"/{NEW.id}/runs") == 1
        api.answers[f"/v1/applications/{NEW.id}/runs"] = JSONResponse({}, 404)
        with pytest.raises(StatusError, match="404"):
            fetch(runs)


def test_runs_of_an_application_that_earlier_fetches_did_not_read_are_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SteppedClock()
    monkeypatch.setattr(sources, "time", clock)
    with serving(StandingAccount(1, at=NOW)) as (url, api):
        source, unseen = Source(url), []
        for applications in ("", "a", "ab", "ab"):
            items = [{"id": name} for name in applications]
            api.answers["/v1/applications"] = JSONResponse({"items": items})
            for name in applications:
                listed = [{"id": f"{name} {each}", "status_v2": each} for each in STATUSES]
                api.answers[f"/v1/applications/{name}/runs"] = JSONResponse({"runs": listed})
            requests = Requests(source.client, Deadline(10), lambda *_: None, "a")
            source.runs.fetch(requests, source.state)
            unseen.append(requests.unseen)
            clock.now += sources.APPLICATIONS_TTL
    runs = [{hash(f"{name} {each}") for each in ("queued", "running")} for name in "ab"]
    assert unseen == [set(), *runs, set()]


def test_runs_refused_of_an_application_that_is_still_listed_are_no_empty_queue() -> None:
    with serving(StandingAccount(60, at=NOW)) as (url, api):
        for application in APPLICATIONS:
            path = f"/v1/applications/{application.id}/runs"
            api.answers[path] = JSONResponse({"error": "not found"}, 404)
        with pytest.raises(StatusError, match=r"v1/applications/\{id\}/runs.*404.*\(application '"):
            fetch(Source(url))


@pytest.mark.parametrize("nothing", [{"items": None}, {"items": []}, {}, {"next_page_token": ""}])
def test_an_account_without_applications_has_an_empty_queue(nothing: dict[str, object]) -> None:
    with serving(StandingAccount(5, at=NOW)) as (url, api):
        api.answers["/v1/applications"] = JSONResponse(nothing)
        assert fetch(Source(url)) == []


def test_an_account_may_have_so_many_applications_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(StandingAccount(60, at=NOW, applications=3)) as (url, _):
        monkeypatch.setattr(sources, "MAX_APPLICATIONS", 3)
        assert fetch(Source(url))
        monkeypatch.setattr(sources, "MAX_APPLICATIONS", 2)
        with pytest.raises(InvalidResponseError, match=r"^v1/applications: more than 2$"):
            fetch(Source(url))


@pytest.mark.parametrize("nothing", [{"runs": None}, {"runs": []}, {}, {"next_page_token": None}])
def test_an_application_without_runs_adds_nothing(nothing: dict[str, object]) -> None:
    account = StandingAccount(60, at=NOW)
    empty = account.applications[0].id
    with serving(account) as (url, api):
        api.answers[f"/v1/applications/{empty}/runs"] = JSONResponse(nothing)
        found = fetch(Source(url))
    assert len(found) == sum(run.application_id != empty for run in account.queue())


def test_an_applications_id_is_quoted_in_the_path() -> None:
    account = StandingAccount(3, at=NOW, applications=1)
    odd = replace(account.applications[0], id="a b?c#d%é")
    account._runs = {odd.id: account._runs[account.applications[0].id]}
    account.applications = [odd]
    with serving(account) as (url, api):
        assert len(fetch(Source(url))) == 3
        assert api.count("/v1/applications/a b?c#d%é/runs") == 1


def test_an_error_names_the_application_by_the_start_of_its_id() -> None:
    account = StandingAccount(3, at=NOW, applications=1)
    account.applications = [replace(account.applications[0], id="x" * 150)]
    with serving(account) as (url, api):
        api.answers[f"/v1/applications/{'x' * 150}/runs"] = JSONResponse({}, 403)
        with pytest.raises(StatusError, match=rf"403.* \(application '{'x' * 100}'\)$"):
            fetch(Source(url))


def test_the_runs_of_a_fetch_may_be_as_many_as_its_bytes_can_hold() -> None:
    requests = Requests(Client(DEMO_KEY, "http://127.0.0.1:1"), Deadline(1), print, "a")
    requests.keep(FEW_RUNS, "v1")
    with pytest.raises(InvalidResponseError, match=r"^v1: 10001 runs in 0 bytes: too many"):
        requests.keep(1, "v1")


@pytest.mark.parametrize(
    ("application_id", "quoted"), [(".", "%2E"), ("..", "%2E%2E"), ("a/b", "a%2Fb")]
)
def test_an_id_of_dots_or_slashes_stands_for_no_other_path(
    application_id: str, quoted: str
) -> None:
    account = StandingAccount(3, at=NOW, applications=1)
    odd = replace(account.applications[0], id=application_id)
    account.applications = [odd]
    with FaultServer(answers(queue())) as server:
        source = Source(server.url)
        source.state.applications = [Application(application_id)]
        source.state.listed = time.monotonic()
        fetch(source)
        [request] = server.requests
    assert f"GET /v1/applications/{quoted}/runs?".encode() in request


def test_a_run_that_is_pushed_onto_the_next_page_meanwhile_counts_once() -> None:
    account = StandingAccount(30, at=NOW, applications=1)
    application = account.applications[0].id
    queue = [run.id for run in reversed(account.runs(application))]
    pages = iter([(queue[:10], "2"), (queue[9:20], "3"), (queue[19:], "")])

    async def shifting(scope: Scope, receive: Receive, send: Send) -> None:
        listed, token = next(pages)
        runs = [{"id": each, "status_v2": "queued"} for each in listed]
        # Runs without an ID can't be told from each other: each counts.
        runs += [{"status_v2": "queued"}] * 2
        await JSONResponse({"runs": runs, "next_page_token": token})(scope, receive, send)

    with serving(account) as (url, api):
        api.answers[f"/v1/applications/{application}/runs"] = shifting
        found = fetch(Source(url))
    assert len(found) == 30 + 3 * 2
    assert ids([run for run in found if run.id], "queued") == set(queue)


def test_an_application_that_is_pushed_onto_the_next_page_meanwhile_counts_once() -> None:
    account = StandingAccount(30, at=NOW, applications=3)
    one, two, three = (application.id for application in account.applications)
    pages = iter([([one, two], "2"), ([two, three], "")])

    async def shifting(scope: Scope, receive: Receive, send: Send) -> None:
        listed, token = next(pages)
        items = [{"id": each} for each in listed]
        await JSONResponse({"items": items, "next_page_token": token})(scope, receive, send)

    with serving(account) as (url, api):
        api.answers["/v1/applications"] = shifting
        found = fetch(Source(url))
        assert api.count(f"/{two}/runs") == 1
    assert len(found) == 30


@pytest.mark.parametrize(
    "listing", ["/v1/applications", f"/v1/applications/{APPLICATIONS[0].id}/runs"]
)
def test_a_pagination_loop_is_an_invalid_response(listing: str) -> None:
    with serving(StandingAccount(60, at=NOW)) as (url, api):
        api.answers[listing] = JSONResponse({"next_page_token": "again"})
        with pytest.raises(InvalidResponseError) as caught:
            fetch(Source(url))
        where = "" if listing.endswith("applications") else f" (application {APPLICATIONS[0].id!r})"
        endpoint = caught.value.args[0].partition(":")[0]
        assert str(caught.value) == f"{endpoint}: pagination loop: repeated token{where}"
        assert endpoint in ("v1/applications", "v1/applications/{id}/runs")
        assert api.paths.count(listing) == 2


def test_pages_without_end_are_left_at_the_deadline() -> None:
    tokens = count()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        answer = JSONResponse({"runs": [], "next_page_token": str(next(tokens))})
        await answer(scope, receive, send)

    with serving(StandingAccount(6, at=NOW, applications=1)) as (url, api):
        api.answers[f"/v1/applications/{APPLICATIONS[0].id}/runs"] = endless
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            fetch(Source(url), seconds=0.5)
        assert time.monotonic() - start < 1.5
