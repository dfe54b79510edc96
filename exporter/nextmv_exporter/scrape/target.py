"""One monitored account: what its scrapes share, and what they remember.

All state here belongs to the event loop; threads only fetch, parse and summarise, and
hand back an `Outcome`.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.errors import NextmvError, Reason, StatusError
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.metrics import AccountMetrics
from nextmv_exporter.scrape.outcome import Failure, Outcome, Scrape
from nextmv_exporter.scrape.recent import RecentGroups
from nextmv_exporter.scrape.sources import Source
from nextmv_exporter.scrape.summary import Group, Snapshot, Summary, summarise, take_snapshot

MAX_BACKOFF = 300.0
"""Seconds for which a `Retry-After` is obeyed at most."""

MAX_THREADS = 4
"""Fetches of an account that may hang at once, as they do in a resolver that is dead."""

log = structlog.get_logger()


@dataclass(frozen=True)
class ScrapeOptions:
    """What the scrapes of all accounts have in common.

    Args:
        timeout: longest time a fetch may take in all, seconds.
        wait_buckets: upper bounds of the wait histogram, seconds.
        max_groups: most label groups of an account.
        zero_retention: how long a drained group is reported as 0, seconds.
    """

    timeout: float
    wait_buckets: Sequence[float]
    max_groups: int
    zero_retention: float


@dataclass
class _Flight:
    """A fetch under way, shared by the scrapes that arrive meanwhile."""

    deadline: Deadline
    landed: "asyncio.Future[Outcome]"
    waiting: int = 0
    reported: bool = False


@dataclass
class _Backoff:
    """The API's request to be left alone for a while."""

    failure: Failure | None = None
    until: float = 0.0

    def start(self, failure: Failure, seconds: float) -> None:
        self.failure = failure
        self.until = time.monotonic() + min(seconds, MAX_BACKOFF)

    def now(self) -> Failure | None:
        return self.failure if time.monotonic() < self.until else None


class Target:
    """An account that is scraped.

    Args:
        account: its name, the value of the `account` label.
        source: where its queue is read from.
        options: what all scrapes have in common.
        metrics: its counters.
    """

    def __init__(
        self, account: str, source: Source, options: ScrapeOptions, metrics: AccountMetrics
    ) -> None:
        self.account = account
        self.last: Outcome | None = None
        """What the latest scrape came to; None before the first."""
        self._source = source
        self._options = options
        self._metrics = metrics
        self._baseline: Baseline | None = None
        self._recent = RecentGroups(options.zero_retention, options.max_groups)
        self._backoff = _Backoff()
        self._flight: _Flight | None = None
        self._threads = 0

    async def scrape(self, deadline: Deadline) -> Outcome:
        """Read the account's queue, sharing a fetch that is already under way.

        Args:
            deadline: by when this caller needs an outcome.

        Returns:
            The outcome; a failure is one too.
        """
        start = time.monotonic()
        if failure := self._backoff.now():
            return self._fail(failure, start)
        if self._flight is None and self._threads >= MAX_THREADS:
            return self._fail(
                Failure(Reason.TIMEOUT, f"{self._threads} earlier requests still hang"), start
            )
        flight = self._flight or self._take_off()
        flight.waiting += 1
        try:
            # Shielded, since other scrapes may wait for the same flight for longer.
            landed = asyncio.shield(flight.landed)
            self.last = await asyncio.wait_for(landed, deadline.remaining())
        except TimeoutError:
            failure = Failure(Reason.TIMEOUT, "the whole answer was not there in time")
            return self._fail(failure, start, flight)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.landed.done():
                self._abandon(flight)
        return self.last

    def report(self, outcome: Outcome) -> Scrape:
        """Return what a scrape reports: its outcome, and the counters as they are now.

        Args:
            outcome: what `scrape` returned.
        """
        return Scrape(outcome, self._metrics.copy())

    def _take_off(self) -> _Flight:
        loop = asyncio.get_running_loop()
        flight = _Flight(Deadline(self._options.timeout), loop.create_future())
        recent = self._recent.at(time.monotonic())

        def fly() -> None:
            outcome, retry_after = self._fetch(flight.deadline, recent)
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(self._land, flight, outcome, retry_after)

        # A daemon, because a thread inside the system's resolver can't be stopped and must
        # not keep the program from ending.
        threading.Thread(target=fly, name=f"fetch {self.account}", daemon=True).start()
        self._threads += 1
        self._flight = flight
        return flight

    def _abandon(self, flight: _Flight) -> None:
        flight.deadline.cancel()
        if self._flight is flight:
            self._flight = None

    def _fetch(self, deadline: Deadline, recent: frozenset[Group]) -> tuple[Outcome, float | None]:
        """Fetch, parse and summarise; runs in a thread and raises nothing.

        For how long the API asks to be left alone comes along. The exception itself is let
        go: by its traceback it would keep this frame, and the whole response, in a cycle.
        """
        start = time.monotonic()
        summary = failure = retry_after = None
        try:
            snapshot = take_snapshot(self._source.fetch(deadline), time.time())
            self._count_flow(snapshot)
            summary = summarise(
                snapshot,
                wait_buckets=self._options.wait_buckets,
                max_groups=self._options.max_groups,
                recent=recent,
            )
        except NextmvError as caught:
            failure = Failure(caught.reason, str(caught))
            retry_after = caught.retry_after if isinstance(caught, StatusError) else None
        except Exception:
            log.exception("A scrape failed for a reason that it should not", account=self.account)
            failure = Failure(Reason.INVALID_RESPONSE, "internal error, see the log")
        finally:
            deadline.cancel()  # ends requests that were left when another one failed
        return self._outcome(start, summary, failure), retry_after

    def _count_flow(self, snapshot: Snapshot) -> None:
        complete = self._source.name != "application-runs"
        self._baseline, change = compare(self._baseline, snapshot, complete=complete)
        self._metrics.add_flow(change)

    def _land(self, flight: _Flight, outcome: Outcome, retry_after: float | None) -> None:
        self._threads -= 1
        if self._flight is flight:
            self._flight = None
        if outcome.summary:
            filled = [group for group, length in outcome.summary.length.items() if length]
            self._recent.saw(filled, time.monotonic())
        if outcome.failure:
            self._report(outcome.failure, flight)
            if retry_after:
                self._backoff.start(outcome.failure, retry_after)
        if not flight.landed.done():
            flight.landed.set_result(outcome)

    def _fail(self, failure: Failure, start: float, flight: _Flight | None = None) -> Outcome:
        self._report(failure, flight)
        self.last = self._outcome(start, None, failure)
        return self.last

    def _outcome(self, start: float, summary: Summary | None, failure: Failure | None) -> Outcome:
        return Outcome(
            account=self.account,
            source=self._source.name,
            duration=time.monotonic() - start,
            finished=time.time(),
            summary=summary,
            failure=failure,
        )

    def _report(self, failure: Failure, flight: _Flight | None) -> None:
        """Count and log a failure, but once for each flight."""
        if flight is not None:
            if flight.reported:
                return
            flight.reported = True
        self._metrics.count_error(failure.reason)
        log.warning(
            "Reading the account's queue failed",
            account=self.account,
            reason=failure.reason.value,
            err=failure.message,
        )
