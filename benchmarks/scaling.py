"""`python -m benchmarks.scaling`: what many accounts cost one exporter; run by hand.

Each account is scraped separately, as Prometheus scrapes the targets of `/sd`: once an interval,
the accounts spread evenly over it. The results are in docs/scaling.md.
"""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from threading import local
from urllib.parse import urlsplit

import click
import yaml

from benchmarks.programs import Program, listening

_SCRAPERS = 16


@contextmanager
def api(runs: int, applications: int) -> Iterator[tuple[str, str]]:
    """Serve an account that does not change.

    Args:
        runs: length of its queue.
        applications: how many applications have these runs.

    Yields:
        The URL and the key.
    """
    command = [sys.executable, "-m", "nextmv_exporter.demo"]
    command += [f"--runs={runs}", f"--applications={applications}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url, key = process.stdout.readline().split()
            yield url, key
        finally:
            process.kill()


@contextmanager
def exporter(accounts: int, url: str, key: str, source: str) -> Iterator[Program]:
    """Run an exporter of many accounts.

    Args:
        accounts: how many; all are the same account of the API.
        url: the API.
        key: the account's key.
        source: where the queues are read from.

    Yields:
        The exporter, listening.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        entry = {"apikey": key, "endpoint": url}
        file.write_text(yaml.safe_dump({f"account-{n}": dict(entry) for n in range(accounts)}))
        command = [sys.executable, "-m", "nextmv_exporter", "--web.listen-address=127.0.0.1:0"]
        command += [f"--nextmv.config-file={file}", "--nextmv.profile=*", "--nextmv.source", source]
        environment = {"HOME": folder, "PATH": os.environ["PATH"]}
        with listening(command, environment) as program:
            yield program


class Scraper:
    """Scraper of an exporter's accounts over connections that are kept alive.

    Args:
        program: the exporter.
    """

    def __init__(self, program: Program) -> None:
        self._address = urlsplit(program.url).netloc
        self._local = local()

    def scrape(self, account: int) -> float:
        """Scrape an account, and check that it was up.

        Args:
            account: its number.

        Returns:
            Seconds that it took.
        """
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._address, timeout=60)
        start = time.perf_counter()
        self._local.connection.request("GET", f"/metrics?account=account-{account}")
        body = self._local.connection.getresponse().read()
        assert f'nextmv_up{{account="account-{account}"}} 1.0'.encode() in body, body[-500:]
        return time.perf_counter() - start

    def rounds(self, accounts: int, interval: float, seconds: float) -> Sequence[float]:
        """Scrape all accounts once an interval, spread over it.

        Args:
            accounts: how many there are.
            interval: seconds between two scrapes of an account.
            seconds: for how long.

        Returns:
            Seconds from when each scrape was due until it was done.
        """
        start = time.perf_counter()
        due = [start + n * interval / accounts for n in range(int(accounts * seconds / interval))]

        def at(number: int) -> float:
            time.sleep(max(0.0, due[number] - time.perf_counter()))
            self.scrape(number % accounts)
            return time.perf_counter() - due[number]

        with ThreadPoolExecutor(_SCRAPERS) as pool:
            return list(pool.map(at, range(len(due))))


@click.group()
def main() -> None:
    """Measure what many accounts cost."""


@main.command()
@click.option("--accounts", default=[1000], multiple=True)
@click.option("--runs", default=1000)
@click.option("--interval", default=30.0)
@click.option("--seconds", default=60.0, help="After a first round that is not measured.")
def serve(accounts: Sequence[int], runs: int, interval: float, seconds: float) -> None:
    """Scrape a number of accounts at an interval, and report whether the exporter keeps up."""
    click.echo("| accounts | scrapes | median | 99 % | slowest | CPU of one core | memory |")
    click.echo("|---|---|---|---|---|---|---|")
    for number in accounts:
        with api(runs, 6) as (url, key), exporter(number, url, key, "account-queue") as program:
            scraper = Scraper(program)
            scraper.rounds(number, interval, interval)
            used, start = program.cpu(), time.perf_counter()
            took = scraper.rounds(number, interval, seconds)
            busy = (program.cpu() - used) / (time.perf_counter() - start)
            cuts = quantiles(took, n=100)
            memory = program.memory("VmHWM") / 2**20
        click.echo(
            f"| {number} | {len(took)} | {cuts[49] * 1000:.0f} ms | {cuts[98] * 1000:.0f} ms "
            f"| {max(took) * 1000:.0f} ms | {busy:.0%} | {memory:.0f} MiB |"
        )


@main.command()
@click.option("--runs", default=[0, 100, 1000, 10_000], multiple=True)
@click.option("--applications", default=6)
@click.option("--scrapes", default=200)
def cost(runs: Sequence[int], applications: int, scrapes: int) -> None:
    """Scrape as fast as possible, and report the CPU time of one scrape, by source."""
    click.echo("| runs | source | CPU of a scrape | median |")
    click.echo("|---|---|---|---|")
    for number in runs:
        for source in ("account-queue", "application-runs"):
            with api(number, applications) as (url, key), exporter(10, url, key, source) as program:
                scraper = Scraper(program)
                for account in range(20):
                    scraper.scrape(account % 10)
                used = program.cpu()
                took = [scraper.scrape(turn % 10) for turn in range(scrapes)]
                each = (program.cpu() - used) / scrapes
            median = quantiles(took, n=2)[0]
            click.echo(f"| {number} | `{source}` | {each * 1000:.1f} ms | {median * 1000:.1f} ms |")


if __name__ == "__main__":
    main()
