"""Every metric, once: its name, help, type and labels, and where its values come from.

Dashboards, alerts, the README's table and `docs/metrics.md` are checked against `METRICS`.
"""

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prometheus_client.metrics_core import Metric as ClientMetric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.summary import OTHER, QUEUED, RUNNING, Backlog, Distribution, Group

if TYPE_CHECKING:
    from nextmv_exporter.scrape.flow import Change
    from nextmv_exporter.scrape.outcome import Scrape
    from nextmv_exporter.scrape.summary import Summary

Kind = Literal["gauge", "gauge_histogram", "counter", "histogram"]
Row = tuple[Sequence[str], Any]
"""Values of the labels and of the series; a histogram's is a `Distribution`."""


@dataclass(frozen=True)
class Metric:
    """A metric as users see it.

    Args:
        name: its name, with `_total` if it is a counter.
        help: one sentence, as in the exposition.
        kind: its type.
        labels: names of its labels.
        rows: from an account's scrape to the rows of this metric.
    """

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ("account",)
    rows: Callable[["Scrape"], Iterable[Row]] = lambda _: ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in the exposition, in their order."""
        return tuple(self.name + suffix for suffix in _SUFFIXES[self.kind])


_SUFFIXES = {
    "gauge": ("",),
    "counter": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge_histogram": ("_bucket", "_gcount", "_gsum"),
}


class Family(ClientMetric):
    """A metric family of prometheus-client whose samples are made only when they are asked for.

    Args:
        metric: its name, help, type and labels.
        rows: label values and value of each of its series, or groups of series.
    """

    def __init__(self, metric: Metric, rows: Sequence[Row]) -> None:
        self.metric = metric
        self.rows = rows
        name = metric.name.removesuffix("_total")
        super().__init__(name, metric.help, metric.kind.replace("_", ""))
        self._samples: list[Sample] | None = None

    @property
    def samples(self) -> list[Sample]:
        """The samples, as prometheus-client's own families have them."""
        if self._samples is None:
            self._samples = list(self._make_samples())
        return self._samples

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self._samples = samples

    def _make_samples(self) -> Iterator[Sample]:
        for values, value in self.rows:
            labels = dict(zip(self.metric.labels, values, strict=True))
            if not isinstance(value, Distribution):
                yield Sample(self.metric.name, labels, float(value))
                continue
            bucket, count, total = self.metric.series
            numbers = (*value.buckets, value.count)
            for bound, number in zip(le_values(value.bounds), numbers, strict=True):
                yield Sample(bucket, labels | {"le": bound}, float(number))
            yield Sample(count, labels, float(value.count))
            yield Sample(total, labels, value.sum)


@cache
def le_values(bounds: Sequence[float]) -> Sequence[str]:
    """Write the bounds of a histogram's buckets.

    Args:
        bounds: the bounds without the last, which is infinite; hashable.

    Returns:
        A value of the label `le` for each bucket.
    """
    return [floatToGoString(bound) for bound in (*bounds, math.inf)]  # type: ignore[no-untyped-call]


def families(scrapes: Sequence["Scrape"]) -> Iterator[Family]:
    """Make the metric families of accounts.

    Args:
        scrapes: what each account's scrape returned; without any, the families have no samples.

    Yields:
        A family for each metric of `OF_ACCOUNTS`.
    """
    for metric in OF_ACCOUNTS:
        yield Family(
            metric,
            [
                ((scrape.outcome.account, *labels), value)
                for scrape in scrapes
                for labels, value in metric.rows(scrape)
            ],
        )


def _of_queue(rows: Callable[["Summary"], Iterable[Row]]) -> Callable[["Scrape"], Iterable[Row]]:
    """Leave the rows out where the queue could not be read."""
    return lambda scrape: rows(scrape.outcome.summary) if scrape.outcome.summary else ()


def _age(now: float, created: float | None) -> float:
    return 0.0 if created is None else max(0.0, now - created)


