"""`python -m benchmarks`: measure, and print the figures in Markdown."""

import gzip
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import click

from benchmarks.programs import API, DECODER, EXPORTER, MIB, SMALLEST, Program, queue_body, running

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
        ours, smallest, ratio = cpu(queue_body(runs, MANY), SMALLEST, scrapes, rounds)
        name, other = f"CPU of a scrape of {runs:,} runs", f"smallest exporter: {smallest}"
        yield name, ours, other, ratio, most
    body = queue_body(longest, FEW)
    ours, decoder, ratio = cpu(body, DECODER, max(1, scrapes // 80), rounds)
    yield f"CPU of a scrape of {longest:,} runs", ours, f"`orjson.loads`: {decoder}", ratio, 1.3
    peak = median(peak_memory(body) for _ in range(min(rounds, 3)))
    of_body = f"response: {len(body) / MIB:.1f} MiB"
    yield "peak memory of it, above idle", f"{peak / MIB:.1f} MiB", of_body, peak / len(body), 3
    idle = idle_memory() / MIB
    yield "memory at 1,000 runs", f"{idle:.1f} MiB", "48 MiB", idle / 48, 1
    ours, imports, ratio = start(2 * rounds)
    yield "start to the end of the first scrape", ours, f"`{IMPORTS}`: {imports}", ratio, 1.5


def cpu(body: bytes, other: Sequence[str], scrapes: int, rounds: int) -> tuple[str, str, float]:
    """Compare the CPU of a scrape over HTTP, of the whole process, with that of another program."""

    def measure(program: Program) -> float:
        before = program.cpu()
        program.scrape(scrapes)
        return (program.cpu() - before) / scrapes

    api = API(body)
    with running(EXPORTER, api) as ours, running(other, api) as theirs:
        measure(ours), measure(theirs)  # to warm up
        return compared([(measure(ours), measure(theirs)) for _ in range(rounds)])


def compared(times: Sequence[tuple[float, float]]) -> tuple[str, str, float]:
    """Return the medians of two times in milliseconds, and the median of their ratios."""
    ours, theirs = (f"{median(each) * 1000:.3g} ms" for each in zip(*times, strict=True))
    return ours, theirs, median(ours / (theirs or 1) for ours, theirs in times)


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


def start(rounds: int) -> tuple[str, str, float]:
    """Compare the time from the start to the end of the first scrape with that of three imports."""
    api = API(queue_body(100, FEW))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        with running(EXPORTER, api) as program:
            program.scrape()
            scraped = time.perf_counter() - begin
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        times.append((scraped, time.perf_counter() - begin))
    return compared(times)


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
