"""From outcomes to metric families, as a custom collector of prometheus-client."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import (
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nextmv_exporter import __version__
from nextmv_exporter.scrape.metrics import BUILD_INFO, GAUGES, Instruments, wait_family
from nextmv_exporter.scrape.outcome import Outcome

# `_created` series double the number of counters and tell nothing that rates need.
disable_created_metrics()  # type: ignore[no-untyped-call]


class AccountsCollector(Collector):
    """Metrics of the accounts that one scrape read.

    It yields, for each account::

        nextmv_account_queue_length{account="default",status_v2="queued",…} 12.0
        nextmv_account_queue_oldest_queued_run_age_seconds{account="default",…} 95.2
        nextmv_up{account="default"} 1.0

    Args:
        outcomes: what each account's scrape came to.
        instruments: the counters that outlive a scrape.
        wait_buckets: upper bounds of the wait histogram, seconds.
    """

    def __init__(
        self, outcomes: Sequence[Outcome], instruments: Instruments, wait_buckets: Sequence[float]
    ) -> None:
        self._outcomes = outcomes
        self._instruments = instruments
        self._wait_buckets = wait_buckets

    def collect(self) -> Iterator[Metric]:
        """Yield the families with the samples of these accounts only."""
        yield from self._gauges(self._outcomes)
        yield from self._counters([outcome.account for outcome in self._outcomes])

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that registering collects nothing."""
        yield from self._gauges(())
        yield from self._counters(())

    def _gauges(self, outcomes: Sequence[Outcome]) -> Iterator[Metric]:
        for gauge in GAUGES:
            yield gauge.family(outcomes)
        yield wait_family(outcomes, self._wait_buckets)

    def _counters(self, accounts: Sequence[str]) -> Iterator[Metric]:
        yield from self._instruments.scrape_errors.collect(accounts)
        yield from self._instruments.api_requests.collect(accounts)
        yield from self._instruments.api_request_duration.collect(accounts)


class ProcessMetricsCollector(Collector):
    """The exporter's own metrics: its build, its process, its Python."""

    def __init__(self) -> None:
        self._collectors = (ProcessCollector(registry=None), PlatformCollector(registry=None))

    def collect(self) -> Iterable[Metric]:
        """Yield `nextmv_exporter_build_info`, `process_*` and `python_info`."""
        build = GaugeMetricFamily(BUILD_INFO.name, BUILD_INFO.help, labels=BUILD_INFO.labels)
        revision = os.environ.get("NEXTMV_EXPORTER_REVISION", "unknown")
        build.add_metric((__version__, revision, platform.python_version()), 1)
        yield build
        for collector in self._collectors:
            yield from collector.collect()

    describe = collect
