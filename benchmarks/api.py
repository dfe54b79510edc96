"""`python -m benchmarks.api`: the demo's account as the API, which counts the queue's requests."""

import asyncio
import sys
import time

import click
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount


class CountingAPI:
    """ASGI application that counts the requests for the queue, and reports them at `/requests`.

    Args:
        api: the application that responds to them.
        hold: seconds to wait before each response.
    """

    def __init__(self, api: DemoAPI, hold: float) -> None:
        self._api = api
        self._hold = hold
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        if scope["path"] == "/requests":
            await PlainTextResponse(str(self._requests))(scope, receive, send)
            return
        self._requests += 1
        await asyncio.sleep(self._hold)
        await self._api(scope, receive, send)


@click.command()
@click.option("--runs", required=True, type=int, help="Length of the queue.")
@click.option("--applications", required=True, type=int, help="How many have these runs.")
@click.option("--hold", default=0.0, help="Seconds to wait before each response.")
def main(runs: int, applications: int, hold: float) -> None:
    """Serve an unchanging queue until stdin ends, and print its URL."""
    account = StandingAccount(runs, at=time.time(), applications=applications)
    with DemoServer(CountingAPI(DemoAPI({DEMO_KEY: account}), hold)) as server:
        click.echo(server.url)
        sys.stdin.read()


if __name__ == "__main__":
    main()
