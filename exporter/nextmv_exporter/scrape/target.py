"""One monitored account: the fetch that its scrapes share, and its state between scrapes.

All of it is guarded by the target's lock: scrapes and fetches run in different threads.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from operator import lt

from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.client import TIMEOUT, Client, Deadline, Exchange
from nextmv_exporter.nextmv.errors import ConfigurationError, NextmvError, Reason, StatusError
from nextmv_exporter.scrape.counters import Counters
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.outcome import Failure, FailureLog, Outcome, Scrape
from nextmv_exporter.scrape.sources import ACCOUNT, RUN_LOOKBACK, SOURCES, SourceState, fetch_runs
from nextmv_exporter.scrape.summary import Group, Summary, summarise, take_snapshot

__all__ = ["Failure", "Outcome", "Scrape", "ScrapeOptions", "Target"]

# Longest `Retry-After` that is honoured, seconds.
MAX_BACKOFF = 300.0

# Concurrent fetches of an account: several can hang in a resolver that does not respond.
MAX_FETCHES = 4

WAIT_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200)

log = get_logger()


@dataclass(frozen=True)
class ScrapeOptions:
    """Options of the scrapes of an account.

    Args:
        timeout: longest time a fetch may take in all, seconds.
        source: where the queue is read from: `auto`, `account-queue` or `application-runs`.
        run_lookback: maximum age of a run to be found by `application-runs`, seconds.
        wait_buckets: upper bounds of the wait histograms, seconds.
        max_groups: most label groups of an account.
        zero_retention: how long a drained group is reported as 0, seconds.
        endpoint: path of the account in the API.
    """

    timeout: float = TIMEOUT
    source: str = "auto"
    run_lookback: float = RUN_LOOKBACK
    wait_buckets: Sequence[float] = WAIT_BUCKETS
    max_groups: int = 2000
    zero_retention: float = 300.0
    endpoint: str = ACCOUNT

    def __post_init__(self) -> None:
        """Raise ConfigurationError if an option is invalid."""
        bounds = list(self.wait_buckets)
        ascending = bool(bounds) and all(map(lt, [0, *bounds], [*bounds, inf]))  # NaN is not
        for name, valid, rule in (
            ("timeout", 0 <= self.timeout <= threading.TIMEOUT_MAX, "a number of seconds"),
            ("source", self.source in SOURCES, f"one of {', '.join(SOURCES)}"),
            ("run_lookback", 0 < self.run_lookback < inf, "a number of seconds above 0"),
            ("wait_buckets", ascending, "ascending numbers of seconds above 0"),
            ("max_groups", self.max_groups >= 1, "at least 1"),
            ("zero_retention", 0 <= self.zero_retention < inf, "a number of seconds"),
        ):
            if not valid:
                raise ConfigurationError(f"{name} {getattr(self, name)!r} is invalid: give {rule}")


@dataclass
class Fetch:
    """A fetch in progress, shared by the scrapes that arrive meanwhile.

    Args:
        deadline: when it must have ended; scrapes that arrive later extend it.
        state: a copy of the source's state.
        started: when it was started, monotonic seconds.
        clock_offset: the API's clock less this machine's, seconds, from its last response.
        outcome: its result.
        failed: whether a failure of it was counted and logged already, also that of a scrape
            that did not wait for its end.
    """

    deadline: Deadline
    state: SourceState
    started: float = field(default_factory=time.monotonic)
    clock_offset: float | None = None
    outcome: Future[Outcome] = field(default_factory=Future)
    failed: bool = False


class Target:
    """An account that is scraped. Safe to use from several threads.

    Args:
        account: its name, the value of the `account` label.
        client: sends the requests.
        options: options of its scrapes.
    """

    def __init__(self, account: str, client: Client, options: ScrapeOptions) -> None:
        self.account = account
        self.last: Scrape | None = None  # the latest
        self._client = client
        self._options = options
        self._lock = threading.Lock()
        self._counters = Counters(options.wait_buckets, options.max_groups)
        self._failures = FailureLog(account)
        self._backoff: tuple[float, Failure] | None = None  # until when, monotonic seconds
        self._state = SourceState()
        self._fetch: Fetch | None = None
        self._running = 0  # fetches
        self._recent: Mapping[Group, float] = {}  # when each group last had runs, monotonic seconds
        self._baseline: Baseline | None = None

    def start(self, deadline: Deadline) -> Fetch:
        """Start to fetch the account's queue, or share a fetch that is already in progress.

        Args:
            deadline: when this caller needs the result.

        Returns:
            The fetch, to be passed to `result`.
        """
        with self._lock:
            if self._fetch and not self._fetch.deadline.over:
                self._fetch.deadline.extend(deadline)
                return self._fetch
            longest = self._options.timeout
            within = Deadline(min(deadline.remaining(), longest), longest=longest)
            fetch = Fetch(within, replace(self._state))
            if failure := self._start(fetch):
                fetch.outcome.set_result(self._ended(fetch, None, failure))
            return fetch

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
            with self._lock:
                outcome = self._ended(fetch, None, failure)
        with self._lock:
            self.last = Scrape(outcome, self._counters.copy())
            return self.last

    def _start(self, fetch: Fetch) -> Failure | None:
        """Start a fetch, unless there is a reason not to."""
        if self._backoff and time.monotonic() < self._backoff[0]:
            return self._backoff[1]
        if self._running >= MAX_FETCHES:
            return Failure(Reason.TIMEOUT, f"{self._running} earlier requests have not ended yet")
        name = f"fetch {self.account}"
        try:
            threading.Thread(target=self._run, args=(fetch,), name=name, daemon=True).start()
        except RuntimeError as error:  # the system starts no more threads
            return Failure(Reason.CONNECTION, str(error))
        self._running += 1
        self._fetch = fetch
        return None

    def _run(self, fetch: Fetch) -> None:
        """Fetch, parse and summarise, in a thread of its own; raise nothing.

        Keep no exception: its traceback keeps the frames alive, and so the response.
        """
        summary = failure = retry_after = None
        try:
            summary = self._read(fetch)
        except NextmvError as error:
            failure = Failure(error.reason, str(error))
            retry_after = error.retry_after if isinstance(error, StatusError) else None
        except Exception:
            log.exception("Unexpected error during scrape", account=self.account)
            failure = Failure(Reason.INVALID_RESPONSE, "unexpected error, see the log")
        with self._lock:
            self._running -= 1
            if self._fetch is fetch:
                self._fetch, self._state = None, fetch.state
            if failure and retry_after:
                seconds = min(retry_after, MAX_BACKOFF)
                ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
                waiting = Failure(failure.reason, f"no request sent: backing off until {ends}")
                self._backoff = time.monotonic() + seconds, waiting
            outcome = self._ended(fetch, summary, failure)
        fetch.outcome.set_result(outcome)

    def _read(self, fetch: Fetch) -> Summary:
        options = self._options
        runs, ended, scope = fetch_runs(
            self._client,
            fetch.state,
            fetch.deadline,
            choice=options.source,
            lookback=options.run_lookback,
            account=self.account,
            endpoint=options.endpoint,
            on_exchange=partial(self._exchanged, fetch),
        )
        snapshot = take_snapshot(runs, time.time())
        del runs  # which take far more memory than the snapshot
        now = time.monotonic()
        recent = {g: at for g, at in self._recent.items() if now - at <= options.zero_retention}
        buckets, most = options.wait_buckets, options.max_groups
        summary = summarise(snapshot, wait_buckets=buckets, max_groups=most, recent=recent)
        with self._lock:
            if self._fetch is fetch:  # else another one was started since
                self._baseline, change = compare(self._baseline, snapshot, ended, scope)
                self._counters.count_flow(change)
                lengths = summary.length.items()
                self._recent = {group: now if n else recent[group] for group, n in lengths}
        return summary

    def _exchanged(self, fetch: Fetch, exchange: Exchange) -> None:
        with self._lock:
            self._counters.count_request(exchange)
            if exchange.clock_offset is not None:
                fetch.clock_offset = exchange.clock_offset

    def _ended(self, fetch: Fetch, summary: Summary | None, failure: Failure | None) -> Outcome:
        """Count and log how a fetch ended for a scrape; a failure only once for each fetch."""
        if not fetch.failed:
            self._failures.log(failure)
            if failure:
                fetch.failed = True
                self._counters.errors[failure.reason] += 1
        source = fetch.state.source(self._options.source)
        duration, now = time.monotonic() - fetch.started, time.time()
        offset = fetch.clock_offset
        return Outcome(self.account, source, duration, now, summary, failure, offset)
