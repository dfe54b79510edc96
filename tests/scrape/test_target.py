"""What the scrapes of one account share and remember, over real HTTP."""

import gc
import json
import re
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from support.clock import Clock, stopped_clock
from support.fake_api import KEY, RUN, FakeAPI
from support.logs import capture_logs
from support.waiting import until

from nextmv_exporter.nextmv.client import Client, Deadline
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.outcome import LOG_INTERVAL
from nextmv_exporter.scrape.summary import Group
from nextmv_exporter.scrape.target import (
    MAX_BACKOFF,
    MAX_FETCHES,
    Outcome,
    Scrape,
    ScrapeOptions,
    Target,
)

GROUP = Group("queued", RUN["execution_class"], RUN["application_id"])


class Account:
    """An account that is scraped."""

    def __init__(self, client: Client, **options: Any) -> None:
        self.target = Target("default", client, ScrapeOptions(**options))

    def scrape(self, seconds: float = 60) -> Outcome:
        deadline = Deadline(seconds)
        return self.target.result(self.target.start(deadline), deadline).outcome

    def reason(self, seconds: float = 60) -> Reason | None:
        """Scrape, and return why it failed."""
        failure = self.scrape(seconds).failure
        return failure.reason if failure else None

    @property
    def last(self) -> Scrape:
        assert self.target.last
        return self.target.last

    def errors(self) -> dict[str, int]:
        return {str(reason): n for reason, n in self.last.counters.errors.items() if n}

    def started(self) -> int:
        return sum(self.last.counters.started.values())

    @contextmanager
    def scraping(self, number: int = 1, seconds: float = 60) -> "Iterator[list[Future[Outcome]]]":
        """Scrapes that wait in threads of their own."""
        with ThreadPoolExecutor(number) as pool:
            yield [pool.submit(self.scrape, seconds) for _ in range(number)]


def fetches() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("fetch ")]


@pytest.fixture
def account(api: FakeAPI) -> Account:
    api.serves(RUN)
    return Account(Client(KEY, api.url))


@pytest.fixture
def clock() -> Iterator[Clock]:
    with stopped_clock() as stopped:
        yield stopped


@contextmanager
def held(api: FakeAPI) -> Iterator[threading.Event]:
    """Hold the API's answer back until the event is set, or the block ends."""
    released = api.answer.held_until = threading.Event()
    try:
        yield released
    finally:
        released.set()


def test_nothing_is_fetched_before_the_first_scrape_and_each_one_asks_anew(
    account: Account, api: FakeAPI
) -> None:
    assert account.target.last is None
    assert not api.requests
    for number in (1, 2, 0):
        api.serves(*[RUN] * number)
        outcome = account.scrape()
        assert outcome.summary
        assert outcome.summary.length == {GROUP: number}
        assert account.last.outcome is outcome
    assert len(api.requests) == 3
    until(lambda: not fetches(), what="the end of the threads")


def test_scrapes_at_the_same_time_share_a_request_and_keep_their_own_deadlines(
    account: Account, api: FakeAPI
) -> None:
    with held(api) as released, account.scraping(3) as early:
        until(lambda: api.requests)
        assert fetches() == ["fetch default"]
        with account.scraping(2) as late:
            assert account.reason(0.1) is Reason.TIMEOUT
            assert not any(scrape.done() for scrape in early + late)
            released.set()
    outcomes = {id(scrape.result()) for scrape in early + late}
    assert len(outcomes) == len(api.requests) == 1
    assert early[0].result().summary
    assert account.errors() == {"timeout": 1}


def test_a_scrape_with_a_later_deadline_extends_the_request_that_it_shares(
    account: Account, api: FakeAPI
) -> None:
    with held(api) as released, account.scraping(1, 0.5) as [hasty]:
        until(lambda: api.requests)
        with account.scraping() as [patient]:
            assert hasty.result().failure
            time.sleep(0.5)
            released.set()
    assert patient.result().summary
    assert len(api.requests) == 1


