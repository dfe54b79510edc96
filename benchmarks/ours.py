"""The exporter's own way from a response's bytes to the exposition's."""

import time

from nextmv_exporter.scrape.collector import AccountsCollector
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.metrics import AccountMetrics
from nextmv_exporter.scrape.outcome import Outcome, Scrape
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot

WAIT_BUCKETS = (
    5.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
)
MAX_GROUPS = 2000


class Account:
    """An account whose queue is scraped again and again, as far as that needs no network."""

    def __init__(self) -> None:
        self._baseline: Baseline | None = None
        self._metrics = AccountMetrics("default", wait_buckets=WAIT_BUCKETS, max_groups=MAX_GROUPS)

    def exposition_of(self, body: bytes) -> bytes:
        """Do all that a scrape does between the API's response and its own.

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
        exposition, _ = expose([AccountsCollector([Scrape(outcome, self._metrics.copy())])])
        return exposition
