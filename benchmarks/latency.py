"""Latency of a scrape over HTTP, compared with only fetching the same queue."""

import time

import requests

from benchmarks.programs import api, connect, exporter, scrape
from benchmarks.rounds import percentile
from benchmarks.scale import Scale
from benchmarks.table import Table, milliseconds
from nextmv_exporter.demo import DEMO_KEY

RUNS = 1_000


def measure(scale: Scale) -> Table:
    """Time scrapes and bare requests in turn, each on a connection that is kept alive.

    Args:
        scale: how many requests.

    Returns:
        The least of each, which a busy machine disturbs least, the medians and the 99th
        percentiles.
    """
    bare, scrapes = [], []
    with api(RUNS) as queue, exporter(queue) as program, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {DEMO_KEY}"
        connection = connect(program)
        scrape(program, connection)
        for _ in range(scale.requests):
            start = time.perf_counter()
            session.get(queue.queue_url, timeout=60).raise_for_status()
            bare.append(time.perf_counter() - start)
            scrapes.append(scrape(program, connection))
    rows = [
        (
            name,
            milliseconds(percentile(bare, percent)),
            milliseconds(percentile(scrapes, percent)),
            milliseconds(percentile(scrapes, percent) - percentile(bare, percent)),
        )
        for name, percent in (("least", 0), ("p50", 50), ("p99", 99))
    ]
    return Table(
        f"Latency of a scrape over HTTP at {RUNS:,} runs",
        ("", "Bare requests.get of the queue", "Scrape", "More"),
        rows,
    )
