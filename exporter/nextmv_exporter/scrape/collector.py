"""From outcomes to metric families, as a custom collector of prometheus-client."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nextmv_exporter import __version__
from nextmv_exporter.scrape.metrics import BUILD_INFO, families
from nextmv_exporter.scrape.outcome import Scrape


class AccountsCollector(Collector):
    """Metrics of the accounts that one scrape read.

    It yields, for each account::

        nextmv_account_queue_length{account="default",status_v2="queued",…} 12.0
        nextmv_account_queue_oldest_queued_run_age_seconds{account="default",…} 95.2
        nextmv_up{account="default"} 1.0

    Args:
        scrapes: what the accounts' scrapes returned.
    """

    def __init__(self, scrapes: Sequence[Scrape]) -> None:
        self._scrapes = scrapes

    def collect(self) -> Iterator[Metric]:
        """Yield the families with the samples of these accounts only."""
        yield from families(self._scrapes)

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that registering collects nothing."""
        yield from families(())


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