QUEUE_LENGTH = Metric(
    "nextmv_account_queue_length",
    "Runs in the account's queue.",
    "gauge",
    ("account", "status_v2", "execution_class", "application_id"),
    _of_queue(lambda summary: summary.length.items()),
)
OLDEST_AGE = Metric(
    "nextmv_account_queue_oldest_queued_run_age_seconds",
    "Age of the oldest queued run, from its created_at; 0 where none is queued.",
    "gauge",
    ("account", "execution_class", "application_id"),
    _of_queue(
        lambda summary: (
            (backlog, _age(summary.now, created)) for backlog, created in summary.oldest.items()
        )
    ),
)
OLDEST_CREATED = Metric(
    "nextmv_account_queue_oldest_queued_run_created_timestamp_seconds",
    "Unix time of created_at of the oldest queued run; absent where none is queued.",
    "gauge",
    ("account", "execution_class", "application_id"),
    _of_queue(
        lambda summary: (
            (backlog, created) for backlog, created in summary.oldest.items() if created is not None
        )
    ),
)
OLDEST_RUNNING_AGE = Metric(
    "nextmv_account_queue_oldest_running_run_age_seconds",
    "Age of the oldest running run, from its created_at; 0 where none is running.",
    "gauge",
    ("account", "execution_class", "application_id"),
    _of_queue(
        lambda summary: (
            (backlog, _age(summary.now, created))
            for backlog, created in summary.oldest_running.items()
        )
    ),
)
WAIT = Metric(
    "nextmv_account_queue_wait_seconds",
    "How long the runs that are queued now have waited so far.",
    "gauge_histogram",
    ("account", "execution_class"),
    _of_queue(lambda summary: (((name,), waits) for name, waits in summary.waits.items())),
)
RUNS = Metric(
    "nextmv_account_queue_runs",
    "Runs in the account's queue by status; queued and running are always there.",
    "gauge",
    ("account", "status_v2"),
    _of_queue(lambda summary: (((status,), n) for status, n in summary.runs.items())),
)
MALFORMED_RUNS = Metric(
    "nextmv_account_queue_malformed_runs",
    "Runs in the queue with a missing, mistyped or unusable field.",
    "gauge",
    rows=_of_queue(lambda summary: (((), summary.malformed),)),
)
FOLDED_GROUPS = Metric(
    "nextmv_account_queue_folded_groups",
    'Label groups folded into application_id="__other__" by --queue.max-groups.',
    "gauge",
    rows=_of_queue(lambda summary: (((), summary.folded),)),
)
UP = Metric(
    "nextmv_up",
    "1 if this scrape read the account's queue, else 0.",
    "gauge",
    rows=lambda scrape: (((), float(scrape.outcome.summary is not None)),),
)
SCRAPE_DURATION = Metric(
    "nextmv_scrape_duration_seconds",
    "Time this scrape took to fetch, parse and summarise the account's queue.",
    "gauge",
    rows=lambda scrape: (((), scrape.outcome.duration),),
)
SOURCE_INFO = Metric(
    "nextmv_source_info",
    "1 for the source that the queue is read from.",
    "gauge",
    ("account", "source"),
    lambda scrape: (((scrape.outcome.source,), 1.0),),
)
SCRAPE_ERRORS = Metric(
    "nextmv_scrape_errors_total",
    "Scrapes of the account that failed, by reason.",
    "counter",
    ("account", "reason"),
    lambda scrape: (((reason,), n) for reason, n in scrape.counters.errors.items()),
)
API_REQUESTS = Metric(
    "nextmv_api_requests_total",
    'Requests sent to the Nextmv API, by HTTP status or "error" when no answer came.',
    "counter",
    ("account", "endpoint", "code"),
    lambda scrape: scrape.counters.requests.items(),
)
API_REQUEST_DURATION = Metric(
    "nextmv_api_request_duration_seconds",
    "Time from sending a request to the Nextmv API to the last byte of its answer.",
    "histogram",
    ("account", "endpoint"),
    lambda scrape: (((name,), times) for name, times in scrape.counters.request_times.items()),
)
RUNS_ENTERED = Metric(
    "nextmv_account_queue_runs_entered_total",
    "Runs seen in the queue for the first time.",
    "counter",
    ("account", "execution_class", "application_id"),
    lambda scrape: scrape.counters.entered.items(),
)
RUNS_STARTED = Metric(
    "nextmv_account_queue_runs_started_total",
    "Runs seen running for the first time.",
    "counter",
    ("account", "execution_class", "application_id"),
    lambda scrape: scrape.counters.started.items(),
)
RUNS_LEFT = Metric(
    "nextmv_account_queue_runs_left_total",
    "Runs that are no longer in the queue, by the status that they were last seen with.",
    "counter",
    ("account", "status_v2", "execution_class", "application_id"),
    lambda scrape: scrape.counters.left.items(),
)
START_WAIT = Metric(
    "nextmv_account_queue_start_wait_seconds",
    "How long runs had waited when they started, to within half a scrape interval.",
    "histogram",
    ("account", "execution_class"),
    lambda scrape: (((name,), waits) for name, waits in scrape.counters.start_waits.items()),
)
BUILD_INFO = Metric(
    "nextmv_exporter_build_info",
    "1, with the version, source revision and Python version of the exporter as labels.",
    "gauge",
    ("version", "revision", "pythonversion"),
)

