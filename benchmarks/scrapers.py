"""Many concurrent scrapers."""

from concurrent.futures import ThreadPoolExecutor
from statistics import median
from threading import Barrier

from benchmarks.programs import API, Program, api, connect, exporter, scrape
from benchmarks.rounds import percentile
from benchmarks.scale import Scale
from benchmarks.table import Row, Table, milliseconds

RUNS = 1_000
_SCRAPERS = (1, 10, 100)


def measure(scale: Scale) -> Table:
    """Scrape with increasing numbers of concurrent scrapers.

    Args:
        scale: how many rounds.

    Returns:
        Requests that reached the API for each round, and the scrapers' latency.
    """
    with api(RUNS) as queue, exporter(queue) as program:
        scrape(program)
        rows = [_row(queue, program, number, scale.rounds) for number in _SCRAPERS]
    return Table(
        f"Scrapers at the same moment, at {RUNS:,} runs",
        ("Scrapers", "API requests a round", "p50", "p99"),
        rows,
    )


def at_once(program: Program, number: int, rounds: int) -> list[float]:
    """Scrape with several clients that start each round together.

    Args:
        program: the exporter.
        number: how many clients.
        rounds: how often.

    Returns:
        Seconds of each scrape.
    """
    barrier = Barrier(number)

    def client() -> list[float]:
        connection = connect(program)
        seconds = []
        for _ in range(rounds):
            barrier.wait()
            seconds.append(scrape(program, connection))
        return seconds

    with ThreadPoolExecutor(number) as pool:
        clients = [pool.submit(client) for _ in range(number)]
        return [seconds for each in clients for seconds in each.result()]


def _row(queue: API, program: Program, number: int, rounds: int) -> Row:
    before = queue.requests()
    times = at_once(program, number, rounds)
    return (
        str(number),
        f"{(queue.requests() - before) / rounds:.1f}",
        milliseconds(median(times)),
        milliseconds(percentile(times, 99)),
    )
