"""`python -m benchmarks.accounts`: whether one exporter keeps up with many accounts; run by hand.

Each account is scraped separately, as Prometheus scrapes the targets of `/sd`: once an interval,
spread evenly over it. The figures are in docs/scaling.md.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from threading import local

import click
import yaml

from benchmarks.programs import API, EXPORTER, MIB, queue_body, running, scrape
from nextmv_exporter.demo import DEMO_KEY


@click.command()
@click.option("--accounts", default=1000)
@click.option("--runs", default=1000)
@click.option("--interval", default=30.0, help="Seconds between two scrapes of an account.")
@click.option("--rounds", default=3, help="The first is not measured.")
def main(accounts: int, runs: int, interval: float, rounds: int) -> None:
    """Scrape many accounts, and print how late the scrapes were and what they cost."""
    api = API(queue_body(runs, 6))
    own = local()

    def scrape_at(due: float, account: int) -> float:
        """Return the seconds from when a scrape was due until it was done."""
        time.sleep(max(0.0, due - time.perf_counter()))
        if not hasattr(own, "connection"):
            own.connection = program.connect()
        scrape(own.connection, f"/metrics?account=account-{account}")
        return time.perf_counter() - due

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(16) as scrapers:
        file = Path(folder) / "config.yaml"
        profile = {"apikey": DEMO_KEY, "endpoint": api.url}
        file.write_text(yaml.safe_dump({f"account-{n}": dict(profile) for n in range(accounts)}))
        with running(EXPORTER, api, NEXTMV_CONFIG_FILE=str(file), NEXTMV_PROFILE="*") as program:
            took: list[float] = []
            for number in range(rounds):
                if number == 1:
                    used, begin, took = program.cpu(), time.perf_counter(), []
                start = time.perf_counter()
                due = [start + n * interval / accounts for n in range(accounts)]
                took += scrapers.map(scrape_at, due, range(accounts))
            busy = (program.cpu() - used) / (time.perf_counter() - begin)
            memory = program.memory("VmHWM") / MIB
    cuts = quantiles(took, n=100)
    click.echo(
        f"{accounts} accounts of {runs} runs, {len(took)} scrapes: {cuts[49] * 1000:.0f} ms, "
        f"99 % {cuts[98] * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms; "
        f"{busy:.0%} of a core, {memory:.0f} MiB"
    )


if __name__ == "__main__":
    main()