OF_ACCOUNTS: tuple[Metric, ...] = (
    QUEUE_LENGTH,
    OLDEST_AGE,
    OLDEST_CREATED,
    OLDEST_RUNNING_AGE,
    WAIT,
    RUNS,
    MALFORMED_RUNS,
    FOLDED_GROUPS,
    RUNS_ENTERED,
    RUNS_STARTED,
    RUNS_LEFT,
    START_WAIT,
    UP,
    SCRAPE_DURATION,
    SOURCE_INFO,
    SCRAPE_ERRORS,
    API_REQUESTS,
    API_REQUEST_DURATION,
)
METRICS: tuple[Metric, ...] = (*OF_ACCOUNTS, BUILD_INFO)

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of `nextmv_api_request_duration_seconds`, seconds."""

RECENT = 300.0
"""Seconds for which the status page is shown arrivals and starts."""

Key = TypeVar("Key", Backlog, Group)
RecentFlow = tuple[float, Mapping[str, int], Mapping[str, int]]  # when, entered, started


@dataclass(frozen=True)
class Counters:
    """What an account's scrapes have counted so far.

    Args:
        errors: failed scrapes, by reason.
        requests: requests sent, by endpoint and code.
        request_times: durations of requests, by endpoint.
        entered: runs that entered the queue.
        started: runs that started.
        left: runs that left the queue, by the status that they were last seen with.
        start_waits: waits of the runs that started, by execution class.
        recent: times, unix seconds, with the runs entered and started by execution class.
    """

    errors: Mapping[str, int]
    requests: Mapping[tuple[str, str], int]
    request_times: Mapping[str, Distribution]
    entered: Mapping[Backlog, int]
    started: Mapping[Backlog, int]
    left: Mapping[Group, int]
    start_waits: Mapping[str, Distribution]
    recent: Sequence[RecentFlow]

    def recent_flow(self, now: float) -> Mapping[str, tuple[int, int]]:
        """Sum up what happened in the last `RECENT` seconds.

        Args:
            now: unix seconds.

        Returns:
            Runs entered and started, by execution class.
        """
        recent = [flow for flow in self.recent if now - flow[0] <= RECENT]
        entered: Counter[str] = Counter()
        started: Counter[str] = Counter()
        for _, entered_then, started_then in recent:
            entered.update(entered_then)
            started.update(started_then)
        return {name: (entered[name], started[name]) for name in sorted(entered | started)}


class _Histogram:
    """Counts observations.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> Distribution:
        *buckets, count = accumulate(self._counts)
        return Distribution(self._bounds, buckets, count, self._sum)


