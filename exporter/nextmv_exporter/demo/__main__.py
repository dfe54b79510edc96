"""`python -m nextmv_exporter.demo`: serve only simulated accounts, for development."""

import contextlib
import signal
import threading
import time
from pathlib import Path

import click
import yaml

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator, StandingAccount
from nextmv_exporter.demo.simulator import Account


@click.command()
@click.option("--port", default=0, help="Port on 127.0.0.1; a free one by default.")
@click.option("--runs", type=int, help="Serve queues of this many runs that do not change.")
@click.option("--applications", default=6, help="How many applications have those runs.")
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
    runs: int | None,
    applications: int,
    accounts: int,
    config_file: Path | None,
    queue_removed: str | None,
) -> None:
    """Serve simulated Nextmv accounts, and print the URL and the API keys."""

    def account(number: int) -> Account:
        now = time.time()
        if runs is None:
            return Simulator(seed=number, start=now)
        return StandingAccount(runs, at=now, applications=applications, seed=number)

    def switch(*_: object) -> None:
        api.queue_removed = int(queue_removed or 404) if api.queue_removed is None else None

    keys = [DEMO_KEY, *(f"{DEMO_KEY}{number}" for number in range(2, accounts + 1))]
    api = DemoAPI({key: account(number) for number, key in enumerate(keys, 1)})
    if queue_removed:
        switch()
    signal.signal(signal.SIGUSR1, switch)
    with DemoServer(api, port) as server:
        if config_file:
            profiles = {
                f"demo-{number}": {"apikey": key, "endpoint": server.url}
                for number, key in enumerate(keys, 1)
            }
            config_file.write_text(yaml.safe_dump(profiles), encoding="utf-8")
        click.echo(" ".join([server.url, *keys]))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
