"""One monitored account: the fetch that its scrapes share, and its state between scrapes.

All of it is guarded by the target's lock: scrapes and fetches run in different threads.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import lt

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.forks import repair_after_fork
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.client import TIMEOUT, Client
from nextmv_exporter.nextmv.errors import ConfigurationError, NextmvError, Reason, StatusError
from nextmv_exporter.scrape.counters import AccountMetrics
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.outcome import Failure, Outcome, Scrape
from nextmv_exporter.scrape.recent import RecentGroups
from nextmv_exporter.scrape.sources import Requests, Source, SourceState
from nextmv_exporter.scrape.summary import Group, Snapshot, Summary, summarise, take_snapshot
from nextmv_exporter.scrape.threads import WORKERS
from nextmv_exporter.units import MAX_DURATION

__all__ = ["Failure", "Outcome", "Scrape", "ScrapeOptions", "Target"]

MAX_BACKOFF = 300.0
"""Longest `Retry-After` that is honoured, seconds."""

MAX_FETCHES = 4
"""Concurrent fetches of an account: several can hang in a resolver that does not respond."""

LOG_INTERVAL = 60.0
"""Seconds between two log lines about the same failure."""

log = get_logger()


@dataclass(frozen=True)
class ScrapeOptions:
    """Options of the scrapes of all accounts.

    Args:
        timeout: longest time a fetch may take in all, seconds.
        wait_buckets: upper bounds of the wait histograms, seconds.
        max_groups: most label groups of an account.
        zero_retention: how long a drained group is reported as 0, seconds.
    """

    timeout: float = TIMEOUT
    wait_buckets: Sequence[float] = (
        *(5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0),
        *(1800.0, 3600.0, 7200.0, 21600.0, 43200.0),
    )
    max_groups: int = 2000
    zero_retention: float = 300.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError if an option is invalid."""
        bounds = list(self.wait_buckets)
        if not 0 <= self.timeout <= threading.TIMEOUT_MAX:  # 0 where a scrape is late already
            raise ConfigurationError(f"timeout {self.timeout} is not a number of seconds")
        if self.max_groups < 1:
            raise ConfigurationError(f"max_groups {self.max_groups} is below 1")
        if not 0 <= self.zero_retention <= MAX_DURATION:
            raise ConfigurationError(
                f"zero_retention {self.zero_retention} is not a number of seconds"
            )
        ascending = bool(bounds) and all(map(lt, [0, *bounds], bounds))  # NaN is not, either
        if not ascending or bounds[-1] > MAX_DURATION:
            raise ConfigurationError(f"wait_buckets {bounds} are not ascending numbers of seconds")


@dataclass
class Fetch:
    """A fetch in progress, shared by the scrapes that arrive meanwhile.

    Args:
        number: counts the account's fetches in the order in which they were started.
        deadline: when it must have ended; scrapes that arrive later extend it.
        state: a copy of the source's state.
        recent: groups to report as 0 where they are empty now.
        outcome: its result.
        reported: whether a failure of it was counted and logged already.
    """

    number: int
    deadline: Deadline
    state: SourceState
    recent: frozenset[Group] = frozenset()
    started: float = field(default_factory=time.monotonic)
    outcome: "Future[Outcome]" = field(default_factory=Future)
    reported: bool = False


@dataclass
class _Backoff:
    """Back-off that the API demanded with `Retry-After`."""

    until: float = 0.0
    reason: Reason = Reason.RATE_LIMITED
    until_text: str = ""

    def start(self, reason: Reason, seconds: float) -> None:
        seconds = min(seconds, MAX_BACKOFF)
        self.reason = reason
        self.until = time.monotonic() + seconds
        ends = datetime.fromtimestamp(time.time() + seconds, UTC)
        self.until_text = ends.isoformat(timespec="seconds").replace("+00:00", "Z")

    def failure(self) -> Failure | None:
        if time.monotonic() >= self.until:
            return None
        return Failure(self.reason, f"no request sent: backing off until {self.until_text}")


