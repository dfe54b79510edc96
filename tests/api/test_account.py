"""The library: Account, Queue and QueuedRun, over a real HTTP server."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from nextmv import StatusV2 as SDKStatus  # type: ignore[import-untyped]
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from support.fake_api import KEY, RUN, FakeAPI
from support.harness import Watched

from nextmv_exporter import nextmv
from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount
from nextmv_exporter.nextmv import Account, Client, Queue, QueuedRun, StatusV2
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    Reason,
    ResponseTooLargeError,
    StatusError,
)
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import created_timestamp

TEXTS = [name for name in QueuedRun.model_fields if name not in ("created_at", "status_v2")]


@pytest.fixture
def account(api: FakeAPI) -> Account:
    return Account(client=Client(api_key=KEY, url=api.url))


# Models


def test_a_run_goes_to_a_dict_and_back() -> None:
    run = QueuedRun.from_dict(dict(RUN))
    assert run.to_dict() == RUN
    assert QueuedRun.from_dict(run.to_dict()) == run


def test_a_queue_goes_to_a_dict_and_back() -> None:
    queue = Queue.from_dict({"runs": [dict(RUN), {"id": "run-2"}]})
    assert queue.to_dict() == {"runs": [RUN, {"id": "run-2"}]}
    assert Queue.from_dict(queue.to_dict()) == queue


def test_a_dict_is_of_json_values_without_the_fields_that_are_none() -> None:
    run = QueuedRun(
        id="run-1", status_v2=StatusV2.QUEUED, created_at=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert json.loads(json.dumps(run.to_dict())) == {
        "id": "run-1",
        "status_v2": "queued",
        "created_at": "2026-01-02T00:00:00Z",
    }


def test_every_field_of_the_api_is_read() -> None:
    run = QueuedRun.from_dict(dict(RUN))
    assert set(QueuedRun.model_fields) == set(RUN)
    for name in TEXTS:
        assert getattr(run, name) == RUN[name]
    assert run.created_at == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert run.status_v2 is StatusV2.QUEUED


def test_unknown_keys_are_passed_over() -> None:
    assert QueuedRun.from_dict({"id": "run-1", "queuing_priority": 6}) == QueuedRun(id="run-1")


@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {}], ids=repr)
@pytest.mark.parametrize("field", QueuedRun.model_fields)
def test_a_mistyped_field_is_none_and_spoils_no_other(field: str, value: object) -> None:
    run = QueuedRun.from_dict({**RUN, field: value})
    assert getattr(run, field) is None
    assert run.to_dict() == {name: text for name, text in RUN.items() if name != field}


@pytest.mark.parametrize("status", ["queued", "QUEUED", "Queued"])
def test_a_status_is_known_in_any_case(status: str) -> None:
    assert QueuedRun.from_dict({"status_v2": status}).status_v2 is StatusV2.QUEUED


def test_the_statuses_are_those_of_nextmvs_own_sdk() -> None:
    assert {status.value for status in StatusV2} == {status.value for status in SDKStatus}


def test_an_unknown_status_stays_the_text_it_is() -> None:
    run = QueuedRun.from_dict({"status_v2": "Paused"})
    assert run.status_v2 == "Paused"
    assert run.to_dict() == {"status_v2": "Paused"}


def test_a_time_without_an_offset_is_utc() -> None:
    run = QueuedRun.from_dict({"created_at": "2026-11-23T10:00:00"})
    assert run.created_at == datetime(2026, 11, 23, 10, tzinfo=UTC)


def test_a_time_can_be_written_in_lower_case() -> None:
    run = QueuedRun.from_dict({"created_at": "2026-11-23t10:00:00z"})
    assert run.created_at == datetime(2026, 11, 23, 10, tzinfo=UTC)


def test_a_time_keeps_its_offset() -> None:
    run = QueuedRun.from_dict({"created_at": "2026-11-23T10:00:00+02:00"})
    assert run.created_at == datetime(2026, 11, 23, 10, tzinfo=timezone(timedelta(hours=2)))


def test_nanoseconds_are_accepted() -> None:
    run = QueuedRun.from_dict({"created_at": "2026-11-23T10:00:00.123456789Z"})
    assert run.created_at == datetime(2026, 11, 23, 10, 0, 0, 123457, tzinfo=UTC)


@pytest.mark.parametrize(
    "created_at",
    ["2026-11-25", "20261125T090000Z", "2026-11-25T09:00Z", "2026-11-25T09:00:00,5Z",
     "2026-11-25t09:00:00.5z", "2026-11-25 09:00:00+01:00", "2026-11-25T09:00:00+01",
     "1999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999999Z", "2026-11-25T09:00:00.1"],
)  # fmt: skip
def test_a_time_is_read_as_for_the_metrics(created_at: str) -> None:
    [run] = parse_queue(json.dumps({"runs": [{"created_at": created_at}]}).encode())
    timestamp = created_timestamp(run.created_at)
    moment = QueuedRun.from_dict({"created_at": created_at}).created_at
    assert timestamp == (moment.timestamp() if moment else None)


@pytest.mark.parametrize(
    "created_at",
    ["", "yesterday", "1700000000", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z",
     "1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00+00:01"],
)  # fmt: skip
def test_a_time_that_is_none_is_none(created_at: str) -> None:
    assert QueuedRun.from_dict({"created_at": created_at}).created_at is None


def test_the_first_moment_of_2000_is_a_time() -> None:
    assert QueuedRun.from_dict({"created_at": "2000-01-01T00:00:00Z"}).created_at is not None


@pytest.mark.parametrize("entry", [None, 7, "run", [], True], ids=repr)
def test_an_entry_that_is_no_object_is_an_empty_run(entry: object) -> None:
    assert Queue.from_dict({"runs": [entry, dict(RUN)]}).runs == [
        QueuedRun(),
        QueuedRun.from_dict(dict(RUN)),
    ]


@given(
    st.dictionaries(
        st.sampled_from(sorted(RUN)) | st.text(),
        st.none() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_any_object_is_a_run_and_comes_back_the_same(entry: dict[str, Any]) -> None:
    run = QueuedRun.from_dict(entry)
    assert QueuedRun.from_dict(run.to_dict()) == run


def test_the_library_names_what_it_offers() -> None:
    for name in nextmv.__all__:
        assert getattr(nextmv, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        nextmv.Nothing  # noqa: B018 - asked for in vain


# Over HTTP


def test_the_queue_is_fetched_with_the_key(api: FakeAPI, account: Account) -> None:
    api.serves(RUN, {**RUN, "id": "run-2"})
    assert [run.id for run in account.queue().runs] == ["run-1", "run-2"]
    [request] = api.requests
    assert request.path == "/v1/account/queue"
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_an_empty_queue_has_no_runs(account: Account) -> None:
    assert account.queue() == Queue(runs=[])


def test_the_accounts_path_can_be_another(api: FakeAPI) -> None:
    Account(Client(api_key=KEY, url=api.url), endpoint="v2/account").queue()
    assert api.requests[0].path == "/v2/account/queue"


def test_a_bad_run_does_not_spoil_the_queue(api: FakeAPI, account: Account) -> None:
    api.serves(RUN, None, {"id": 7, "created_at": "never"})
    first, *others = account.queue().runs
    assert first.to_dict() == RUN
    assert others == [QueuedRun(), QueuedRun()]


@pytest.mark.parametrize(
    "odd",
    [
        '{"name": "\\ud800", "status_v2": "\\udc00", "created_at": "\\ud800"}',
        '{"name": NaN}',
        f'{{"priority": {"9" * 5000}}}',
        f'{{"tags": {"[" * 300}{"]" * 300}}}',
    ],
    ids=["surrogates", "NaN", "digits", "nesting"],
)
def test_what_only_some_parsers_take_for_json_does_not_spoil_the_queue(
    api: FakeAPI, account: Account, odd: str
) -> None:
    api.answers(200, f'{{"runs": [{odd}, {json.dumps(RUN)}]}}'.encode())
    first, second = account.queue().runs
    assert second.to_dict() == RUN
    assert json.dumps(first.to_dict()).isascii()
    assert first.created_at is None
    "".join(filter(None, [first.name, first.status_v2])).encode()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_status_that_is_no_success_is_an_http_error(
    api: FakeAPI, account: Account, status: int
) -> None:
    api.answers(status, f"no, {KEY} is   not\nwelcome {'x' * 10_000}".encode())
    with pytest.raises(requests.HTTPError) as caught:
        account.queue()
    error = caught.value
    assert isinstance(error, StatusError)
    assert error.status == status
    assert error.response is not None
    assert error.response.status_code == status
    assert str(status) in str(error)
    assert "<redacted> is not welcome" in str(error)
    assert len(str(error)) < 400


def test_an_http_error_holds_the_key_nowhere(api: FakeAPI, account: Account) -> None:
    api.answers(401, f"unauthorized: Bearer {KEY}".encode())
    with pytest.raises(requests.HTTPError) as caught:
        account.queue()
    error = caught.value
    assert isinstance(error, StatusError)
    assert error.reason is Reason.AUTH
    assert KEY not in str(error)
    assert KEY not in repr(error)
    assert error.request is not None
    assert KEY not in str(error.request.headers)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"runs": {}}', b"\xff", b"[" * 100_000], ids=range(6)
)
def test_what_is_no_queue_is_an_invalid_response(
    api: FakeAPI, account: Account, body: bytes
) -> None:
    api.answers(200, body)
    with pytest.raises(InvalidResponseError, match="v1/account/queue: ") as caught:
        account.queue()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", [b"{}", b'{"runs": null}'])
def test_an_answer_without_a_list_of_runs_is_not_taken_for_an_empty_queue(
    api: FakeAPI, account: Account, body: bytes
) -> None:
    api.answers(200, body)
    with pytest.raises(InvalidResponseError):
        account.queue()


# Without the queue's endpoint


async def hang(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Respond nothing until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def removed() -> Iterator[tuple[Watched, DemoAPI, Account]]:
    """An account of 60 runs whose queue endpoint was removed, with pages of ten runs."""
    demo = DemoAPI({DEMO_KEY: StandingAccount(60, at=time.time())}, page_size=10)
    demo.queue_removed = 410
    api = Watched(demo)
    with DemoServer(api) as server:
        yield api, demo, Account(Client(DEMO_KEY, server.url))


@pytest.mark.parametrize("status", [404, 410])
def test_the_queue_is_assembled_from_the_applications_where_its_endpoint_is_gone(
    removed: tuple[Watched, DemoAPI, Account], status: int
) -> None:
    _, demo, account = removed
    demo.queue_removed = status
    assembled = {run.id: run for run in account.queue().runs}
    demo.queue_removed = None
    assert assembled == {run.id: run for run in account.queue().runs}
    assert len(assembled) == 60


def test_runs_on_two_pages_count_once_and_those_of_more_than_a_day_ago_are_not_looked_for(
    removed: tuple[Watched, DemoAPI, Account],
) -> None:
    api, _, account = removed
    now = datetime.now(UTC)
    pages: Iterator[list[float]] = iter([[1, 23], [23, 24.5], [25]])

    async def runs(scope: Scope, receive: Receive, send: Send) -> None:
        listed = [
            {"id": f"{h} h", "status_v2": "QUEUED", "created_at": str(now - timedelta(hours=h))}
            for h in next(pages)
        ]
        listed += [{"id": "ended", "status_v2": "succeeded"}, {"status_v2": "running"}]
        body = {"runs": [*listed[2:], *listed[:2]], "next_page_token": f"after {listed[0]}"}
        await JSONResponse(body)(scope, receive, send)

    api.answers["/v1/applications"] = JSONResponse({"items": [{"id": "a"}]})
    api.answers["/v1/applications/a/runs"] = runs
    found = [run.id for run in account.queue().runs]
    assert sorted(filter(None, found)) == ["1 h", "23 h", "24.5 h"]
    assert found.count(None) == 2


def test_all_pages_together_may_hold_as_much_as_one_response(
    removed: tuple[Watched, DemoAPI, Account],
) -> None:
    api, _, account = removed
    pages = 0

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal pages
        pages += 1
        body = {"runs": [{"id": "x" * 1000}], "next_page_token": f"after page {pages}"}
        await JSONResponse(body)(scope, receive, send)

    api.answers["/v1/applications"] = JSONResponse({"items": [{"id": "a"}]})
    api.answers["/v1/applications/a/runs"] = page
    account.client.max_response_bytes = 10_000
    with pytest.raises(ResponseTooLargeError, match="is larger than 10000 bytes"):
        account.queue()
    assert pages <= 10


def test_a_wrong_endpoint_is_reported_as_such(api: FakeAPI, account: Account) -> None:
    api.answers(404)
    with pytest.raises(StatusError, match="v1/account/queue: the API responded 404"):
        account.queue()
    paths = [request.path.partition("?")[0] for request in api.requests]
    assert paths == ["/v1/account/queue", "/v1/applications"]


@pytest.mark.parametrize("status", [404, 410])
def test_an_application_that_was_deleted_meanwhile_is_left_out(status: int) -> None:
    demo = DemoAPI({DEMO_KEY: StandingAccount(60, at=time.time())})
    api = Watched(demo)
    demo.queue_removed = 404
    with DemoServer(api) as server:
        account = Account(Client(DEMO_KEY, server.url))
        queued = account.queue().runs
        deleted = queued[0].application_id
        api.answers[f"/v1/applications/{deleted}/runs"] = JSONResponse({}, status)
        assert account.queue().runs == [r for r in queued if r.application_id != deleted]


def test_the_first_failure_is_reported_at_once_though_other_requests_hang() -> None:
    demo = DemoAPI({DEMO_KEY: StandingAccount(60, at=time.time())})
    api = Watched(demo)
    demo.queue_removed = 404
    first, *_, last = (application.id for application in StandingAccount(1, at=0).applications)
    with DemoServer(api) as server:
        api.answers[f"/v1/applications/{first}/runs"] = hang
        api.answers[f"/v1/applications/{last}/runs"] = JSONResponse({}, 401)
        start = time.monotonic()
        with pytest.raises(StatusError, match="401"):
            Account(Client(DEMO_KEY, server.url)).queue()
        assert time.monotonic() - start < 5


def test_the_timeout_is_that_of_all_requests_together() -> None:
    demo = DemoAPI({DEMO_KEY: StandingAccount(5, at=time.time())})
    api = Watched(demo)
    demo.queue_removed = 404
    api.delay = 0.7
    with DemoServer(api) as server:
        account = Account(Client(DEMO_KEY, server.url, timeout=1.0))
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            account.queue()
        assert time.monotonic() - start < 1.4


@pytest.mark.parametrize("path", ["/v1/applications", "/v1/applications/delivery-routing/runs"])
def test_applications_that_can_not_be_read_are_reported_as_such(
    removed: tuple[Watched, DemoAPI, Account], path: str
) -> None:
    api, _, account = removed
    api.answers[path] = JSONResponse({}, 403)
    with pytest.raises(StatusError, match=f"{path[1:]}: the API responded 403"):
        account.queue()
