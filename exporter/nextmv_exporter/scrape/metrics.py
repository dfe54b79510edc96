"""Define every metric once: its name, help, type and labels, and the source of its values.

Dashboards, alerts and `docs/metrics.md` are checked against `METRICS`.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

from prometheus_client.metrics_core import Metric as ClientMetric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from nextmv_exporter.scrape.counters import Distribution
from nextmv_exporter.scrape.outcome import Scrape
from nextmv_exporter.scrape.summary import Backlog, Summary

# Values by those of the labels after `account`: a tuple, or the text itself if there is a single
# label. The value of a histogram is a `Distribution`.
Values = Mapping[Any, Any]
# The values of the labels after `account`, always a tuple, and the value.
Row = tuple[Sequence[str], Any]

ACCOUNT = ("account",)
STATUS = ("account", "status_v2")
CLASS = ("account", "execution_class")
BACKLOG = ("account", "execution_class", "application_id")
GROUP = ("account", "status_v2", "execution_class", "application_id")

_NUMBERS_AND_UNITS = re.compile(r"(?:[0-9]+(?:[.,][0-9]+)*(?:d|h|min|m|s))+\Z")
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?:in)?)?(?:([0-9]{1,9})s)?"
)


class Metric(NamedTuple):
    """A metric as users see it.

    Args:
        name: its name, with `_total` if it is a counter.
        labels: names of its labels; if it is of accounts, `account` is the first.
        values: returns the values of this metric from an account's scrape.
        help: one sentence, as in the exposition; nothing in it needs escaping.
        kind: its type, in the words of OpenMetrics.
    """

    name: str
    labels: tuple[str, ...]
    values: Callable[[Scrape], Values]
    help: str
    kind: str = "gauge"

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in the exposition, in their order."""
        suffixes = ("_bucket", "_count", "_sum") if self.kind == "histogram" else ("",)
        return tuple(self.name + suffix for suffix in suffixes)

    def rows(self, scrape: Scrape) -> Collection[Row]:
        """Return the rows of this metric from an account's scrape."""
        rows = self.values(scrape).items()
        return [((key,), value) for key, value in rows] if len(self.labels) == 2 else rows


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
        name = self.metric.name
        for account, rows in self.accounts:
            for values, value in rows:
                labels = dict(zip(self.metric.labels, (account, *values), strict=True))
                if not isinstance(value, Distribution):
                    samples.append(Sample(name, labels, float(value)))
                    continue
                for le, number in zip(le_values(value.bounds), value.buckets, strict=True):
                    samples.append(Sample(f"{name}_bucket", {**labels, "le": le}, number))
                samples.append(Sample(f"{name}_count", labels, value.buckets[-1]))
                samples.append(Sample(f"{name}_sum", labels, value.sum))
        return samples


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
        yield Family(metric, [(each.outcome.account, metric.rows(each)) for each in scrapes])


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


def _queue(values: Callable[[Summary], Values]) -> Callable[[Scrape], Values]:
    """Return no values for an account whose queue could not be read."""
    return lambda scrape: values(scrape.outcome.summary) if scrape.outcome.summary else {}


def _ages(created: Mapping[Backlog, float | None], now: float) -> Values:
    return {b: 0.0 if time is None else max(0.0, now - time) for b, time in created.items()}


def _known(values: Values) -> Values:
    return {labels: value for labels, value in values.items() if value is not None}


def _waits(summary: Summary) -> Values:
    bounds = le_values(summary.wait_buckets)
    waits = summary.waits.items()
    return {(c, le): n for c, counts in waits for le, n in zip(bounds, counts, strict=True)}


def _max_run_seconds(scrape: Scrape) -> Values:
    """Also while the queue is unreadable, and for classes beyond the counters' limit."""
    summary = scrape.outcome.summary
    classes = scrape.counters.start_waits.keys() | (summary.waits if summary else {}).keys()
    return _known({each: max_run_seconds(each) for each in classes})