@dataclass
class _FailureLog:
    """Log of a failure: when it begins, when its reason changes, once a minute, when it ends.

    One that begins again within the minute, with the same message, is logged after it, so that
    scrapes that fail and succeed in turn do not fill the log.
    """

    account: str
    last: Failure | None = None  # logged
    logged: float = float("-inf")
    unlogged: int = 0  # failed scrapes since then
    scrapes: int = 0  # failed since the last success

    @property
    def begun(self) -> bool:
        """Whether this failure is in the log, since it began after the last success."""
        return self.unlogged < self.scrapes

    def failed(self, failure: Failure) -> None:
        self.scrapes += 1
        self.unlogged += 1
        now = time.monotonic()
        same = failure == self.last
        if self.begun and self.last:
            same = failure.reason is self.last.reason
        if same and now - self.logged < LOG_INTERVAL:
            return
        log.warning(
            "Scrape failed",
            account=self.account,
            reason=failure.reason.value,
            err=failure.message,
            count=self.unlogged,
        )
        self.last, self.logged, self.unlogged = failure, now, 0

    def succeeded(self) -> None:
        if self.begun and self.last:
            log.info(
                "Scrape succeeded after failures",
                account=self.account,
                reason=self.last.reason.value,
                count=self.scrapes,
            )
        self.scrapes = 0


