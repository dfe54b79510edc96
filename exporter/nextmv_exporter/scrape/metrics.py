"""Define every metric once: its name, help, type and labels, and the source of its values.

Dashboards, alerts and `docs/metrics.md` are checked against `METRICS`.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from prometheus_client.metrics_core import Metric as ClientMetric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from nextmv_exporter.scrape.counters import Distribution
from nextmv_exporter.scrape.outcome import Scrape
from nextmv_exporter.scrape.summary import Backlog, Summary

Row = tuple[Sequence[str], Any]
"""Values of the labels after `account`, and of the series; a histogram's is a `Distribution`."""

ACCOUNT = ("account",)
CLASS = ("account", "execution_class")
BACKLOG = ("account", "execution_class", "application_id")
GROUP = ("account", "status_v2", "execution_class", "application_id")

_NUMBERS_AND_UNITS = re.compile(r"(?:[0-9]+(?:[.,][0-9]+)*(?:d|h|min|m|s))+\Z")
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?:in)?)?(?:([0-9]{1,9})s)?"
)


@dataclass(frozen=True)
class Metric:
    """A metric as users see it.

    Args:
        name: its name, with `_total` if it is a counter.
        labels: names of its labels; if it is of accounts, `account` is the first.
        help: one sentence, as in the exposition; nothing in it needs escaping.
        rows: returns the rows of this metric from an account's scrape.
        kind: its type, in the words of OpenMetrics.
    """

    name: str
    labels: tuple[str, ...]
    help: str
    rows: Callable[[Scrape], Collection[Row]] = lambda _: ()
    kind: str = "gauge"

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in the exposition, in their order."""
        suffixes = ("_bucket", "_count", "_sum") if self.kind == "histogram" else ("",)
        return tuple(self.name + suffix for suffix in suffixes)


class Family(ClientMetric):
    """A metric family of prometheus-client whose samples are created only when they are accessed.

    Args:
        metric: its name, help, type and labels.
        accounts: names of accounts with the rows of each.
    """

    def __init__(self, metric: Metric, accounts: Sequence[tuple[str, Collection[Row]]]) -> None:
        super().__init__(metric.name.removesuffix("_total"), metric.help, metric.kind)
        self.metric = metric
        self.accounts = accounts
        del self.samples  # of the base class, an empty list

    @cached_property
    def samples(self) -> list[Sample]:  # type: ignore[override]
        """The samples, as prometheus-client's own families have them."""
        samples = []
        for account, rows in self.accounts:
            for suffix, values, le, value in self.series(rows):
                labels = dict(zip(self.metric.labels, (account, *values), strict=True))
                labels |= {"le": le} if le else {}
                samples.append(Sample(self.metric.name + suffix, labels, float(value)))
        return samples

    def series(self, rows: Collection[Row]) -> Iterator[tuple[str, Sequence[str], str, float]]:
        """Yield the series of an account's rows.

        Args:
            rows: the rows.

        Yields:
            The suffix of the name, the values of the labels, that of `le` or "", and the value.
        """
        for values, value in rows:
            if not isinstance(value, Distribution):
                yield "", values, "", value
                continue
            numbers = (*value.buckets, value.count)
            for le, number in zip(le_values(value.bounds), numbers, strict=True):
                yield "_bucket", values, le, number
            yield "_count", values, "", value.count
            yield "_sum", values, "", value.sum


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


@lru_cache(8192)
def max_run_seconds(execution_class: str) -> float | None:
    """Read the longest time that a run may take from the name of its execution class.

    Args:
        execution_class: such as `6c9500mb870s`, `8c16gb120m` or `16c60gb12h`.

    Returns:
        Seconds; None if the name does not end in whole numbers of days, hours, minutes and
        seconds, in this order.
    """
    ending = _NUMBERS_AND_UNITS.search(execution_class)
    parts = _DURATION.fullmatch(ending[0]) if ending else None
    if not parts:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in parts.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds or None


def _queue(rows: Callable[[Summary], Collection[Row]]) -> Callable[[Scrape], Collection[Row]]:
    """Return no rows for an account whose queue could not be read."""
    return lambda scrape: rows(scrape.outcome.summary) if scrape.outcome.summary else ()


def _by_name(values: Mapping[str, Any]) -> Collection[Row]:
    return [((name,), value) for name, value in values.items()]


def _ages(created: Mapping[Backlog, float | None], now: float) -> Collection[Row]:
    return [(b, 0.0 if t is None else max(0.0, now - t)) for b, t in created.items()]


def _known(values: Mapping[Any, float | None]) -> Collection[Row]:
    return [(labels, value) for labels, value in values.items() if value is not None]


def _waits(summary: Summary) -> Collection[Row]:
    bounds = le_values(summary.wait_buckets)
    waits = summary.waits.items()
    return [
        ((c, le), number) for c, counts in waits for le, number in zip(bounds, counts, strict=True)
    ]


