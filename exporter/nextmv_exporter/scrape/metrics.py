"""Define every metric once: its name, help, type and labels, and the source of its values.

Dashboards, alerts, the README's table and `docs/metrics.md` are checked against `METRICS`.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from prometheus_client.metrics_core import Metric as ClientMetric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from nextmv_exporter.scrape.outcome import Scrape
from nextmv_exporter.scrape.summary import Backlog, Distribution, Summary

Kind = Literal["gauge", "gauge_histogram", "counter", "histogram"]
Row = tuple[Sequence[str], Any]
"""Values of the labels after `account`, and of the series; a histogram's is a `Distribution`."""


@dataclass(frozen=True)
class Metric:
    """A metric as users see it.

    Args:
        name: its name, with `_total` if it is a counter.
        help: one sentence, as in the exposition.
        kind: its type.
        labels: names of its labels; if it is of accounts, `account` is the first.
        rows: returns the rows of this metric from an account's scrape.
    """

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ("account",)
    rows: Callable[[Scrape], Collection[Row]] = lambda _: ()

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
    """A metric family of prometheus-client whose samples are created only when they are accessed.

    Args:
        metric: its name, help, type and labels.
        accounts: names of accounts with the rows of each.
    """

    def __init__(self, metric: Metric, accounts: Sequence[tuple[str, Collection[Row]]]) -> None:
        self.metric = metric
        self.accounts = accounts
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
        for account, rows in self.accounts:
            for values, value in rows:
                labels = dict(zip(self.metric.labels, (account, *values), strict=True))
                if isinstance(value, Distribution):
                    yield from self._histogram_samples(labels, value)
                else:
                    yield Sample(self.metric.name, labels, float(value))

    def _histogram_samples(self, labels: dict[str, str], value: Distribution) -> Iterator[Sample]:
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


def families(scrapes: Sequence[Scrape]) -> Iterator[Family]:
    """Create the metric families of accounts.

    Args:
        scrapes: the result of each account's scrape; without any, the families have no samples.

    Yields:
        A family for each metric of `OF_ACCOUNTS`.
    """
    for metric in OF_ACCOUNTS:
        rows = [(scrape.outcome.account, metric.rows(scrape)) for scrape in scrapes]
        yield Family(metric, rows)


def _of_queue(rows: Callable[[Summary], Collection[Row]]) -> Callable[[Scrape], Collection[Row]]:
    """Return no rows for an account whose queue could not be read."""
    return lambda scrape: rows(scrape.outcome.summary) if scrape.outcome.summary else ()


def _by_name(values: Mapping[str, Any]) -> Collection[Row]:
    return [((name,), value) for name, value in values.items()]


def _ages(created: Mapping[Backlog, float | None], now: float) -> Collection[Row]:
    return [(b, 0.0 if t is None else max(0.0, now - t)) for b, t in created.items()]


GROUP = ("account", "status_v2", "execution_class", "application_id")
BACKLOG = ("account", "execution_class", "application_id")
CLASS = ("account", "execution_class")

OF_ACCOUNTS: tuple[Metric, ...] = (
    Metric(
        "nextmv_account_queue_length",
        "Runs in the account's queue.",
        "gauge",
        GROUP,
        _of_queue(lambda summary: summary.length.items()),
    ),
    Metric(
        "nextmv_account_queue_oldest_queued_run_age_seconds",
        "Age of the oldest queued run, from its created_at; 0 where none is queued.",
        "gauge",
        BACKLOG,
        _of_queue(lambda summary: _ages(summary.oldest, summary.now)),
    ),
    Metric(
        "nextmv_account_queue_oldest_queued_run_created_timestamp_seconds",
        "Unix time of created_at of the oldest queued run; absent where none is queued.",
        "gauge",
        BACKLOG,
        _of_queue(lambda summary: [(b, t) for b, t in summary.oldest.items() if t is not None]),
    ),
    Metric(
        "nextmv_account_queue_oldest_running_run_age_seconds",
        "Age of the oldest running run, from its created_at; 0 where none is running.",
        "gauge",
        BACKLOG,
        _of_queue(lambda summary: _ages(summary.oldest_running, summary.now)),
    ),
    Metric(
        "nextmv_account_queue_wait_seconds",
        "How long the runs that are queued now have waited so far.",
        "gauge_histogram",
        CLASS,
        _of_queue(lambda summary: _by_name(summary.waits)),
    ),
    Metric(
        "nextmv_account_queue_runs",
        "Runs in the account's queue by status; queued and running are always present.",
        "gauge",
        ("account", "status_v2"),
        _of_queue(lambda summary: _by_name(summary.runs)),
    ),
    Metric(
        "nextmv_account_queue_malformed_runs",
        "Runs in the queue with a missing, mistyped or invalid field.",
        "gauge",
        rows=_of_queue(lambda summary: [((), summary.malformed)]),
    ),
    Metric(
        "nextmv_account_queue_folded_groups",
        'Label groups folded into application_id="__other__" by --queue.max-groups.',
        "gauge",
        rows=_of_queue(lambda summary: [((), summary.folded)]),
    ),
    Metric(
        "nextmv_account_queue_runs_entered_total",
        "Runs seen in the queue for the first time.",
        "counter",
        BACKLOG,
        lambda scrape: scrape.counters.entered.items(),
    ),
    Metric(
        "nextmv_account_queue_runs_started_total",
        "Runs seen running for the first time.",
        "counter",
        BACKLOG,
        lambda scrape: scrape.counters.started.items(),
    ),
    Metric(
        "nextmv_account_queue_runs_left_total",
        "Runs that are no longer in the queue, by the status that they were last seen with.",
        "counter",
        GROUP,
        lambda scrape: scrape.counters.left.items(),
    ),
    Metric(
        "nextmv_account_queue_start_wait_seconds",
        "How long runs had waited when they started, to within half a scrape interval.",
        "histogram",
        CLASS,
        lambda scrape: _by_name(scrape.counters.start_waits),
    ),
    Metric(
        "nextmv_up",
        "1 if this scrape read the account's queue, else 0.",
        "gauge",
        rows=lambda scrape: [((), float(scrape.outcome.summary is not None))],
    ),
    Metric(
        "nextmv_scrape_duration_seconds",
        "Time this scrape took to fetch, parse and summarise the account's queue.",
        "gauge",
        rows=lambda scrape: [((), scrape.outcome.duration)],
    ),
    Metric(
        "nextmv_source_info",
        "1 for the source that the queue is read from.",
        "gauge",
        ("account", "source"),
        lambda scrape: [((scrape.outcome.source,), 1.0)],
    ),
    Metric(
        "nextmv_scrape_errors_total",
        "Scrapes of the account that failed, by reason.",
        "counter",
        ("account", "reason"),
        lambda scrape: _by_name(scrape.counters.errors),
    ),
    Metric(
        "nextmv_api_requests_total",
        'Requests sent to the Nextmv API, by HTTP status or "error" if no response was received.',
        "counter",
        ("account", "endpoint", "code"),
        lambda scrape: scrape.counters.requests.items(),
    ),
    Metric(
        "nextmv_api_request_duration_seconds",
        "Time from sending a request to the Nextmv API to the last byte of its response.",
        "histogram",
        ("account", "endpoint"),
        lambda scrape: _by_name(scrape.counters.request_times),
    ),
)
BUILD_INFO = Metric(
    "nextmv_exporter_build_info",
    "1, with the version, source revision and Python version of the exporter as labels.",
    "gauge",
    ("version", "revision", "pythonversion"),
)
METRICS: tuple[Metric, ...] = (*OF_ACCOUNTS, BUILD_INFO)
