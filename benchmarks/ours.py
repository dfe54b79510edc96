"""The exporter's own way from a response's bytes to the exposition's."""

import time
from collections.abc import Iterator

from prometheus_client.registry import Collector

from nextmv_exporter.scrape.counters import AccountMetrics
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.metrics import Family, families
from nextmv_exporter.scrape.outcome import Outcome, Scrape
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot
from nextmv_exporter.scrape.target import ScrapeOptions

WAIT_BUCKETS = ScrapeOptions.wait_buckets
MAX_GROUPS = ScrapeOptions.max_groups


class Account(Collector):
    """An account whose queue is scraped again and again, as far as that needs no network."""

    def __init__(self) -> None:
        self._baseline: Baseline | None = None
        self._metrics = AccountMetrics(wait_buckets=WAIT_BUCKETS, max_groups=MAX_GROUPS)

    def exposition_of(self, body: bytes) -> bytes:
        """Do the work of a scrape from the API's response to its own.

        Args:
            body: a response of `v1/account/queue`.

        Returns:
            The metrics in the text format.
        """
        snapshot = take_snapshot(parse_queue(body), time.time())
        self._baseline, change = compare(self._baseline, snapshot)
        self._metrics.add_flow(change)
        summary = summarise(snapshot, wait_buckets=WAIT_BUCKETS, max_groups=MAX_GROUPS)
        outcome = Outcome("default", "account-queue", 0.1, time.time(), summary)
        self._scrape = Scrape(outcome, self._metrics.copy())
        exposition, _ = expose([self])
        return exposition

    def collect(self) -> Iterator[Family]:
        """Yield the families of the latest scrape, as a collector does."""
        yield from families([self._scrape])
