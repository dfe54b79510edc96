"""Every metric, once: its name, help, type and labels, and how its samples come about.

Dashboards, alerts and the README's table are checked against `METRICS`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.by_account import ByAccount

if TYPE_CHECKING:
    from nextmv_exporter.scrape.outcome import Outcome
    from nextmv_exporter.scrape.summary import Summary

Kind = Literal["gauge", "gauge_histogram", "counter", "histogram"]
Samples = Iterable[tuple[Sequence[str], float]]


@dataclass(frozen=True)
class Metric:
    """A metric as users see it.

    Args:
        name: its name, with `_total` if it is a counter.
        help: one sentence, as in the exposition.
        kind: its type.
        labels: names of its labels.
    """

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ("account",)

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in the exposition."""
        if self.kind == "histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_count", "_sum"))
        if self.kind == "gauge_histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_gcount", "_gsum"))
        return (self.name,)


@dataclass(frozen=True)
class Gauge(Metric):
    """A gauge and the function that makes its samples.

    Args:
        samples: from an account's outcome to label values, without the account's, and values.
    """

    samples: Callable[["Outcome"], Samples] = lambda _: ()

    def family(self, outcomes: Iterable["Outcome"]) -> GaugeMetricFamily:
        """Make the metric family.

        Args:
            outcomes: what each account's scrape came to.

        Returns:
            The family with the samples of all accounts.
        """
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for outcome in outcomes:
            for labels, value in self.samples(outcome):
                family.add_metric((outcome.account, *labels), value)
        return family


def _of_queue(samples: Callable[["Summary"], Samples]) -> Callable[["Outcome"], Samples]:
    """Leave the samples out where the queue could not be read."""
    return lambda outcome: samples(outcome.summary) if outcome.summary else ()


def _age(now: float, created: float | None) -> float:
    return 0.0 if created is None else max(0.0, now - created)


QUEUE_LENGTH = Gauge(
    "nextmv_account_queue_length",
    "Runs in the account's queue.",
    "gauge",
    ("account", "status_v2", "execution_class", "application_id"),
    _of_queue(lambda summary: summary.length.items()),
)
OLDEST_AGE = Gauge(
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
OLDEST_CREATED = Gauge(
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
WAIT = Metric(
    "nextmv_account_queue_wait_seconds",
    "How long the runs that are queued now have waited so far.",
    "gauge_histogram",
    ("account", "execution_class"),
)
RUNS = Gauge(
    "nextmv_account_queue_runs",
    "Runs in the account's queue by status; queued and running are always there.",
    "gauge",
    ("account", "status_v2"),
    _of_queue(lambda summary: (((status,), n) for status, n in summary.runs.items())),
)
MALFORMED_RUNS = Gauge(
    "nextmv_account_queue_malformed_runs",
    "Runs in the queue with a missing, mistyped or unusable field.",
    "gauge",
    samples=_of_queue(lambda summary: (((), summary.malformed),)),
)
FOLDED_GROUPS = Gauge(
    "nextmv_account_queue_folded_groups",
    'Label groups folded into application_id="__other__" by --queue.max-groups.',
    "gauge",
    samples=_of_queue(lambda summary: (((), summary.folded),)),
)
UP = Gauge(
    "nextmv_up",
    "1 if this scrape read the account's queue, else 0.",
    "gauge",
    samples=lambda outcome: (((), float(outcome.summary is not None)),),
)
SCRAPE_DURATION = Gauge(
    "nextmv_scrape_duration_seconds",
    "Time this scrape took to fetch, parse and summarise the account's queue.",
    "gauge",
    samples=lambda outcome: (((), outcome.duration),),
)
SOURCE_INFO = Gauge(
    "nextmv_source_info",
    "1 for the source that the queue is read from.",
    "gauge",
    ("account", "source"),
    lambda outcome: (((outcome.source,), 1.0),),
)
SCRAPE_ERRORS = Metric(
    "nextmv_scrape_errors_total",
    "Scrapes of the account that failed, by reason.",
    "counter",
    ("account", "reason"),
)
API_REQUESTS = Metric(
    "nextmv_api_requests_total",
    'Requests sent to the Nextmv API, by HTTP status or "error" when no answer came.',
    "counter",
    ("account", "endpoint", "code"),
)
API_REQUEST_DURATION = Metric(
    "nextmv_api_request_duration_seconds",
    "Time from sending a request to the Nextmv API to the last byte of its answer.",
    "histogram",
    ("account", "endpoint"),
)
BUILD_INFO = Metric(
    "nextmv_exporter_build_info",
    "1, with the version, source revision and Python version of the exporter as labels.",
    "gauge",
    ("version", "revision", "pythonversion"),
)

GAUGES: tuple[Gauge, ...] = (
    QUEUE_LENGTH,
    OLDEST_AGE,
    OLDEST_CREATED,
    RUNS,
    MALFORMED_RUNS,
    FOLDED_GROUPS,
    UP,
    SCRAPE_DURATION,
    SOURCE_INFO,
)
OF_ACCOUNTS: tuple[Metric, ...] = (
    *GAUGES,
    WAIT,
    SCRAPE_ERRORS,
    API_REQUESTS,
    API_REQUEST_DURATION,
)
METRICS: tuple[Metric, ...] = (*OF_ACCOUNTS, BUILD_INFO)


def wait_family(
    outcomes: Iterable["Outcome"], bounds: Sequence[float]
) -> GaugeHistogramMetricFamily:
    """Make the family of the wait histogram.

    Args:
        outcomes: what each account's scrape came to.
        bounds: upper bounds of the buckets, seconds.

    Returns:
        The family with the samples of all accounts.
    """
    family = GaugeHistogramMetricFamily(WAIT.name, WAIT.help, labels=WAIT.labels)
    upper = [str(bound) for bound in bounds]
    for outcome in outcomes:
        if outcome.summary is None:
            continue
        for execution_class, waits in outcome.summary.waits.items():
            buckets = [*zip(upper, waits.buckets, strict=True), ("+Inf", waits.count)]
            family.add_metric((outcome.account, execution_class), buckets, waits.sum)
    return family


def _counter(metric: Metric) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=None)


def _histogram(metric: Metric) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, registry=None)


class Instruments:
    """The counters and histogram that outlive a scrape, of all accounts."""

    def __init__(self) -> None:
        self.scrape_errors = ByAccount(partial(_counter, SCRAPE_ERRORS))
        self.api_requests = ByAccount(partial(_counter, API_REQUESTS))
        self.api_request_duration = ByAccount(partial(_histogram, API_REQUEST_DURATION))

    def add_account(self, account: str) -> None:
        """Show every reason from the start, at 0.

        Args:
            account: the account's name.
        """
        for reason in Reason:
            self.scrape_errors.labels(account, reason.value)

    def remove_account(self, account: str) -> None:
        """Drop the series of an account that is not monitored any more.

        Args:
            account: the account's name.
        """
        for metric in (self.scrape_errors, self.api_requests, self.api_request_duration):
            metric.remove(account)

    def observe_request(self, account: str, endpoint: str, code: str, seconds: float) -> None:
        """Count a request to the API.

        Args:
            account: the account's name.
            endpoint: the path asked for, without IDs.
            code: HTTP status, or `error`.
            seconds: how long it took.
        """
        self.api_requests.labels(account, endpoint, code).inc()
        self.api_request_duration.labels(account, endpoint).observe(seconds)
