"""Where an account's runs are read from: the queue endpoint, or each application's list."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faults.fault_server import (
    Conversation,
    FaultServer,
    answer,
    answers,
    queue,
    stalls_in_the_body,
)
from hypothesis import given
from hypothesis import strategies as st
from support.fake_api import KEY, RUN, AccountData, FakeAPI, TokenBucket
from support.logs import capture_logs

from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.client import Deadline
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    Reason,
    ResponseTooLargeError,
    StatusError,
)
from nextmv_exporter.scrape.sources import (
    ACCOUNT_QUEUE,
    APPLICATION_RUNS,
    APPLICATIONS_TTL,
    RETRY_QUEUE_AFTER,
    Fetched,
    SourceState,
    fetch_runs,
)

HOUR = 3600.0


def run(id_: str, status: str = "queued", hours: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A run that was created so long ago."""
    created = datetime.now(UTC) - timedelta(hours=hours)
    return {**RUN, "id": id_, "status_v2": status, "created_at": created.isoformat(), **fields}


def fetch(
    api: FakeAPI | FaultServer,
    state: SourceState | None = None,
    choice: str = APPLICATION_RUNS,
    seconds: float = 60.0,
    key: str = KEY,
    **options: Any,
) -> Fetched:
    client = Client(key, api.url)
    state = SourceState() if state is None else state
    return fetch_runs(client, state, Deadline(seconds), choice=choice, account="a", **options)


def ids(fetched: Fetched) -> list[str]:
    return sorted(run.id or "?" for run in fetched.runs)


# The lists of runs


@pytest.mark.parametrize("page_size", [1, 3, 50])
def test_both_sources_read_the_same_runs(api: FakeAPI, page_size: int) -> None:
    lists = {
        f"app-{number}": [
            run(f"{number}-{i}", s) for i, s in enumerate(["queued", "RUNNING"] * number)
        ]
        for number in range(12)
    }
    api.account = AccountData(dict(lists), queue=200, page_size=page_size)
    seen: set[str] = set()
    of_lists = fetch(api, on_exchange=lambda exchange: seen.add(exchange.path))
    of_queue = fetch(api, choice=ACCOUNT_QUEUE)
    assert sorted(map(repr, of_lists.runs)) == sorted(map(repr, of_queue.runs))
    assert len(of_queue.runs) == 132
    assert of_queue.ended is None
    assert seen == {"v1/applications", "v1/applications/{id}/runs"}


def test_ended_runs_are_named_but_not_in_the_queue(api: FakeAPI) -> None:
    statuses = ["queued", "running", "succeeded", "failed", "canceled", "paused", None]
    runs = [run(str(status), status) for status in statuses]  # type: ignore[arg-type]
    api.account = AccountData({"a": [*runs, {"status_v2": "queued"}, {"status_v2": "failed"}]})
    fetched = fetch(api)
    assert ids(fetched) == ["?", "queued", "running"]
    assert fetched.ended == {hash(each) for each in map(str, statuses[2:])}


@pytest.mark.parametrize("choice", [APPLICATION_RUNS, "auto"])
def test_paging_stops_at_the_lookback_only_where_newest_first_is_seen(
    api: FakeAPI, choice: str
) -> None:
    newest_first = [run(f"run-{i:03}", hours=i) for i in range(300)]
    api.account = AccountData({"a": newest_first})
    assert len(fetch(api, choice=choice, lookback=24 * HOUR).runs) == 50
    assert len(fetch(api, lookback=60 * HOUR).runs) == 100
    swapped = [newest_first[1], newest_first[0], *newest_first[2:]]
    same = [run(f"run-{i}", hours=30, created_at=RUN["created_at"]) for i in range(300)]
    for order in (newest_first[::-1], swapped, same):
        api.account.applications["a"] = order
        assert len(fetch(api, choice=choice, lookback=HOUR).runs) == 300


