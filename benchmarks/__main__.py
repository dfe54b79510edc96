"""`python -m benchmarks`: measure, and print the results in Markdown."""

import dataclasses
import importlib
import sys

import click

from benchmarks.scale import FULL, SMALL, Scale
from benchmarks.table import Table, surroundings

BENCHMARKS = ("work", "memory", "cpu", "latency", "scrapers", "start", "idle", "size", "counts")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--small", is_flag=True, help="At a small size, to see that all works; no figures.")
@click.option("--idle", type=float, help="Seconds over which the idle exporter is watched.")
def main(names: tuple[str, ...], *, small: bool, idle: float | None) -> None:
    """Run the benchmarks of these NAMES, or all.

    The exit status is 1 if a count that does not depend on the machine is out of its range.
    """
    scale = SMALL if small else FULL
    if idle is not None:
        scale = dataclasses.replace(scale, idle=idle)
    click.echo(f"{surroundings()}\n")
    faults: list[str] = []
    for name in names or BENCHMARKS:
        table = _measure(name, scale)
        click.echo(f"{table}\n")
        faults += table.faults
    for fault in faults:
        click.echo(fault, err=True)
    sys.exit(bool(faults))


def _measure(name: str, scale: Scale) -> Table:
    # Each is imported just before it runs, so that its imports do not affect the others' figures.
    table: Table = importlib.import_module(f"benchmarks.{name}").measure(scale)
    return table


if __name__ == "__main__":
    main()
