"""The library: Account, Queue and QueuedRun, as code written for Nextmv's SDK uses them."""

import copy
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from faults.fault_server import FaultServer, drips_the_headers
from hypothesis import given
from hypothesis import strategies as st
from nextmv.cloud import Client as SDKClient  # type: ignore[import-untyped]
from nextmv.cloud.account import Queue as SDKQueue  # type: ignore[import-untyped]
from nextmv.cloud.account import QueuedRun as SDKRun
from nextmv.status import StatusV2 as SDKStatus  # type: ignore[import-untyped]
from support.fake_api import KEY, RUN, AccountData, FakeAPI

from nextmv_exporter import nextmv
from nextmv_exporter.nextmv import Account, Client, Queue, QueuedRun, StatusV2
from nextmv_exporter.nextmv.client import Deadline
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    NextmvError,
    StatusError,
)
from nextmv_exporter.scrape.runs import created_timestamp, parse_queue
from nextmv_exporter.scrape.sources import SourceState, fetch_runs

WEST = timezone(-timedelta(hours=14))
KNOWN = {name: text for name, text in RUN.items() if name != "status"}


@pytest.fixture
def account(api: FakeAPI) -> Account:
    return Account(client=Client(api_key=KEY, url=api.url))


# Models


def test_code_for_the_sdk_finds_the_same() -> None:
    for status in SDKStatus:
        assert StatusV2[status.name].value == status.value
        assert StatusV2[status.name.upper()] is StatusV2[status.name]
    assert [status.name for status in StatusV2] == [status.name for status in SDKStatus]
    ours, theirs = QueuedRun.from_dict(dict(RUN)), SDKRun.from_dict(dict(RUN))
    assert set(QueuedRun.model_fields) == set(SDKRun.model_fields)
    assert ours.model_dump(mode="json") == theirs.model_dump(mode="json") == KNOWN
    assert ours.to_dict() == theirs.to_dict()
    assert ours.status_v2 == theirs.status_v2
    for model in (Queue, QueuedRun):
        assert model.from_dict(None) is None
        assert model.from_dict() is None
    assert SDKRun.from_dict(None) is None
    queue = Queue.from_dict({"runs": [dict(RUN)]})
    assert queue.to_dict() == SDKQueue.from_dict({"runs": [dict(RUN)]}).to_dict()
    assert copy.deepcopy(queue) == queue == Queue.from_dict(queue.to_dict())


@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {}, "", "\ud83d"], ids=repr)
def test_a_mistyped_field_is_none_and_spoils_no_other(value: object) -> None:
    assert len(QueuedRun.model_fields) == 10
    for field in QueuedRun.model_fields:
        read = QueuedRun.from_dict({**RUN, field: value})
        known = {name: text for name, text in read.to_dict().items() if name != field}
        assert known == {name: text for name, text in KNOWN.items() if name != field}
        assert getattr(read, field) in (None, "", "?")
        assert read.created_at is None or field != "created_at"
        assert QueuedRun.from_dict(read.to_dict()) == read


def test_a_status_is_known_in_any_case_and_an_unknown_one_stays_the_text_it_is() -> None:
    for status in ("queued", "QUEUED", "Queued"):
        assert QueuedRun.from_dict({"status_v2": status}).status_v2 is StatusV2.queued
    assert QueuedRun.from_dict({"status_v2": "Paused"}).to_dict() == {"status_v2": "Paused"}