@given(
    st.lists(st.integers(0, 100), max_size=30),
    st.integers(1, 7),
    st.integers(0, 100),
    st.sampled_from([sorted, lambda ages: sorted(ages, reverse=True), list]),
)
def test_no_run_within_the_lookback_is_ever_missed(
    ages: list[int], page_size: int, lookback: int, order: Callable[[list[int]], list[int]]
) -> None:
    runs = [run(f"{i}-{age}", hours=age) for i, age in enumerate(order(ages))]
    with FakeAPI() as api:
        api.account = AccountData({"a": runs}, page_size=page_size)
        found = set(ids(fetch(api, lookback=(lookback + 0.5) * HOUR)))
    if order is list and len(set(ages)) > 1 and ages != sorted(ages):
        return  # of a random order, the first pages can be newest first by chance
    assert {each["id"] for each in runs if int(each["id"].split("-")[1]) <= lookback} <= found


def test_a_run_on_two_pages_counts_once_as_it_was_last_seen() -> None:
    pages = [
        {"runs": [run("new"), run("starts"), run("ends")], "next_page_token": "2"},
        {"runs": [run("starts", "running"), run("ends", "failed"), run("old")]},
    ]
    with FaultServer(answers(*apps("a"), *map(page, pages))) as server:
        fetched = fetch(server)
    assert ids(fetched) == ["new", "old", "starts"]
    assert [each.status_v2 for each in fetched.runs if each.id == "starts"] == ["running"]
    assert fetched.ended == {hash("ends")}


def page(content: object) -> bytes:
    return answer(json.dumps(content).encode())


def apps(*names: str) -> list[bytes]:
    return [page({"items": [{"id": name} for name in names]})]


@pytest.mark.parametrize("key", ["items", "runs"])
@pytest.mark.parametrize("loop", [True, False])
def test_pages_without_end_are_bounded(key: str, *, loop: bool) -> None:
    def endless(conversation: Conversation) -> None:
        while head := conversation.hear():
            if key == "runs" and b"/runs" not in head:
                conversation.say(*apps("a"))
                continue
            token = "again" if loop else str(len(conversation.server.requests))
            conversation.say(page({key: [{"id": token}], "next_page_token": token}))

    with FaultServer(endless) as server:
        with pytest.raises(InvalidResponseError, match="pages do not end"):
            fetch(server, seconds=300)
        assert len(server.requests) <= 1100


def test_all_pages_together_may_hold_as_much_as_one_response(api: FakeAPI) -> None:
    api.account = AccountData(
        {"a": [run(f"{i}", name="x" * 1000) for i in range(100)]}, page_size=5
    )
    client = Client(KEY, api.url, max_response_bytes=20_000)
    with pytest.raises(ResponseTooLargeError, match="larger than 20000 bytes"):
        fetch_runs(client, SourceState(), Deadline(60), choice=APPLICATION_RUNS)
    assert len(api.requests) < 10


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a?b#c", "é 🚀", "a%2Fb", "v1.2"])
def test_an_applications_id_stands_for_no_other_path(api: FakeAPI, name: str) -> None:
    api.account = AccountData({name: [run("x")]})
    assert ids(fetch(api)) == ["x"]
    api.account.applications[name] = 403
    with pytest.raises(StatusError, match="application ") as caught:
        fetch(api)
    assert "v1/applications/{id}/runs: the API responded 403" in str(caught.value)


# Deleted applications


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("choice", [APPLICATION_RUNS, "auto"])
def test_an_application_whose_runs_are_gone_is_left_out_as_deleted(
    api: FakeAPI, status: int, choice: str
) -> None:
    state = SourceState()
    api.account = AccountData({"a": [run("a")], "b": [run("b")], "c": status})
    first = fetch(api, state, choice)
    assert ids(first) == ["a", "b"]
    api.account.applications["b"] = status
    second = fetch(api, state, choice)
    assert ids(second) == ["a"]
    assert first.scope != second.scope
    assert fetch(api, state, choice).scope == second.scope
    assert api.paths().count("/v1/applications/c/runs") == 1, "not asked for until listed anew"


def test_only_a_fresh_list_can_say_that_nothing_is_left(api: FakeAPI) -> None:
    api.account, state = AccountData({}), SourceState()
    assert fetch(api, state).runs == []
    api.account.applications = {"a": [run("a")]}
    assert ids(fetch(api, state)) == ["a"], "a first application is found at once"
    api.account.applications = {"b": [run("b")]}
    assert ids(fetch(api, state)) == ["b"], "where all are gone, the list is read anew"
    api.account.applications = {}
    assert fetch(api, state).runs == []
    api.account.applications = {"a": 404, "b": 410}
    for _ in range(2):
        with pytest.raises(StatusError, match=r"runs: the API responded 4"):
            fetch(api, state)
    api.account.lists = 404
    with pytest.raises(StatusError, match="v1/applications: the API responded 404"):
        fetch(api, state)