@pytest.mark.parametrize(("timeout", "seconds"), [(0.2, 60), (2, 0.2), (2, 0)])
def test_a_scrape_ends_in_time_and_is_one_failure(
    timeout: float, seconds: float, api: FakeAPI
) -> None:
    account = Account(Client(KEY, api.url), timeout=timeout)
    with held(api), capture_logs() as lines:
        start = time.monotonic()
        assert account.reason(seconds) is Reason.TIMEOUT
        assert time.monotonic() - start < 30
        until(lambda: not fetches(), what="the end of the request")
    assert account.errors() == {"timeout": 1}
    assert [line["reason"] for line in lines] == ["timeout"]
    assert account.scrape().summary


def test_a_failure_that_scrapes_share_is_counted_and_logged_once(
    account: Account, api: FakeAPI
) -> None:
    api.answers(500, b"oops")
    with capture_logs() as lines, held(api) as released, account.scraping(3) as scrapes:
        until(lambda: api.requests)
        until(lambda: all(scrape.running() for scrape in scrapes))
        released.set()
        assert not any(scrape.result().summary for scrape in scrapes)
    assert account.errors() == {"server_error": len(api.requests)}
    assert [line["account"] for line in lines] == ["default"]
    assert KEY not in str(lines)


def test_fetches_that_hang_whatever_the_deadline_do_not_accumulate() -> None:
    released = threading.Event()

    def credentials() -> Credentials:
        released.wait(60)
        return Credentials(KEY, "http://127.0.0.1:1")

    account = Account(Client(credentials=credentials))
    for _ in range(MAX_FETCHES + 3):
        assert account.reason(0.05) is Reason.TIMEOUT
        assert len(fetches()) <= MAX_FETCHES
    released.set()
    until(lambda: not fetches())
    assert account.reason() is Reason.CONNECTION, "it fetches again"


