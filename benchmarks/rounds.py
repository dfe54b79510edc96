"""Measure several things in turn, in rounds."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

Times = Mapping[str, Sequence[float]]


def interleave(work: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Take the CPU time of several pieces of work, one after the other in each round.

    The garbage collector runs as it does in any program, but what the benchmark itself
    has imported is kept out of its sight.

    Args:
        work: the pieces by name.
        rounds: how often each is done, after once to warm up.

    Returns:
        Seconds by name, one for each round.
    """
    for piece in work.values():
        piece()
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, piece in work.items():
            start = time.process_time()
            result = piece()
            times[name].append(time.process_time() - start)
            del result
    gc.unfreeze()
    return times


def ratio(times: Times, name: str, other: str) -> float:
    """Compare two pieces of work.

    Args:
        times: from `interleave`.
        name: the one.
        other: the other.

    Returns:
        How many times as long the one takes, as the median over the rounds.
    """
    return median(a / b for a, b in zip(times[name], times[other], strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """Find the value below which so many percent of the values lie.

    Args:
        values: at least one.
        percent: 0 to 100.

    Returns:
        The nearest of the values.
    """
    ordered = sorted(values)
    return ordered[round(percent / 100 * (len(ordered) - 1))]
