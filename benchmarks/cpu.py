"""CPU of a scrape over HTTP, compared with the smallest exporter that can be written in Python."""

import gzip
import http.client
from contextlib import closing
from statistics import median

from benchmarks.bodies import SMALL_APPLICATIONS
from benchmarks.programs import Program, api, connect, exporter, smallest_exporter
from benchmarks.rounds import ratio
from benchmarks.scale import Scale
from benchmarks.table import Table, milliseconds

SIZES = (10, 1_000)

_ROUNDS = 5
_HEADERS = {
    "Accept": "text/plain;version=0.0.4",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


def measure(scale: Scale) -> Table:
    """Measure the CPU of both processes in turn, which are scraped as Prometheus does.

    Args:
        scale: how many requests.

    Returns:
        CPU time of a scrape, and the ratio.
    """
    rows = []
    for runs in SIZES:
        with (
            api(runs, applications=SMALL_APPLICATIONS) as queue,
            exporter(queue) as ours,
            smallest_exporter(queue) as smallest,
        ):
            programs = {"exporter": ours, "smallest": smallest}
            with closing(connect(ours)) as connection:
                groups = _scrape(connection)
            for program in programs.values():
                _cpu(program, scale.requests)
            times: dict[str, list[float]] = {name: [] for name in programs}
            for _ in range(_ROUNDS):
                for name, program in programs.items():
                    times[name].append(_cpu(program, scale.requests))
        rows.append(
            (
                f"{runs:,}",
                str(groups),
                *(milliseconds(median(times[name])) for name in programs),
                f"{ratio(times, 'exporter', 'smallest'):.2f}",
            )
        )
    return Table(
        "CPU of a scrape over HTTP, all metrics, compared with the smallest exporter",
        ("Runs", "Groups", "Exporter", "Smallest exporter", "Ratio"),
        rows,
    )


def _cpu(program: Program, requests: int) -> float:
    """Scrape so many times on one connection, and return the CPU seconds of a scrape."""
    before = program.cpu()
    with closing(connect(program)) as connection:
        for _ in range(requests):
            _scrape(connection)
    return (program.cpu() - before) / requests


def _scrape(connection: http.client.HTTPConnection) -> int:
    """Scrape as Prometheus does, and return the number of groups."""
    connection.request("GET", "/metrics", headers=_HEADERS)
    groups = gzip.decompress(connection.getresponse().read()).count(
        b"\nnextmv_account_queue_length{"
    )
    assert groups
    return groups
