"""`python -m benchmarks`: measure, and print the figures in Markdown."""

import gzip
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

import click
import orjson

from benchmarks.programs import API, EXPORTER, MIB, SMALLEST, Program, queue_body, running

FEW, MANY = 6, 80
"""Applications: with 1,000 runs, 80 have about 300 groups."""

IMPORTS = "import prometheus_client, requests, pydantic"
LENGTH = re.compile(r"^nextmv_account_queue_length\{(.+)\} (\S+)$", re.MULTILINE)


@click.command()
@click.option("--small", is_flag=True, help="Only check in seconds that all works; no figures.")
def main(*, small: bool) -> None:
    """Measure the exporter; the exit status is 1 if a count is wrong, whatever the figures are."""
    faults = list(wrong_counts())
    click.echo(
        f"{os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}\n\n"
        "| figure | exporter | compared with | ratio | at most |\n|---|---|---|---|---|"
    )
    for name, ours, other, ratio, most in figures(small=small):
        click.echo(f"| {name} | {ours} | {other} | {ratio:.2f} | {most} |")
    for fault in faults:
        click.echo(f"wrong: {fault}", err=True)
    sys.exit(bool(faults))


def figures(*, small: bool) -> Iterator[tuple[str, str, str, float, float]]:
    """Measure; yield the name of each figure, both sides, their ratio and what is aimed at."""
    rounds, scrapes, longest = (1, 10, 1_000) if small else (7, 400, 100_000)
    for runs, most in ((10, 1.5), (1_000, 1.25)):
        api = API(queue_body(runs, MANY))
        with running(EXPORTER, api) as exporter, running(SMALLEST, api) as smallest:
            ours, other, ratio = in_turn(
                rounds,
                partial(exporter.cpu_of_a_scrape, scrapes),
                partial(smallest.cpu_of_a_scrape, scrapes),
            )
        yield f"CPU of a scrape of {runs:,} runs", ours, f"smallest exporter: {other}", ratio, most
    body = queue_body(longest, FEW)
    with running(EXPORTER, API(body)) as exporter:
        few = partial(exporter.cpu_of_a_scrape, max(1, scrapes // 80))
        ours, other, ratio = in_turn(rounds, few, partial(cpu_of_decoding, body))
    name = f"CPU of a scrape of {longest:,} runs, which includes reading them"
    yield name, ours, f"`orjson.loads` alone: {other}", ratio, 1.3
    peak = median(peak_memory(body) for _ in range(min(rounds, 3)))
    of_body = f"response: {len(body) / MIB:.1f} MiB"
    yield "peak memory of it, above idle", f"{peak / MIB:.1f} MiB", of_body, peak / len(body), 3
    idle = idle_memory() / MIB
    yield "memory at 1,000 runs", f"{idle:.1f} MiB", "48 MiB", idle / 48, 1
    ours, other, ratio = in_turn(2 * rounds, first_scrape, imports)
    yield "start to the end of the first scrape", ours, f"`{IMPORTS}`: {other}", ratio, 1.5


def in_turn(
    rounds: int, ours: Callable[[], float], other: Callable[[], float]
) -> tuple[str, str, float]:
    """Measure two things in turn, after once to warm up.

    Returns:
        The median of each in milliseconds, and the median of their ratios.
    """
    ours(), other()
    times = [(ours(), other()) for _ in range(rounds)]
    first, second = (f"{median(each) * 1000:.3g} ms" for each in zip(*times, strict=True))
    return first, second, median(mine / (its or 1) for mine, its in times)


def cpu_of_decoding(body: bytes) -> float:
    """Return the seconds of CPU that `orjson.loads` takes."""
    begin = time.thread_time()
    orjson.loads(body)
    return time.thread_time() - begin


def peak_memory(body: bytes) -> int:
    """Return the bytes by which a new exporter's memory grows in a scrape."""
    with running(EXPORTER, API(body)) as program:
        before = program.memory("VmRSS")
        program.scrape()
        return program.memory("VmHWM") - before


def idle_memory() -> int:
    """Return the bytes of memory of an exporter that was scraped some times."""
    with running(EXPORTER, API(queue_body(1_000, FEW))) as program:
        program.scrape(10)
        return program.memory("VmRSS")


def first_scrape() -> float:
    """Return the seconds from an exporter's start to the end of its first scrape."""
    api = API(queue_body(100, FEW))
    begin = time.perf_counter()
    with running(EXPORTER, api) as program:
        program.scrape()
        return time.perf_counter() - begin


def imports() -> float:
    """Return the seconds that Python takes with three imports."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - begin


def wrong_counts() -> Iterator[str]:
    """Check what is the same on every machine; yield what is wrong."""
    api = API(queue_body(1_000, MANY))
    with running(EXPORTER, api) as ours, running(SMALLEST, api) as smallest:
        if api.requests:
            yield f"{api.requests} requests before the first scrape"
        ours.scrape(5)
        if api.requests != 5:
            yield f"{api.requests} requests of 5 scrapes"
        lengths, expected = (lengths_of(program) for program in (ours, smallest))
        if lengths != expected or lengths.total() != 1_000:
            yield f"lengths of {lengths.total()} runs in {len(lengths)} of {len(expected)} groups"
    api = API(queue_body(10, FEW), hold=2)
    with running(EXPORTER, api) as ours, ThreadPoolExecutor(20) as scrapers:
        list(scrapers.map(ours.scrape, [1] * 20))
        if api.requests != 1:
            yield f"{api.requests} requests of 20 scrapes at once"


def lengths_of(program: Program) -> Counter[frozenset[str]]:
    """Scrape, and return the queue's lengths by their labels."""
    lengths: Counter[frozenset[str]] = Counter()
    for labels, value in LENGTH.findall(gzip.decompress(program.scrape()).decode()):
        lengths[frozenset(labels.split(",")) - {'account="default"'}] += int(float(value))
    return lengths


if __name__ == "__main__":
    main()
