"""`python -m exporter.demo`: the simulated account alone, for looking at it from outside."""

import contextlib
import threading
import time

import click

from exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator, StandingAccount
from exporter.demo.catalogue import EXECUTION_CLASSES


@click.command()
@click.option("--port", default=0, help="Port on 127.0.0.1; a free one by default.")
@click.option("--seed", default=1, help="Determines every run.")
@click.option("--runs", type=int, help="Serve a queue of this many runs that stands still.")
@click.option("--applications", default=6, help="How many applications have those runs.")
@click.option(
    "--stuck",
    multiple=True,
    type=click.Choice([each.name for each in EXECUTION_CLASSES]),
    help="Execution class whose runs never end. Repeatable.",
)
def main(port: int, seed: int, runs: int | None, applications: int, stuck: tuple[str, ...]) -> None:
    """Serve a simulated Nextmv account, and print its URL and API key."""
    if runs is None:
        api = DemoAPI({DEMO_KEY: Simulator(seed=seed, start=time.time(), stuck=stuck)})
    else:
        standing = StandingAccount(runs, at=time.time(), applications=applications, seed=seed)
        api = DemoAPI({DEMO_KEY: standing})
    with DemoServer(api, port) as server:
        click.echo(f"{server.url} {DEMO_KEY}")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