@pytest.mark.parametrize(
    ("created_at", "moment"),
    [
        ("2026-11-23T10:00:00", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23t10:00:00z", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23T10:00:00+02:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T10:00:00.123456789Z", datetime(2026, 11, 23, 10, 0, 0, 123457, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2000-01-01T00:00:00+00:01", None),
        ("1999-12-31T23:59:59.999999Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=WEST)),
        ("2026-02-30T00:00:00Z", None),
        ("2026-11-25", None),
        ("20261125T090000Z", None),
        ("yesterday", None),
        ("1700000000", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_time_is_read_as_for_the_metrics(created_at: str, moment: datetime | None) -> None:
    assert QueuedRun.from_dict({"created_at": created_at}).created_at == moment
    [run] = parse_queue(json.dumps({"runs": [{"created_at": created_at}]}).encode())
    assert created_timestamp(run.created_at) == (moment and moment.timestamp())


def test_the_library_names_what_it_offers() -> None:
    for name in nextmv.__all__:
        assert getattr(nextmv, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        nextmv.Nothing  # noqa: B018 - asked for in vain


# Over HTTP


def test_the_queue_is_fetched_and_a_bad_run_does_not_spoil_it(
    api: FakeAPI, account: Account
) -> None:
    assert account.queue() == Queue(runs=[])
    api.serves(RUN, None, {"id": 7, "name": 8, "created_at": "never"}, {**RUN, "id": "run-2"})
    first, *bad, last = account.queue().runs
    assert first.to_dict() == KNOWN
    assert bad == [QueuedRun(), QueuedRun()]
    assert last.id == "run-2"
    Account(account.client, endpoint="v2/account").queue()
    assert api.paths()[-1] == "/v2/account/queue"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_status_that_is_no_success_is_an_http_error(
    api: FakeAPI, account: Account, status: int
) -> None:
    api.answers(status, f"no, {KEY} is   not\nwelcome".encode())
    with pytest.raises(requests.HTTPError, match="<redacted> is not welcome") as caught:
        account.queue()
    assert isinstance(caught.value, StatusError)
    assert caught.value.status == status
    assert KEY not in str(caught.value)


def test_the_sdk_reads_the_same_queue(api: FakeAPI, account: Account) -> None:
    api.serves(RUN, {**RUN, "id": "run-2", "status_v2": "running"})
    answer = SDKClient(api_key=KEY, url=api.url).request(method="GET", endpoint="v1/account/queue")
    # The SDK's Account.queue() is broken; this is what it would do.
    theirs = SDKQueue.from_dict(answer.json())
    assert account.queue().to_dict() == theirs.to_dict()


def test_without_the_queues_endpoint_it_is_assembled_from_the_applications(
    api: FakeAPI, account: Account
) -> None:
    now = datetime.now(UTC).isoformat()
    runs = [{**RUN, "id": f"run-{i}", "created_at": now, "status_v2": s} for i, s in
            enumerate(["queued", "RUNNING", "succeeded"])]  # fmt: skip
    api.account = AccountData({"routing": runs, "deleted": 404})
    found = account.queue().runs
    assert [run.id for run in found] == ["run-0", "run-1"]
    assert found[0].user_email == RUN["user_email"]
    account.client.timeout = 0.0
    with pytest.raises(DeadlineExceededError):
        account.queue()


def test_reading_ends_in_time_also_if_the_head_of_the_response_drips_in() -> None:
    with FaultServer(drips_the_headers) as server:
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            Account(Client(KEY, server.url, timeout=1.0)).queue()
        assert time.monotonic() - start < 10  # where the server goes on for a minute


# The exporter and the library give one verdict on one body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = {name: st.just(text) | JSON for name, text in RUN.items()}
QUEUES = st.fixed_dictionaries(
    {"runs": st.lists(st.fixed_dictionaries({}, optional=FIELDS) | JSON)},
    optional={"next_page_token": JSON, "x": JSON},
)


def spoilt(body: bytes, at: int, by: bytes) -> bytes:
    at %= len(body) + 1
    return body[:at] + by + body[at + 1 :]


BODIES = (QUEUES | JSON).map(lambda value: json.dumps(value).encode())


@given(BODIES | st.builds(spoilt, BODIES, st.integers(0), st.binary(max_size=2)))
def test_the_exporter_and_the_library_agree_on_every_body(body: bytes) -> None:
    verdicts: list[Any] = []
    with FakeAPI() as api:
        api.answers(200, body)
        client = Client(KEY, api.url)
        for read in (
            lambda: fetch_runs(client, SourceState(), Deadline(60), choice="account-queue").runs,
            lambda: Account(client).queue().runs,
        ):
            try:
                verdicts.append([(run.id, run.application_id) for run in read()])
            except NextmvError as error:
                verdicts.append(str(error))
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + b'{"runs": []}',
        '{"runs": []}'.encode("utf-16"),
        b'{"runs": [{"name": NaN}]}',
        b'{"runs": [{"name": "\\ud83d"}]}',
        b'{"runs": [], "next_page_token": 7}',
        b'{"runs": null}',
        b'{"runs": {}}',
        b"[" * 100_000,
        b'{"runs": [' + b"{}," * 100_000 + b"{}]}",
        b"{}",
        b"",
    ],
    ids=["BOM", "UTF-16", "NaN", "surrogate", "token", "null", "object", "nest", "tiny", "{}", ""],
)
def test_what_is_no_queue_is_an_invalid_response_in_both(body: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        parse_queue(body)
    with FakeAPI() as api:
        api.answers(200, body)
        with pytest.raises(InvalidResponseError, match="v1/account/queue: "):
            Account(Client(KEY, api.url)).queue()