def _max_run_seconds(scrape: Scrape) -> Collection[Row]:
    """Also while the queue is unreadable, and for classes beyond the counters' limit."""
    summary = scrape.outcome.summary
    classes = {**scrape.counters.start_waits, **(summary.waits if summary else {})}
    return [((c,), seconds) for c in classes if (seconds := max_run_seconds(c)) is not None]


# fmt: off
OF_ACCOUNTS: tuple[Metric, ...] = (
    Metric("nextmv_account_queue_length", GROUP,
           "Runs in the account's queue.",
           _queue(lambda summary: summary.length.items())),
    Metric("nextmv_account_queue_oldest_queued_run_age_seconds", BACKLOG,
           "Age of the oldest queued run, from its created_at; 0 if none is queued.",
           _queue(lambda summary: _ages(summary.oldest, summary.now))),
    Metric("nextmv_account_queue_oldest_queued_run_created_timestamp_seconds", BACKLOG,
           "Unix time of created_at of the oldest queued run; absent if none is queued.",
           _queue(lambda summary: _known(summary.oldest))),
    Metric("nextmv_account_queue_oldest_running_run_age_seconds", BACKLOG,
           "Age of the oldest running run, from its created_at; 0 if none is running.",
           _queue(lambda summary: _ages(summary.oldest_running, summary.now))),
    Metric("nextmv_account_queue_wait_seconds_bucket", (*CLASS, "le"),
           "Queued runs that have waited for at most le seconds so far; le=+Inf counts all.",
           _queue(_waits), "unknown"),
    Metric("nextmv_account_queue_runs", ("account", "status_v2"),
           "Runs in the account's queue by status; queued and running are always present.",
           _queue(lambda summary: _by_name(summary.runs))),
    Metric("nextmv_account_queue_malformed_runs", ACCOUNT,
           "Runs in the queue with a missing, mistyped or invalid field.",
           _queue(lambda summary: [((), summary.malformed)])),
    Metric("nextmv_account_queue_folded_groups", ACCOUNT,
           "Label groups folded into application_id=__other__ by --queue.max-groups.",
           _queue(lambda summary: [((), summary.folded)])),
    Metric("nextmv_account_queue_runs_entered_total", BACKLOG,
           "Runs seen in the queue for the first time.",
           lambda scrape: scrape.counters.entered.items(), "counter"),
    Metric("nextmv_account_queue_runs_started_total", BACKLOG,
           "Runs seen running for the first time.",
           lambda scrape: scrape.counters.started.items(), "counter"),
    Metric("nextmv_account_queue_runs_left_total", GROUP,
           "Runs that are no longer in the queue, by the status that they were last seen with.",
           lambda scrape: scrape.counters.left.items(), "counter"),
    Metric("nextmv_account_queue_start_wait_seconds", CLASS,
           "How long runs had waited when they started, to within half a scrape interval.",
           lambda scrape: _by_name(scrape.counters.start_waits), "histogram"),
    Metric("nextmv_account_queue_last_start_timestamp_seconds", CLASS,
           "Unix time of the scrape that last saw a run of the execution class start.",
           lambda scrape: _by_name(scrape.counters.last_starts)),
    Metric("nextmv_execution_class_max_run_seconds", CLASS,
           "Longest time that a run of the execution class may take, from the end of its name.",
           _max_run_seconds),
    Metric("nextmv_up", ACCOUNT,
           "1 if this scrape read the account's queue, else 0.",
           lambda scrape: [((), int(scrape.outcome.summary is not None))]),
    Metric("nextmv_scrape_duration_seconds", ACCOUNT,
           "Time this scrape took to fetch, parse and summarise the account's queue.",
           lambda scrape: [((), scrape.outcome.duration)]),
    Metric("nextmv_source_info", ("account", "source"),
           "1 for the source that the queue is read from.",
           lambda scrape: [((scrape.outcome.source,), 1)]),
    Metric("nextmv_scrape_errors_total", ("account", "reason"),
           "Scrapes of the account that failed, by reason.",
           lambda scrape: _by_name(scrape.counters.errors), "counter"),
    Metric("nextmv_api_requests_total", ("account", "path", "code"),
           "Requests sent to the Nextmv API, by HTTP status, or error if no response came.",
           lambda scrape: scrape.counters.requests.items(), "counter"),
    Metric("nextmv_api_request_duration_seconds", ("account", "path"),
           "Time from sending a request to the Nextmv API to the last byte of its response.",
           lambda scrape: _by_name(scrape.counters.request_times), "histogram"),
    Metric("nextmv_api_clock_offset_seconds", ACCOUNT,
           "The API's clock, from the Date of its response, less the exporter's clock.",
           lambda scrape: _known({(): scrape.outcome.clock_offset})),
)
BUILD_INFO = Metric(
    "nextmv_exporter_build_info", ("version", "revision", "pythonversion"),
    "1, with the version, source revision and Python version of the exporter as labels.")
# fmt: on
METRICS: tuple[Metric, ...] = (*OF_ACCOUNTS, BUILD_INFO)