# fmt: off
# Here, `s` is a scrape, and `q` the summary of its queue.
OF_ACCOUNTS: tuple[Metric, ...] = (
    Metric("nextmv_account_queue_length", GROUP, _queue(lambda q: q.length),
           "Runs in the account's queue."),
    Metric("nextmv_account_queue_oldest_queued_run_age_seconds", BACKLOG,
           _queue(lambda q: _ages(q.oldest, q.now)),
           "Age of the oldest queued run, from its created_at; 0 if none is queued."),
    Metric("nextmv_account_queue_oldest_queued_run_created_timestamp_seconds", BACKLOG,
           _queue(lambda q: _known(q.oldest)),
           "Unix time of created_at of the oldest queued run; absent if none is queued."),
    Metric("nextmv_account_queue_oldest_running_run_age_seconds", BACKLOG,
           _queue(lambda q: _ages(q.oldest_running, q.now)),
           "Age of the oldest running run, from its created_at; 0 if none is running."),
    Metric("nextmv_account_queue_wait_seconds_bucket", (*CLASS, "le"), _queue(_waits),
           "Queued runs that have waited for at most le seconds so far; le=+Inf counts all.",
           "unknown"),
    Metric("nextmv_account_queue_runs", STATUS, _queue(lambda q: q.runs),
           "Runs in the account's queue by status; queued and running are always present."),
    Metric("nextmv_account_queue_malformed_runs", ACCOUNT, _queue(lambda q: {(): q.malformed}),
           "Runs in the queue with a missing, mistyped or invalid field."),
    Metric("nextmv_account_queue_folded_groups", ACCOUNT, _queue(lambda q: {(): q.folded}),
           "Label groups folded into application_id=__other__ by --queue.max-groups."),
    Metric("nextmv_account_queue_runs_entered_total", BACKLOG, lambda s: s.counters.entered,
           "Runs seen in the queue for the first time.", "counter"),
    Metric("nextmv_account_queue_runs_started_total", BACKLOG, lambda s: s.counters.started,
           "Runs seen running for the first time.", "counter"),
    Metric("nextmv_account_queue_runs_left_total", GROUP, lambda s: s.counters.left,
           "Runs that are no longer in the queue, by the status that they were last seen with.",
           "counter"),
    Metric("nextmv_account_queue_start_wait_seconds", CLASS, lambda s: s.counters.start_waits,
           "How long runs had waited when they started, to within half a scrape interval.",
           "histogram"),
    Metric("nextmv_account_queue_last_start_timestamp_seconds", CLASS,
           lambda s: s.counters.last_starts,
           "Unix time of the scrape that last saw a run of the execution class start."),
    Metric("nextmv_execution_class_max_run_seconds", CLASS, _max_run_seconds,
           "Longest time that a run of the execution class may take, from the end of its name."),
    Metric("nextmv_up", ACCOUNT, lambda s: {(): int(s.outcome.summary is not None)},
           "1 if this scrape read the account's queue, else 0."),
    Metric("nextmv_scrape_duration_seconds", ACCOUNT, lambda s: {(): s.outcome.duration},
           "Time this scrape took to fetch, parse and summarise the account's queue."),
    Metric("nextmv_source_info", ("account", "source"), lambda s: {s.outcome.source: 1},
           "1 for the source that the queue is read from."),
    Metric("nextmv_scrape_errors_total", ("account", "reason"), lambda s: s.counters.errors,
           "Scrapes of the account that failed, by reason.", "counter"),
    Metric("nextmv_api_requests_total", ("account", "path", "code"), lambda s: s.counters.requests,
           "Requests sent to the Nextmv API, by HTTP status, or error if no response came.",
           "counter"),
    Metric("nextmv_api_request_duration_seconds", ("account", "path"),
           lambda s: s.counters.request_times,
           "Time from sending a request to the Nextmv API to the last byte of its response.",
           "histogram"),
    Metric("nextmv_api_clock_offset_seconds", ACCOUNT,
           lambda s: _known({(): s.outcome.clock_offset}),
           "The API's clock, from the Date of its response, less the exporter's clock."),
)
BUILD_INFO = Metric(
    "nextmv_exporter_build_info", ("version", "revision", "pythonversion"), lambda _: {},
    "1, with the version, source revision and Python version of the exporter as labels.")
# fmt: on
METRICS: tuple[Metric, ...] = (*OF_ACCOUNTS, BUILD_INFO)