class AccountMetrics:
    """The counters of an account. Not safe to use from several threads at once.

    Args:
        account: the account's name.
        wait_buckets: upper bounds of the histogram of waits, seconds, ascending.
        max_groups: most label sets of a counter; what comes beyond is counted as `__other__`.
    """

    def __init__(self, account: str, *, wait_buckets: Sequence[float], max_groups: int) -> None:
        self.account = account
        self._wait_buckets = wait_buckets
        self._max_groups = max_groups
        self._errors = {reason.value: 0 for reason in Reason}
        self._requests: Counter[tuple[str, str]] = Counter()
        self._request_times: dict[str, _Histogram] = {}
        self._entered: Counter[Backlog] = Counter()
        self._started: Counter[Backlog] = Counter()
        self._left: Counter[Group] = Counter()
        self._start_waits: dict[str, _Histogram] = {}
        self._recent: deque[RecentFlow] = deque()

    def count_error(self, reason: Reason) -> None:
        """Count a failed scrape.

        Args:
            reason: why it failed.
        """
        self._errors[reason.value] += 1

    def observe_request(self, endpoint: str, code: str, seconds: float) -> None:
        """Count a request to the API.

        Args:
            endpoint: the path requested, without IDs.
            code: HTTP status, or `error`.
            seconds: how long it took.
        """
        self._requests[endpoint, code] += 1
        times = self._request_times.setdefault(endpoint, _Histogram(REQUEST_BUCKETS))
        times.observe(seconds)

    def add_flow(self, change: "Change") -> None:
        """Count what happened between two snapshots.

        Args:
            change: what happened.
        """
        for group in change.groups:
            if group not in self._left and (group := self._group(group)) not in self._left:
                self._add_group(group)
        entered, started = self._bounded(change.entered), self._bounded(change.started)
        self._entered.update(entered)
        self._started.update(started)
        for group, number in change.left.items():
            self._left[self._group(group)] += number
        for execution_class, waits in change.waits.items():
            known = execution_class in self._start_waits
            histogram = self._start_waits_of(execution_class if known else OTHER)
            for wait in waits:
                histogram.observe(wait)
        while self._recent and change.now - self._recent[0][0] > RECENT:
            self._recent.popleft()
        if entered or started:
            self._recent.append((change.now, _by_class(entered), _by_class(started)))

    def copy(self) -> Counters:
        """Copy the counters, so that they can be written while others are counted.

        Returns:
            The counters as they are now.
        """
        return Counters(
            errors=dict(self._errors),
            requests=dict(self._requests),
            request_times={name: times.read() for name, times in self._request_times.items()},
            entered=dict(self._entered),
            started=dict(self._started),
            left=dict(self._left),
            start_waits={name: waits.read() for name, waits in self._start_waits.items()},
            recent=tuple(self._recent),
        )

    def _add_group(self, group: Group) -> None:
        """Report a group's counters from the start, at 0, so that `increase()` sees the first."""
        backlog = Backlog(*group[1:])
        self._entered[backlog] += 0
        self._started[backlog] += 0
        for status in (QUEUED, RUNNING, group.status_v2):
            self._left[Group(status, *backlog)] += 0
        self._start_waits_of(backlog.execution_class)

    def _bounded(self, backlogs: Mapping[Backlog, int]) -> Mapping[Backlog, int]:
        sums: Counter[Backlog] = Counter()
        for backlog, number in backlogs.items():
            sums[self._backlog(backlog)] += number
        return sums

    def _backlog(self, backlog: Backlog) -> Backlog:
        """Return the labels under which a backlog is counted."""
        if backlog in self._entered or len(self._entered) < self._max_groups:
            return backlog
        if backlog.execution_class in self._start_waits:
            return Backlog(backlog.execution_class, OTHER)
        return Backlog(OTHER, OTHER)

    def _group(self, group: Group) -> Group:
        """Return the labels under which runs that left are counted."""
        group = Group(group.status_v2, *self._backlog(Backlog(*group[1:])))
        usual = group.status_v2 in {QUEUED, RUNNING} or group in self._left
        if usual or len(self._left) < 4 * self._max_groups:
            return group
        return Group(OTHER, *group[1:])

    def _start_waits_of(self, execution_class: str) -> _Histogram:
        if execution_class not in self._start_waits:
            self._start_waits[execution_class] = _Histogram(self._wait_buckets)
        return self._start_waits[execution_class]


def _by_class(backlogs: Mapping[Backlog, int]) -> Mapping[str, int]:
    sums: Counter[str] = Counter()
    for backlog, number in backlogs.items():
        sums[backlog.execution_class] += number
    return sums
