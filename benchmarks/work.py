"""Work of a scrape, from the response's bytes to the exposition's, compared with alternatives."""

import json
from functools import partial
from statistics import median

import msgspec
import orjson

from benchmarks import ours, sdk_collector
from benchmarks.bodies import FEW_APPLICATIONS, MANY_APPLICATIONS, queue_body
from benchmarks.rounds import Times, interleave, ratio
from benchmarks.scale import Scale
from benchmarks.table import Row, Table, milliseconds

_GROUPS = {"few": FEW_APPLICATIONS, "many": MANY_APPLICATIONS}
_BESIDE = ("orjson.loads", "msgspec decode", "json.loads", "SDK collector")


def measure(scale: Scale) -> Table:
    """Time a scrape's work at each size, with few groups and with many.

    Args:
        scale: sizes and rounds.

    Returns:
        Milliseconds of the exporter, and how many times as long as each other thing it takes.
    """
    rows = []
    for groups, applications in _GROUPS.items():
        before = None
        for runs in scale.sizes:
            times = _times(queue_body(runs, applications), scale.rounds)
            rows.append(_row(runs, groups, times, before))
            before = times
    return Table(
        "Work of a scrape: the exporter's time, and how many times that of …",
        ("Runs", "Groups", "Exporter", *_BESIDE, "ten times fewer runs"),
        rows,
    )


def _times(body: bytes, rounds: int) -> Times:
    return interleave(
        {
            "exporter": partial(ours.Account().exposition_of, body),
            "orjson.loads": partial(orjson.loads, body),
            "msgspec decode": partial(msgspec.json.decode, body),
            "json.loads": partial(json.loads, body),
            "SDK collector": partial(sdk_collector.exposition_of, body),
        },
        rounds,
    )


def _row(runs: int, groups: str, times: Times, before: Times | None) -> Row:
    exporter = median(times["exporter"])
    return (
        f"{runs:,}",
        groups,
        milliseconds(exporter),
        *(f"{ratio(times, 'exporter', other):.2f}" for other in _BESIDE),
        f"{exporter / median(before['exporter']):.1f}" if before else "",
    )