def test_a_thread_that_cannot_be_started_fails_one_scrape(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert account.reason() is Reason.CONNECTION
    assert account.scrape().summary


def test_an_unexpected_error_fails_one_scrape_and_is_logged_with_its_traceback() -> None:
    account = Account(Client(credentials=lambda: 1 / 0))  # type: ignore[arg-type, return-value]
    with capture_logs() as lines:
        assert account.reason() is Reason.INVALID_RESPONSE
    events = [(line["log_level"], line["event"]) for line in lines]
    assert events == [("error", "Unexpected error during scrape"), ("warning", "Scrape failed")]
    assert not fetches()


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("valid", [True, False])
def test_nothing_keeps_a_response_after_its_fetch(
    status: int, valid: bool, account: Account, api: FakeAPI
) -> None:
    filler = {"id": "x", "description": "x" * 5_000_000}
    body = json.dumps({"runs": [filler] if valid else filler}).encode()
    account.scrape()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        api.answers(status, body)
        outcome = account.scrape()
        until(lambda: not fetches())
        api.serves()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert (outcome.summary is not None) == (valid and status == 200)
    assert peak > len(body) or status == 500
    assert kept < len(body) * 1.1, "the test's own body, and nothing more"


@pytest.mark.parametrize(("asked", "obeyed"), [(30, 30), (86400, MAX_BACKOFF)])
def test_after_a_retry_after_nothing_is_sent_until_it_has_passed(
    asked: int,
    obeyed: int,
    account: Account,
    api: FakeAPI,
    clock: Clock,
) -> None:
    api.answers(429, b"", Retry_After=str(asked))
    assert account.reason() is Reason.RATE_LIMITED
    api.serves(RUN)
    clock.tick(obeyed - 1)
    failure = account.scrape().failure
    assert failure
    assert failure.reason is Reason.RATE_LIMITED
    assert re.search(r"no request sent: .* 2026-11-23T12:0[05]:[03]0Z$", failure.message)
    assert account.last.outcome.clock_offset is None
    assert account.errors() == {"rate_limited": 2}
    assert len(api.requests) == 1
    clock.tick(2)
    assert account.scrape().summary


E = "Scrape failed"
S = "Scrape succeeded after failures"


@pytest.mark.parametrize(
    ("scrapes", "logged"),
    [
        ("500 500 200 200", [(E, 1), (S, 2)]),
        ("500 500 401 401 wait 401 200", [(E, 1), (E, 3), (E, 5), (S, 5)]),
        ("500 200 500 200 500 200 500 200", [(E, 1), (S, 1)]),
        ("500 200 500 200 500 wait 500 200", [(E, 1), (S, 1), (E, 2), (S, 2)]),
        ("500 200 401 200", [(E, 1), (S, 1), (E, 1), (S, 1)]),
        ("200 200", []),
    ],
)
def test_a_failure_is_logged_when_it_begins_changes_lasts_a_minute_and_ends(
    scrapes: str,
    logged: list[tuple[str, int]],
    account: Account,
    api: FakeAPI,
    clock: Clock,
) -> None:
    with capture_logs() as lines:
        for step in scrapes.split():
            if step == "wait":
                clock.tick(LOG_INTERVAL)
                continue
            api.answers(int(step), b'{"runs": []}')
            clock.tick(1)
            account.scrape()
    assert [(line["event"], line["count"]) for line in lines] == logged


def test_a_fetch_that_a_scrape_did_not_wait_for_is_no_recovery(
    account: Account, api: FakeAPI
) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            with held(api) as released, account.scraping() as [patient]:
                until(fetches)
                assert account.reason(0.05) is Reason.TIMEOUT
                released.set()
            assert patient.result().summary
            until(lambda: not fetches())
        api.serves(RUN)
        assert account.scrape().summary
    assert [(line["event"], line["count"]) for line in lines] == [(E, 1), (S, 3)]


def running(*ids: str) -> list[dict[str, Any]]:
    return [{**RUN, "id": each, "status_v2": "running"} for each in ids]


def test_another_key_or_endpoint_starts_a_new_baseline(api: FakeAPI) -> None:
    started = []
    with FakeAPI() as other:
        credentials = Credentials(KEY, api.url)
        account = Account(Client(credentials=lambda: credentials))
        for key, server, ids in (
            (KEY, api, "a"),
            (KEY, api, "ab"),
            ("another", api, "abc"),
            ("another", api, "abcd"),
            ("another", other, "efgh"),
            ("another", other, "efghi"),
        ):
            credentials = Credentials(key, server.url)
            server.serves(*running(*ids))
            account.scrape()
            started.append(account.started())
    assert started == [0, 1, 1, 2, 2, 3]


def test_another_set_of_applications_starts_a_new_baseline(api: FakeAPI, clock: Clock) -> None:
    account = Account(Client(KEY, api.url), source="application-runs")
    started = []
    for applications, ids in (("a", "x"), ("a", "xy"), ("ab", "xyz"), ("ab", "xyzw"), ("b", "v")):
        items = [{"id": each} for each in applications]
        created = {"created_at": "2026-11-23T12:00:00Z"}
        runs = [run | created for run in running(*ids)]
        api.answers(200, json.dumps({"items": items, "runs": runs}).encode())
        clock.tick(200)  # longer than a list of applications is kept
        assert account.scrape().summary
        started.append(account.started())
    assert started == [0, 1, 1, 2, 2]


def test_the_outcome_tells_its_source_its_duration_its_end_and_the_clock_of_the_api(
    account: Account, api: FakeAPI
) -> None:
    before = time.time()
    with held(api) as released, account.scraping() as [scrape]:
        until(lambda: api.requests)
        time.sleep(0.1)
        released.set()
    outcome = scrape.result()
    assert outcome.source == "account-queue"
    assert 0.1 <= outcome.duration <= time.time() - before
    assert before + outcome.duration <= outcome.finished <= time.time()
    for date, offset in (("Mon, 23 Nov 2026 12:00:00 GMT", 1795435200 - time.time()), ("", None)):
        api.date = date
        assert account.scrape().clock_offset == (offset and pytest.approx(offset, abs=60))
