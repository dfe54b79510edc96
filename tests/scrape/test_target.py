"""What the scrapes of one account share and remember, over real HTTP where there is a request."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs
from support.fake_api import KEY, RUN, Answer, FakeAPI

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.errors import Reason, TLSError
from nextmv_exporter.scrape.metrics import AccountMetrics
from nextmv_exporter.scrape.outcome import Outcome
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.sources import AccountQueue, Source
from nextmv_exporter.scrape.summary import Group
from nextmv_exporter.scrape.target import MAX_BACKOFF, MAX_THREADS, ScrapeOptions, Target

GROUP = Group("queued", RUN["execution_class"], RUN["application_id"])


@dataclass
class Stub:
    """A source that does what a fault in it would do."""

    work: Callable[[], Sequence[Run]]
    name: str = "stub"

    def fetch(self, deadline: Deadline) -> Sequence[Run]:
        return self.work()


@dataclass
class Watched:
    """A target and the counters that it fills."""

    source: Source
    zero_retention: float = 300.0
    timeout: float = 10.0
    metrics: AccountMetrics = field(
        default_factory=lambda: AccountMetrics("default", wait_buckets=(60.0,), max_groups=100)
    )

    def __post_init__(self) -> None:
        options = ScrapeOptions(
            timeout=self.timeout,
            wait_buckets=(60.0,),
            max_groups=100,
            zero_retention=self.zero_retention,
        )
        self.target = Target("default", self.source, options, self.metrics)

    def errors(self) -> dict[str, float]:
        """Errors counted, by reason, without those at 0."""
        return {reason: n for reason, n in self.metrics.copy().errors.items() if n}

    def scrape(self, seconds: float = 5.0) -> Outcome:
        """One scrape in a loop of its own."""
        return asyncio.run(self.target.scrape(Deadline(seconds)))


def watched(api: FakeAPI, zero_retention: float = 300.0, timeout: float = 10.0) -> Watched:
    client = Client(api_key=KEY, url=api.url, timeout=timeout)
    return Watched(AccountQueue(client), zero_retention, timeout)


async def soon(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the loop go on until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


def run(scenario: Awaitable[None]) -> None:
    async def go() -> None:
        await scenario

    asyncio.run(go())


def reason_of(outcome: Outcome) -> Reason | None:
    return outcome.failure.reason if outcome.failure else None


def test_nothing_is_fetched_before_the_first_scrape(api: FakeAPI) -> None:
    target = watched(api).target
    assert target.last is None
    assert api.requests == []


def test_all_reasons_are_counted_from_the_start_at_0(api: FakeAPI) -> None:
    assert watched(api).metrics.copy().errors == dict.fromkeys(Reason, 0)


def test_scrapes_at_the_same_time_share_one_request(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)

    async def scenario() -> None:
        scrapes = [asyncio.create_task(account.target.scrape(Deadline(5))) for _ in range(5)]
        await soon(lambda: api.requests)
        scrapes.append(asyncio.create_task(account.target.scrape(Deadline(5))))
        await asyncio.sleep(0)
        released.set()
        first, *others = await asyncio.gather(*scrapes)
        assert first.summary is not None
        assert all(other is first for other in others)

    run(scenario())
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


def test_who_shares_a_request_keeps_a_deadline_of_ones_own(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)

    async def scenario() -> None:
        patient = asyncio.create_task(account.target.scrape(Deadline(5)))
        hasty = asyncio.create_task(account.target.scrape(Deadline(0.1)))
        assert reason_of(await hasty) is Reason.TIMEOUT
        assert not patient.done()
        released.set()
        assert (await patient).summary is not None

    run(scenario())
    assert len(api.requests) == 1
    assert account.errors() == {"timeout": 1}


def test_a_request_that_nobody_waits_for_any_more_is_given_up(api: FakeAPI) -> None:
    released = threading.Event()
    api.serves(RUN)
    api.answer.held_until = released
    account = watched(api)

    async def scenario() -> None:
        with capture_logs() as lines:
            assert reason_of(await account.target.scrape(Deadline(0.1))) is Reason.TIMEOUT
            await soon(lambda: not account.target._threads, seconds=2)
        assert len(lines) == 1, "the request that was given up is no second failure"
        api.serves(RUN)
        assert (await account.target.scrape(Deadline(5))).summary is not None

    run(scenario())
    released.set()
    assert account.errors() == {"timeout": 1}
    assert len(api.requests) == 2


def test_a_scrape_whose_client_went_away_gives_its_request_up(api: FakeAPI) -> None:
    released = threading.Event()
    api.answer.held_until = released
    account = watched(api)

    async def scenario() -> None:
        scrape = asyncio.create_task(account.target.scrape(Deadline(5)))
        await soon(lambda: api.requests)
        scrape.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scrape
        await soon(lambda: not account.target._threads, seconds=2)

    run(scenario())
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


def test_a_failure_is_counted_and_logged_once_for_all_who_wait(api: FakeAPI) -> None:
    api.answers(500, b"oops")
    account = watched(api)

    async def scenario() -> None:
        scrapes = [account.target.scrape(Deadline(5)) for _ in range(3)]
        assert {reason_of(o) for o in await asyncio.gather(*scrapes)} == {Reason.SERVER_ERROR}

    with capture_logs() as lines:
        run(scenario())
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
    assert account.target.last is failed
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

    async def scenario() -> None:
        async def forgotten() -> bool:
            summary = (await account.target.scrape(Deadline(5))).summary
            return summary is not None and summary.length == {}

        start = time.monotonic()
        while not await forgotten():
            assert time.monotonic() - start < 5
            await asyncio.sleep(0.05)

    run(scenario())


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

    async def scenario() -> None:
        while (await account.target.scrape(Deadline(5))).summary is None:
            assert time.monotonic() - start < 10
            await asyncio.sleep(0.05)

    run(scenario())
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


def test_fetches_that_hang_for_good_do_not_pile_up() -> None:
    released = threading.Event()

    def hang() -> Sequence[Run]:
        released.wait(30)
        return []

    account = Watched(Stub(hang))

    async def scenario() -> None:
        for _ in range(MAX_THREADS):
            assert reason_of(await account.target.scrape(Deadline(0.01))) is Reason.TIMEOUT
        refused = await account.target.scrape(Deadline(5))
        assert refused.failure is not None
        assert refused.failure.reason is Reason.TIMEOUT
        assert refused.failure.message == f"{MAX_THREADS} earlier requests still hang"
        released.set()
        await soon(lambda: not account.target._threads)
        assert (await account.target.scrape(Deadline(5))).summary is not None

    run(scenario())


def test_a_bug_in_the_program_takes_no_more_than_its_scrape() -> None:
    def fail() -> Sequence[Run]:
        raise ZeroDivisionError

    with capture_logs() as lines:
        outcome = Watched(Stub(fail)).scrape()
    assert reason_of(outcome) is Reason.INVALID_RESPONSE
    assert [line["log_level"] for line in lines] == ["error", "warning"]
    assert lines[0]["account"] == "default"


def test_a_failure_keeps_the_reason_and_the_message_of_its_error() -> None:
    def fail() -> Sequence[Run]:
        raise TLSError("certificate has expired")

    outcome = Watched(Stub(fail)).scrape()
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.message) == (
        Reason.TLS,
        "certificate has expired",
    )


def test_the_outcome_tells_its_source_its_duration_and_its_end(api: FakeAPI) -> None:
    released = threading.Event()
    api.answer = Answer(held_until=released)
    account = watched(api)
    before = time.time()

    async def scenario() -> None:
        scrape = asyncio.create_task(account.target.scrape(Deadline(5)))
        await soon(lambda: api.requests)
        await asyncio.sleep(0.1)
        released.set()
        outcome = await scrape
        assert outcome.source == "account-queue"
        assert 0.1 <= outcome.duration < 5
        assert before + outcome.duration <= outcome.finished <= time.time()

    run(scenario())
