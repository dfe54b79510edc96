"""`python -m nextmv_exporter.demo`: serve only the simulated account."""

import contextlib
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator, StandingAccount
from nextmv_exporter.demo.catalogue import EXECUTION_CLASSES
from nextmv_exporter.demo.simulator import Account


@click.command()
@click.option("--port", default=0, help="Port on 127.0.0.1; a free one by default.")
@click.option("--seed", default=1, help="Determines every run.")
@click.option("--runs", type=int, help="Serve a queue of this many runs that does not change.")
@click.option("--applications", default=6, help="How many applications have those runs.")
@click.option(
    "--stuck",
    multiple=True,
    type=click.Choice([each.name for each in EXECUTION_CLASSES]),
    help="Execution class whose runs never end. Repeatable.",
)
@click.option("--accounts", default=1, help="How many accounts, each with its own key.")
@click.option(
    "--config-file",
    type=click.Path(path_type=Path),
    help="Write a Nextmv configuration file with a profile for each account.",
)
@click.option(
    "--queue-removed",
    type=click.Choice(["404", "410"]),
    help="Status of v1/account/queue, as after its removal. SIGUSR1 removes and restores it.",
)
def main(  # noqa: PLR0913 - one for each option
    *,
    port: int,
    seed: int,
    runs: int | None,
    applications: int,
    stuck: tuple[str, ...],
    accounts: int,
    config_file: Path | None,
    queue_removed: str | None,
) -> None:
    """Serve simulated Nextmv accounts, and print the URL and the API keys."""

    def account(number: int) -> Account:
        now = time.time()
        if runs is None:
            return Simulator(seed=seed + number, start=now, stuck=stuck)
        return StandingAccount(runs, at=now, applications=applications, seed=seed + number)

    keys = [DEMO_KEY, *(f"{DEMO_KEY}{number}" for number in range(2, accounts + 1))]
    api = DemoAPI({key: account(number) for number, key in enumerate(keys)})
    api.queue_removed = int(queue_removed) if queue_removed else None
    _switch_on_signal(api, int(queue_removed or 404))
    with DemoServer(api, port) as server:
        if config_file:
            config_file.write_text(_configuration(server.url, keys), encoding="utf-8")
        click.echo(" ".join([server.url, *keys]))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _switch_on_signal(api: DemoAPI, status: int) -> None:
    """Remove the queue endpoint on SIGUSR1, and restore it on the next."""

    def switch(*_: object) -> None:
        api.queue_removed = status if api.queue_removed is None else None

    signal.signal(signal.SIGUSR1, switch)


def _configuration(url: str, keys: Sequence[str]) -> str:
    """Return a configuration as `nextmv configuration create` writes it, a profile for each key."""
    profiles = {
        f"demo-{number}": {"apikey": key, "endpoint": url} for number, key in enumerate(keys, 1)
    }
    return yaml.safe_dump(profiles)


if __name__ == "__main__":
    main()
