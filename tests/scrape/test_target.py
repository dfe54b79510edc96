"""What the scrapes of one account share and remember, over real HTTP where there is a request."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from freezegun import freeze_time
from support.fake_api import KEY, RUN, Answer, FakeAPI
from support.logs import capture_logs

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import Reason, TLSError
from nextmv_exporter.scrape import target as target_module
from nextmv_exporter.scrape import threads
from nextmv_exporter.scrape.metrics import families
from nextmv_exporter.scrape.outcome import Failure, Outcome
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.sources import AccountQueue, Requests, Source, SourceState
from nextmv_exporter.scrape.summary import Group
from nextmv_exporter.scrape.target import MAX_BACKOFF, MAX_FETCHES, ScrapeOptions, Target

GROUP = Group("queued", RUN["execution_class"], RUN["application_id"])


@dataclass
class Stub:
    """A source that does what a fault in it would do."""

    work: Callable[[], Sequence[Run]]

    def name(self, _: SourceState) -> str:
        return "stub"

    def fetch(self, _requests: Requests, _state: SourceState) -> Sequence[Run]:
        return self.work()


class Watched:
    """A target and what it counts."""

    def __init__(
        self,
        source: Source,
        client: Client | None = None,
        zero_retention: float = 300.0,
        timeout: float = 10.0,
    ) -> None:
        options = ScrapeOptions(timeout, (60.0,), 100, zero_retention)
        client = client or Client(api_key=KEY, url="http://127.0.0.1:1")
        self.target = Target("default", client, source, options)

    def errors(self) -> dict[str, float]:
        """Errors counted, by reason, without those at 0."""
        return {reason: value for reason, value in self.counters("reason").items() if value}

    def counters(self, label: str, name: str = "nextmv_scrape_errors") -> dict[str, float]:
        """The samples of a counter by the value of a label."""
        last = self.target.last
        assert last is not None
        [family] = [each for each in families([last]) if each.name == name]
        return {sample.labels[label]: sample.value for sample in family.samples}

    def scrape(self, seconds: float = 5.0) -> Outcome:
        """One scrape."""
        deadline = Deadline(seconds)
        return self.target.result(self.target.start(deadline), deadline).outcome

    @contextmanager
    def scraping(self, number: int, seconds: float = 5.0) -> "Iterator[list[Future[Outcome]]]":
        """Scrapes that wait in threads of their own."""
        with ThreadPoolExecutor(number) as pool:
            yield [pool.submit(self.scrape, seconds) for _ in range(number)]

    def idle(self) -> bool:
        """Whether no fetch is in progress."""
        return not self.target._fetches


def watched(api: FakeAPI, zero_retention: float = 300.0, timeout: float = 10.0) -> Watched:
    client = Client(api_key=KEY, url=api.url, timeout=timeout)
    return Watched(AccountQueue("v1/account/queue"), client, zero_retention, timeout)


def soon(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def reason_of(outcome: Outcome) -> Reason | None:
    return outcome.failure.reason if outcome.failure else None


def test_nothing_is_fetched_before_the_first_scrape(api: FakeAPI) -> None:
    target = watched(api).target
    assert target.last is None
    assert api.requests == []


def test_all_reasons_are_counted_from_the_start_at_0(api: FakeAPI) -> None:
    api.serves(RUN)
    account = watched(api)
    account.scrape()
    assert account.counters("reason") == dict.fromkeys(Reason, 0.0)


def test_scrapes_at_the_same_time_share_one_request(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)
    with account.scraping(5) as early:
        soon(lambda: api.requests)
        with account.scraping(1) as late:
            time.sleep(0.1)
            released.set()
    first, *others = [scrape.result() for scrape in early + late]
    assert first.summary is not None
    assert all(other is first for other in others)
    assert len(api.requests) == 1


def test_a_scrape_after_another_asks_anew(api: FakeAPI) -> None:
    api.serves(RUN)
    account = watched(api)
    first = account.scrape()
    api.serves(RUN, RUN)
    second = account.scrape()
    assert first.summary is not None
    assert second.summary is not None
    assert (first.summary.length[GROUP], second.summary.length[GROUP]) == (1, 2)
    assert len(api.requests) == 2


def test_scrapes_that_share_a_request_keep_their_own_deadlines(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)
    with account.scraping(1) as [patient]:
        soon(lambda: api.requests)
        assert reason_of(account.scrape(0.1)) is Reason.TIMEOUT
        assert not patient.done()
        released.set()
    assert patient.result().summary is not None
    assert len(api.requests) == 1
    assert account.errors() == {"timeout": 1}


def test_a_scrape_with_a_later_deadline_extends_the_request_it_shares(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)
    with account.scraping(1, 0.5) as [hasty]:
        soon(lambda: api.requests)
        with account.scraping(1, 10) as [patient]:
            assert reason_of(hasty.result()) is Reason.TIMEOUT
            time.sleep(0.5)
            released.set()
    assert patient.result().summary is not None
    assert len(api.requests) == 1


def test_a_request_ends_with_the_last_scrape_that_waits_for_it(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)
    with capture_logs() as lines:
        assert reason_of(account.scrape(0.1)) is Reason.TIMEOUT
        soon(account.idle, seconds=4)
    assert len(lines) == 1, "the end of the request is no second failure"
    api.serves(RUN)
    assert account.scrape().summary is not None
    released.set()
    assert account.errors() == {"timeout": 1}
    assert len(api.requests) == 2


def test_no_thread_is_left_of_a_scrape(api: FakeAPI) -> None:
    api.serves(RUN)
    account = watched(api)
    account.scrape()
    soon(account.idle)
    soon(lambda: not any(t.name == "fetch default" for t in threading.enumerate()))


def test_the_thread_of_a_fetch_is_named_after_its_account(api: FakeAPI) -> None:
    released = threading.Event()
    api.answer.held_until = released
    with watched(api).scraping(1):
        soon(lambda: any(t.name == "fetch default" for t in threading.enumerate()))
        released.set()


def test_the_timeout_of_the_program_holds_where_the_scrape_allows_more(api: FakeAPI) -> None:
    released = threading.Event()
    api.answer.held_until = released
    account = watched(api, timeout=0.2)
    start = time.monotonic()
    outcome = account.scrape(seconds=20)
    released.set()
    assert time.monotonic() - start < 2
    assert reason_of(outcome) is Reason.TIMEOUT
    assert account.errors() == {"timeout": 1}


def test_a_failure_is_counted_and_logged_once_for_all_scrapes_that_share_it(api: FakeAPI) -> None:
    released = threading.Event()
    api.answers(500, b"oops")
    api.answer.held_until = released
    account = watched(api)
    with capture_logs() as lines:
        with account.scraping(3) as scrapes:
            soon(lambda: api.requests)
            time.sleep(0.1)
            released.set()
        assert {reason_of(scrape.result()) for scrape in scrapes} == {Reason.SERVER_ERROR}
    assert account.errors() == {"server_error": 1}
    assert [(line["account"], line["reason"]) for line in lines] == [("default", "server_error")]
    assert KEY not in str(lines)


def test_a_failure_forgets_the_last_good_values_but_not_the_groups_lately_seen(
    api: FakeAPI,
) -> None:
    account = watched(api)
    api.serves(RUN)
    assert account.scrape().summary is not None
    api.answers(503, b"", Retry_After="0")
    failed = account.scrape()
    assert failed.summary is None
    assert account.target.last
    assert account.target.last.outcome is failed
    api.serves()
    back = account.scrape()
    assert back.summary is not None
    assert back.summary.length == {GROUP: 0}


def test_a_drained_group_is_0_until_its_retention_has_passed(api: FakeAPI) -> None:
    account = watched(api, zero_retention=0.3)
    api.serves(RUN)
    account.scrape()
    api.serves()
    lengths = [summary.length for _ in range(2) if (summary := account.scrape().summary)]
    assert lengths[0] == {GROUP: 0}

    def forgotten() -> bool:
        summary = account.scrape().summary
        return summary is not None and summary.length == {}

    soon(forgotten)


def test_without_retention_a_drained_group_is_gone_at_once(api: FakeAPI) -> None:
    account = watched(api, zero_retention=0.0)
    api.serves(RUN)
    account.scrape()
    api.serves()
    summary = account.scrape().summary
    assert summary is not None
    assert summary.length == {}
    assert summary.runs == {"queued": 0, "running": 0}


def test_after_a_retry_after_nothing_is_sent_until_it_has_passed(api: FakeAPI) -> None:
    account = watched(api)
    api.answers(429, b"", Retry_After="2")
    assert reason_of(account.scrape()) is Reason.RATE_LIMITED
    api.serves(RUN)
    start = time.monotonic()
    outcomes = [account.scrape(), account.scrape()]
    assert time.monotonic() - start < 2
    assert [reason_of(outcome) for outcome in outcomes] == [Reason.RATE_LIMITED] * 2
    assert len(api.requests) == 1
    assert account.errors() == {"rate_limited": 3}

    soon(lambda: account.scrape().summary, seconds=10)
    assert time.monotonic() - start > 1.9
    assert len(api.requests) == 2


def test_a_retry_after_of_hours_is_not_obeyed_for_hours(api: FakeAPI) -> None:
    account = watched(api)
    api.answers(429, b"", Retry_After="86400")
    account.scrape()
    assert account.target._backoff.until <= time.monotonic() + MAX_BACKOFF


def test_a_429_without_retry_after_lets_the_next_scrape_ask_again(api: FakeAPI) -> None:
    account = watched(api)
    api.answers(429)
    account.scrape()
    api.serves(RUN)
    assert account.scrape().summary is not None


@pytest.mark.parametrize("forked", [False, True])
def test_fetches_that_hang_do_not_accumulate(forked: bool) -> None:
    released = threading.Event()

    def hang() -> Sequence[Run]:
        released.wait(30)
        return []

    account = Watched(Stub(hang))
    rejected = Failure(Reason.TIMEOUT, f"{MAX_FETCHES} earlier requests have not ended yet")
    if forked:  # has none of the parent's fetches
        account.scrape(0.01)
        account.target.after_fork()
    for _ in range(MAX_FETCHES):
        failure = account.scrape(0.01).failure
        assert failure is not None
        assert failure.reason is Reason.TIMEOUT
        assert failure != rejected
    assert account.scrape().failure == rejected
    released.set()
    if forked:  # in this process, the other one goes on too
        return
    soon(account.idle)
    assert account.scrape().summary is not None


def test_a_fetch_that_ends_after_a_later_one_counts_no_flow_and_changes_no_state() -> None:
    released = threading.Event()
    slow = [Run(id="a", status_v2="running", execution_class="c", application_id="x")]
    results: list[Callable[[], Sequence[Run]]] = [
        list,
        lambda: (released.wait(30) and slow) or slow,
        lambda: [Run(id="b", status_v2="running", execution_class="c", application_id="x")],
    ]

    def next_result() -> Sequence[Run]:
        return results.pop(0)()

    account = Watched(Stub(next_result))
    account.scrape()
    assert reason_of(account.scrape(0.05)) is Reason.TIMEOUT
    assert account.scrape().summary is not None
    released.set()
    soon(account.idle)
    started = account.counters("application_id", "nextmv_account_queue_runs_started")
    assert started == {"x": 1}


def test_a_thread_that_cannot_be_started_fails_the_account_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.WORKERS, "run", refuse)
    outcome = Watched(Stub(list)).scrape()
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.CONNECTION
    assert outcome.failure.message == "can't start new thread"


def test_a_failure_that_goes_on_is_logged_at_its_begin_its_change_and_once_a_minute(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = watched(api)
    with capture_logs() as lines:
        api.answers(500)
        for _ in range(3):
            account.scrape()
        api.answers(401)
        for _ in range(3):
            account.scrape()
        monkeypatch.setattr(target_module, "LOG_INTERVAL", 0.0)
        account.scrape()
        for _ in range(2):
            api.serves(RUN)
            account.scrape()
            account.scrape()
            api.answers(500)
            account.scrape()
    assert [(line["event"], line["reason"], line["count"]) for line in lines] == [
        ("Scrape failed", "server_error", 1),
        ("Scrape failed", "auth", 3),
        ("Scrape failed", "auth", 3),
        ("Scrape succeeded after failures", "auth", 7),
        ("Scrape failed", "server_error", 1),
        ("Scrape succeeded after failures", "server_error", 1),
        ("Scrape failed", "server_error", 1),
    ]


def test_when_a_fetch_ends_so_do_the_requests_that_it_left() -> None:
    def work() -> Sequence[Run]:
        raise TLSError("broken")

    target, deadline = Watched(Stub(work)).target, Deadline(60)
    fetch = target.start(deadline)
    assert target.result(fetch, deadline).outcome.failure
    assert fetch.deadline.over
    assert not deadline.over


def test_what_a_source_has_learned_is_there_at_the_next_fetch_with_the_same_credentials() -> None:
    seen = []
    credentials = Credentials(KEY, "http://127.0.0.1:1")

    class Learning(Stub):
        def fetch(self, _requests: Requests, state: SourceState) -> Sequence[Run]:
            seen.append(state.queue_gone)
            state.queue_gone = True
            return []

    account = Watched(Learning(list), Client(credentials=lambda: credentials))
    for _ in range(3):
        account.scrape()
    assert seen == [False, True, True]
    for url in (credentials.url, "http://127.0.0.1:2"):
        credentials = Credentials("another", url)
        account.scrape()
        account.scrape()
        assert seen[-2:] == [False, True]


def test_the_first_snapshot_of_another_endpoint_counts_no_flow_and_that_of_another_key_does(
    api: FakeAPI,
) -> None:
    with FakeAPI() as other:
        credentials = Credentials(KEY, api.url)
        client = Client(credentials=lambda: credentials)
        account = Watched(AccountQueue("v1/account/queue"), client)
        started = []
        for key, server, running in (
            (KEY, api, "a"),
            ("another", api, "ab"),
            ("another", other, "cd"),
            ("another", other, "def"),
            ("another", api, "ab"),
        ):
            credentials = Credentials(key, server.url)
            server.serves(*({**RUN, "id": name, "status_v2": "running"} for name in running))
            account.scrape()
            counters = account.counters("application_id", "nextmv_account_queue_runs_started")
            started.append(counters["routing"])
    assert started == [0, 1, 1, 3, 3]


def test_failures_and_successes_in_turn_are_logged_once_a_minute(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = watched(api)

    def fail(times: int) -> None:
        for _ in range(times):
            api.answers(500)
            account.scrape()
            api.serves(RUN)
            account.scrape()

    with capture_logs() as lines:
        fail(5)
        monkeypatch.setattr(target_module, "LOG_INTERVAL", 0.0)
        fail(1)
    assert [(line["event"], line["count"]) for line in lines] == [
        ("Scrape failed", 1),
        ("Scrape succeeded after failures", 1),
        ("Scrape failed", 5),
        ("Scrape succeeded after failures", 1),
    ]


def test_a_failure_that_begins_again_with_another_message_is_logged_at_once() -> None:
    faults = ["first", None, "first", "second", None, "second", None, "third"]
    pending = iter(faults)

    def work() -> Sequence[Run]:
        if fault := next(pending):
            raise TLSError(fault)
        return []

    account = Watched(Stub(work))
    with capture_logs() as lines:
        for _ in faults:
            account.scrape()
    assert [(line["event"], line.get("err"), line["count"]) for line in lines] == [
        ("Scrape failed", "first", 1),
        ("Scrape succeeded after failures", None, 1),
        ("Scrape failed", "second", 2),
        ("Scrape succeeded after failures", None, 2),
        ("Scrape failed", "third", 2),
    ]


def test_a_failure_that_begins_again_is_logged_after_the_minute() -> None:
    broken = True

    def work() -> Sequence[Run]:
        if broken:
            raise TLSError("broken")
        return []

    account = Watched(Stub(work))
    with capture_logs() as lines, freeze_time() as clock:
        account.scrape()
        broken = False
        account.scrape()
        broken = True
        for seconds in (10, 20, 29.5, 0.5, 1):
            clock.tick(seconds)
            account.scrape()
    assert [(line["event"], line["count"]) for line in lines] == [
        ("Scrape failed", 1),
        ("Scrape succeeded after failures", 1),
        ("Scrape failed", 4),
    ]


def test_a_request_that_a_scrape_did_not_wait_for_is_no_recovery(api: FakeAPI) -> None:
    account = watched(api)
    api.serves(RUN)
    with capture_logs() as lines:
        for _ in range(3):
            released = api.answer.held_until = threading.Event()
            with account.scraping(1, 5) as [patient]:
                soon(lambda: account.target._fetch)
                assert reason_of(account.scrape(0.05)) is Reason.TIMEOUT
                released.set()
            assert patient.result().summary
        api.serves(RUN)
        assert account.scrape().summary
    assert [(line["event"], line["count"]) for line in lines] == [
        ("Scrape failed", 1),
        ("Scrape succeeded after failures", 3),
    ]


def test_during_a_back_off_the_failure_names_its_end_and_no_response(api: FakeAPI) -> None:
    account = watched(api)
    api.answers(429, b"", Retry_After="60")
    account.scrape()
    failure = account.scrape().failure
    assert failure is not None
    message = r"no request sent: backing off until (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
    until = re.fullmatch(message, failure.message)
    assert until
    ends = datetime.fromisoformat(until[1])
    assert 55 < (ends - datetime.now(UTC)).total_seconds() <= 60


def test_an_unexpected_error_fails_one_scrape() -> None:
    def fail() -> Sequence[Run]:
        raise ZeroDivisionError

    with capture_logs() as lines:
        outcome = Watched(Stub(fail)).scrape()
    assert reason_of(outcome) is Reason.INVALID_RESPONSE
    assert [(line["log_level"], line["event"], line["account"]) for line in lines] == [
        ("error", "Unexpected error during scrape", "default"),
        ("warning", "Scrape failed", "default"),
    ]
    assert outcome.failure
    assert outcome.failure.message == lines[1]["err"] == "unexpected error, see the log"


def test_a_scrape_that_fails_counts_no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [[Run("queued", "c", "a", id=f"run-{n}") for n in range(number)] for number in (1, 3)]
    account = Watched(Stub(lambda: queues[0]))
    account.scrape()
    queues.reverse()
    with monkeypatch.context() as patch, capture_logs():
        patch.setattr(target_module, "summarise", lambda *_, **__: 1 / 0)
        assert account.scrape().failure
    entered = "nextmv_account_queue_runs_entered"
    assert account.counters("application_id", entered) == {"a": 0}
    assert account.scrape().summary
    assert account.counters("application_id", entered) == {"a": 2}


def test_a_failure_keeps_the_reason_and_the_message_of_its_error() -> None:
    def fail() -> Sequence[Run]:
        raise TLSError("certificate has expired")

    outcome = Watched(Stub(fail)).scrape()
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.message) == (
        Reason.TLS,
        "certificate has expired",
    )


def test_the_outcome_reports_its_source_its_duration_and_its_end(api: FakeAPI) -> None:
    released = threading.Event()
    api.answer = Answer(held_until=released)
    account = watched(api)
    before = time.time()
    with account.scraping(1) as [scrape]:
        soon(lambda: api.requests)
        time.sleep(0.1)
        released.set()
    outcome = scrape.result()
    assert outcome.source == "account-queue"
    assert 0.1 <= outcome.duration < 5
    assert before + outcome.duration <= outcome.finished <= time.time()