def test_applications_are_listed_anew_after_a_few_minutes(api: FakeAPI) -> None:
    api.account, state = AccountData({"a": []}), SourceState()
    before = fetch(api, state)
    api.account.applications["b"] = [run("b")]
    assert fetch(api, state).scope == before.scope
    state.listed -= APPLICATIONS_TTL
    after = fetch(api, state)
    assert ids(after) == ["b"]
    assert after.scope != before.scope
    api.account.lists = 500
    state.listed -= APPLICATIONS_TTL
    with pytest.raises(StatusError):
        fetch(api, state)
    api.account.lists = 200
    assert fetch(api, state).scope == after.scope


def test_another_key_starts_with_a_state_and_a_scope_of_its_own(api: FakeAPI) -> None:
    api.account, state = AccountData({"a": []}, queue=200), SourceState()
    for choice in (APPLICATION_RUNS, ACCOUNT_QUEUE):
        first = fetch(api, state, choice)
        assert fetch(api, state, choice).scope == first.scope
        other = fetch(api, state, choice, key="another")
        assert other.scope != first.scope
        assert state.credentials == Credentials("another", api.url)
    assert fetch(api, state, ACCOUNT_QUEUE).scope != fetch(api, state).scope
    assert api.paths().count("/v1/applications") == 3


# Limits and failures


@pytest.mark.system
@pytest.mark.parametrize(
    ("count", "rate", "latency", "retry_after"),
    [(40, 3, 0, False), (40, 3, 0, True), (40, 3, 0.2, False), (200, 30, 0.2, False)],
)
def test_turns_are_waited_for_as_the_limit_allows(
    api: FakeAPI, *, count: int, rate: float, latency: float, retry_after: bool
) -> None:
    bucket = TokenBucket(30, rate, retry_after=retry_after)
    lists = {f"app-{number}": [run(f"{number}")] for number in range(count)}
    api.account = AccountData(lists, bucket=bucket, latency=latency)
    start = time.monotonic()
    assert len(fetch(api, seconds=60).runs) == count
    assert time.monotonic() - start > 3
    assert len(api.requests) < 2 * count, "few are refused"


def test_a_limit_that_does_not_fit_into_the_time_left_is_reported_as_such(api: FakeAPI) -> None:
    lists: dict[str, Any] = {f"app-{number}": [] for number in range(40)}
    for retry_after, seconds in ((True, 600.0), (False, 4.0)):
        bucket = TokenBucket(30, 0.001, retry_after=retry_after)
        api.account = AccountData(lists, bucket=bucket)
        with pytest.raises(StatusError) as caught:
            fetch(api, seconds=seconds)
        assert caught.value.reason is Reason.RATE_LIMITED
        assert (caught.value.retry_after is not None) == retry_after


def test_the_queue_endpoint_is_asked_once_whatever_it_answers(api: FakeAPI) -> None:
    for status in (401, 429, 500):
        api.account = AccountData({"a": []}, queue=status)
        for choice in ("auto", ACCOUNT_QUEUE):
            api.requests.clear()
            with pytest.raises(StatusError) as caught:
                fetch(api, choice=choice)
            assert caught.value.status == status
            assert len(api.requests) == 1


def test_a_broken_application_is_told_at_once_though_its_neighbours_hang() -> None:
    def behave(conversation: Conversation) -> None:
        while head := conversation.hear():
            if b"/applications?" in head:
                conversation.say(*apps("a", "b", "c"))
            elif b"/b/" in head:
                time.sleep(0.3)
                conversation.say(answer(b"", "403 Forbidden"))
            else:
                conversation.wait_for_close()

    with FaultServer(behave) as server:
        start = time.monotonic()
        with pytest.raises(StatusError, match=r"403 Forbidden \(application 'b'\)"):
            fetch(server, seconds=15)
        assert time.monotonic() - start < 10


