"""A simulated Nextmv account, served over real HTTP on a loopback port.

`nextmv-exporter --demo` scrapes it with its ordinary client and an ordinary key; tests and
benchmarks start it alone. Nothing runs when this package is imported:

    from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator

    api = DemoAPI({DEMO_KEY: Simulator(seed=1, start=time.time())})
    with DemoServer(api) as server:
        client = nextmv.cloud.Client(api_key=DEMO_KEY, url=server.url)
"""

from nextmv_exporter.demo.api import DEMO_KEY, DemoAPI
from nextmv_exporter.demo.server import DemoServer
from nextmv_exporter.demo.simulator import Simulator
from nextmv_exporter.demo.standing import StandingAccount

__all__ = ["DEMO_KEY", "DemoAPI", "DemoServer", "Simulator", "StandingAccount"]


# Stand-in until the parts are merged.
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nextmv_exporter.nextmv.credentials import Credentials


@contextmanager
def simulated_account() -> Iterator[Credentials]:
    """Serve a simulated account."""
    with DemoServer(DemoAPI({DEMO_KEY: Simulator(seed=1, start=time.time())})) as server:
        yield Credentials(DEMO_KEY, server.url)