class Target:
    """An account that is scraped. Safe to use from several threads.

    Args:
        account: its name, the value of the `account` label.
        client: sends the requests.
        source: where its queue is read from.
        options: options of its scrapes.
    """

    def __init__(
        self, account: str, client: Client, source: Source, options: ScrapeOptions
    ) -> None:
        self.account = account
        self._client = client
        self._source = source
        self._options = options
        self._lock = threading.Lock()
        self._last: Outcome | None = None
        self._metrics = AccountMetrics(
            wait_buckets=options.wait_buckets, max_groups=options.max_groups
        )
        self._recent = RecentGroups(options.zero_retention, options.max_groups)
        self._backoff = _Backoff()
        self._failures = _FailureLog(account)
        self._baseline: Baseline | None = None
        self._url = ""  # of the API when the baseline was read
        self._state = SourceState()
        self._fetch: Fetch | None = None
        self._fetches = 0  # running
        self._number = 0  # of the latest fetch
        self._counted = 0  # number of the fetch that the baseline is of
        repair_after_fork(self)

    def start(self, deadline: Deadline) -> Fetch:
        """Start to fetch the account's queue, or share a fetch that is already in progress.

        Args:
            deadline: when this caller needs the result.

        Returns:
            The fetch, to be passed to `result`.
        """
        with self._lock:
            fetch = self._fetch
            if failure := self._backoff.failure():
                return self._failed(deadline, failure)
            if fetch and not fetch.deadline.over:
                fetch.deadline.extend(deadline, fetch.started + self._options.timeout)
                return fetch
            if self._fetches >= MAX_FETCHES:
                message = f"{self._fetches} earlier requests have not ended yet"
                return self._failed(deadline, Failure(Reason.TIMEOUT, message))
            return self._begin(deadline)

    def result(self, fetch: Fetch, deadline: Deadline) -> Scrape:
        """Wait for a fetch.

        Args:
            fetch: what `start` returned.
            deadline: the one given to `start`.

        Returns:
            The result of the scrape, a success or a failure.
        """
        try:
            outcome = fetch.outcome.result(deadline.remaining())
        except TimeoutError:
            failure = Failure(Reason.TIMEOUT, "timed out before the full response was received")
            outcome = self._outcome(fetch, failure=failure)
            with self._lock:
                self._report(fetch, failure)
        with self._lock:
            self._last = outcome
            return Scrape(outcome, self._metrics.copy())

    @property
    def last(self) -> Scrape | None:
        """The result of the latest scrape; None before the first."""
        with self._lock:
            return Scrape(self._last, self._metrics.copy()) if self._last else None

    def after_fork(self) -> None:
        """Replace what a forked process can't use."""
        self._lock = threading.Lock()
        self._fetch, self._fetches = None, 0

    def _begin(self, deadline: Deadline) -> Fetch:
        self._number += 1
        fetch = Fetch(
            self._number,
            Deadline(min(deadline.remaining(), self._options.timeout)),
            replace(self._state),
            self._recent.at(time.monotonic()),
        )
        try:
            WORKERS.run(lambda: self._run(fetch), f"fetch {self.account}")
        except RuntimeError as error:
            return self._failed(deadline, Failure(Reason.CONNECTION, str(error)))
        self._fetches += 1
        self._fetch = fetch
        return fetch

    def _failed(self, deadline: Deadline, failure: Failure) -> Fetch:
        """Return a fetch that failed before it sent a request."""
        fetch = Fetch(0, deadline, self._state)
        self._report(fetch, failure)
        fetch.outcome.set_result(self._outcome(fetch, failure=failure))
        return fetch

    def _run(self, fetch: Fetch) -> None:
        """Fetch, parse and summarise, in a separate thread; raise nothing."""
        outcome, retry_after = self._read(fetch)
        with self._lock:
            self._finish(fetch, outcome, retry_after)
        fetch.deadline.cancel()  # ends requests that were left when another one failed
        fetch.outcome.set_result(outcome)

    def _read(self, fetch: Fetch) -> tuple[Outcome, float | None]:
        """Return the outcome, and the `Retry-After` of a failure in seconds.

        Drop the exception: its traceback keeps this frame, and so the response, alive.
        """
        requests = Requests(self._client, fetch.deadline, self._observe_request, self.account)
        retry_after = None
        try:
            credentials = self._client.credentials
            if fetch.state.credentials != credentials:
                fetch.state = SourceState(credentials)
            snapshot = take_snapshot(
                self._source.fetch(requests, fetch.state),
                time.time(),
                max_bytes=self._client.max_response_bytes,
            )
            summary = summarise(
                snapshot,
                wait_buckets=self._options.wait_buckets,
                max_groups=self._options.max_groups,
                recent=fetch.recent,
            )
            with self._lock:
                self._count_flow(fetch, snapshot, requests, credentials.url)
            return self._outcome(fetch, summary=summary), None
        except NextmvError as caught:
            failure = Failure(caught.reason, str(caught))
            retry_after = caught.retry_after if isinstance(caught, StatusError) else None
        except Exception:
            log.exception("Unexpected error during scrape", account=self.account)
            failure = Failure(Reason.INVALID_RESPONSE, "unexpected error, see the log")
        return self._outcome(fetch, failure=failure), retry_after

    def _count_flow(self, fetch: Fetch, snapshot: Snapshot, requests: Requests, url: str) -> None:
        """Advance the counters, unless a fetch that was started later has been counted."""
        if fetch.number < self._counted:
            return
        # Another endpoint may have another account, whose runs did not all enter just now.
        baseline = self._baseline if url == self._url else None
        self._baseline, change = compare(baseline, snapshot, requests.ended, requests.unseen)
        self._url = url
        self._metrics.add_flow(change)
        self._counted = fetch.number

    def _finish(self, fetch: Fetch, outcome: Outcome, retry_after: float | None) -> None:
        self._fetches -= 1
        if self._fetch is fetch:
            self._fetch = None
            self._state = fetch.state
        if outcome.summary:
            filled = [group for group, length in outcome.summary.length.items() if length]
            self._recent.saw(filled, time.monotonic())
            if not fetch.reported:  # as failed, to a scrape that did not wait for its end
                self._failures.succeeded()
        if outcome.failure:
            self._report(fetch, outcome.failure)
            if retry_after:
                self._backoff.start(outcome.failure.reason, retry_after)

    def _report(self, fetch: Fetch, failure: Failure) -> None:
        """Count and log a failure, only once for each fetch."""
        if fetch.reported:
            return
        fetch.reported = True
        self._metrics.count_error(failure.reason)
        self._failures.failed(failure)

    def _observe_request(self, endpoint: str, code: str, seconds: float) -> None:
        with self._lock:
            self._metrics.observe_request(endpoint, code, seconds)

    def _outcome(
        self, fetch: Fetch, summary: Summary | None = None, failure: Failure | None = None
    ) -> Outcome:
        return Outcome(
            account=self.account,
            source=self._source.name(fetch.state),
            duration=time.monotonic() - fetch.started,
            finished=time.time(),
            summary=summary,
            failure=failure,
        )