def test_it_ends_by_the_deadline_however_many_applications_there_are() -> None:
    def slow(conversation: Conversation) -> None:
        while head := conversation.hear():
            time.sleep(0.2)
            conversation.say(
                *(apps(*map(str, range(500))) if b"/applications?" in head else [queue()])
            )

    with FaultServer(slow) as server:
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            fetch(server, seconds=1.5)
        assert time.monotonic() - start < 8
        assert server.accepted <= 8, "no more at once"


# Auto


def test_auto_reads_the_queue_while_it_can_and_the_lists_while_it_is_gone(api: FakeAPI) -> None:
    api.account, state = AccountData({"a": [run("a")]}, queue=200), SourceState()
    with capture_logs() as logged:
        assert fetch(api, state, "auto").ended is None
        assert (api.paths(), state.source("auto")) == (["/v1/account/queue"], ACCOUNT_QUEUE)
        for status in (404, 410):
            api.account.queue = status
            gone = fetch(api, state, "auto")
            assert (ids(gone), gone.ended) == (["a"], set())
            assert state.source("auto") == APPLICATION_RUNS
            api.requests.clear()
            assert fetch(api, state, "auto").scope == gone.scope
            assert "/v1/account/queue" not in api.paths(), "tried again only after an hour"
            assert state.retry_queue
            state.retry_queue -= RETRY_QUEUE_AFTER
            assert fetch(api, state, "auto").scope == gone.scope
            assert api.paths().count("/v1/account/queue") == 1
            state.retry_queue -= RETRY_QUEUE_AFTER
            api.account.queue = 200
            assert fetch(api, state, "auto").ended is None
            assert state.source("auto") == ACCOUNT_QUEUE
    events = [line["event"] for line in logged]
    assert len(events) == 4
    assert "gone" in events[0]
    assert "back" in events[1]


@pytest.mark.parametrize(
    "again", [answer(b"", "500 No"), answer(b"", "429 No"), answer(b"{}"), answer(b"x" * 999), None]
)
def test_the_hourly_try_costs_nothing_where_the_endpoint_fails_otherwise(
    again: bytes | None,
) -> None:
    def behave(conversation: Conversation) -> None:
        while head := conversation.hear():
            if b"/queue" in head and again:
                conversation.say(again)
            elif b"/queue" in head:
                stalls_in_the_body(conversation)
            else:
                listed = apps("a")[0] if b"/applications?" in head else queue(run("a"))
                conversation.say(listed)

    with FaultServer(behave) as server:
        state = SourceState(Credentials(KEY, server.url), retry_queue=0.0)
        client = Client(KEY, server.url, max_response_bytes=900)
        for _ in range(2):
            fetched = fetch_runs(client, state, Deadline(9.0))
            assert ids(fetched) == ["a"]
        assert sum(b"/queue" in request for request in server.requests) <= 2
        assert state.source("auto") == APPLICATION_RUNS


def test_the_queue_is_tried_at_once_when_the_lists_fail(api: FakeAPI) -> None:
    api.account, state = AccountData({"a": [run("a")]}), SourceState()
    fetch(api, state, "auto")
    api.account.applications["a"], api.account.queue = 500, 200
    with pytest.raises(StatusError):
        fetch(api, state, "auto")
    assert fetch(api, state, "auto").ended is None


def test_a_wrong_base_url_does_not_look_like_an_empty_queue(api: FakeAPI) -> None:
    api.answers(404)
    for choice, message in {
        "auto": "v1/account/queue: .* 404 .*; v1/applications: .* 404 .*: the endpoint is not",
        ACCOUNT_QUEUE: "v1/account/queue: the API responded 404",
        APPLICATION_RUNS: "v1/applications: the API responded 404",
    }.items():
        state = SourceState()
        with pytest.raises(StatusError, match=message) as caught:
            fetch(api, state, choice)
        assert caught.value.reason is Reason.CLIENT_ERROR
        assert state.source("auto") == ACCOUNT_QUEUE


def test_a_key_that_may_not_list_applications_is_reported_as_such(api: FakeAPI) -> None:
    api.account = AccountData({}, lists=403)
    with pytest.raises(StatusError, match="v1/applications: the API responded 403") as caught:
        fetch(api, choice="auto")
    assert caught.value.reason is Reason.AUTH
