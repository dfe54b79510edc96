"""How much is measured: enough for reliable figures, or just enough to test the benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The size of a run of the benchmarks.

    Args:
        sizes: lengths of the queues, ascending.
        rounds: how often each thing is measured.
        requests: requests of each kind for the latency.
        idle: seconds over which the idle exporter is measured.
        install: whether to install into fresh virtual environments, which needs the network.
    """

    sizes: Sequence[int]
    rounds: int
    requests: int
    idle: float
    install: bool


FULL = Scale(sizes=(100, 1_000, 10_000, 100_000), rounds=15, requests=500, idle=60, install=True)
SMALL = Scale(sizes=(100, 1_000), rounds=3, requests=20, idle=2, install=False)
