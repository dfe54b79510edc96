"""The exporter's own way from a response's bytes to the exposition's."""

import time

from nextmv_exporter.scrape.collector import AccountsCollector
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.metrics import Instruments
from nextmv_exporter.scrape.outcome import Outcome
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import Summary, summarise

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
_instruments = Instruments()
_instruments.add_account("default")


def summary_of(body: bytes) -> Summary:
    """Parse and summarise as a scrape does.

    Args:
        body: an answer of `v1/account/queue`.

    Returns:
        The summary.
    """
    runs = parse_queue(body)
    return summarise(runs, time.time(), wait_buckets=WAIT_BUCKETS, max_groups=MAX_GROUPS)


def exposition_of(body: bytes) -> bytes:
    """Do all that a scrape does between the API's answer and its own.

    Args:
        body: an answer of `v1/account/queue`.

    Returns:
        The metrics in the text format.
    """
    outcome = Outcome(
        account="default",
        source="account-queue",
        duration=0.1,
        finished=time.time(),
        summary=summary_of(body),
    )
    exposition, _ = expose([AccountsCollector([outcome], _instruments, WAIT_BUCKETS)])
    return exposition
