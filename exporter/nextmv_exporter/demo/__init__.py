"""A simulated Nextmv account, served over real HTTP on a loopback port.

`nextmv-exporter --demo` scrapes it with its ordinary client and an ordinary key. Tests and
benchmarks serve accounts of their own:

    from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator

    with DemoServer(DemoAPI({DEMO_KEY: Simulator(seed=1, start=time.time())})) as server:
        client = nextmv.cloud.Client(api_key=DEMO_KEY, url=server.url)
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from nextmv_exporter.demo.api import DEMO_KEY, DemoAPI, DemoServer
from nextmv_exporter.demo.simulator import Simulator, StandingAccount
from nextmv_exporter.nextmv.credentials import Credentials

__all__ = [
    "DEMO_KEY",
    "DemoAPI",
    "DemoServer",
    "Simulator",
    "StandingAccount",
    "simulated_account",
]


@contextmanager
def simulated_account() -> Iterator[Credentials]:
    """Serve a simulated account on a free port of 127.0.0.1, while the context lasts.

    Yields:
        What a client needs to read the account's queue.
    """
    with DemoServer(DemoAPI({DEMO_KEY: Simulator(seed=1, start=time.time())})) as server:
        yield Credentials(api_key=DEMO_KEY, url=server.url)
