"""What a response costs at most, whatever its shape, measured in a process of its own.

Within the limit of a response: four times that in memory, the response included, or 32 MiB if the
limit is lower; half a second in which other threads wait; and no more than 256 KiB of stack.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.malloc import IMAGE_MALLOC

MIB = 1024 * 1024
LIMIT = 24 * MIB
LOWER = (MIB // 2, MIB, 2 * MIB, 4 * MIB)
FLOOR = 32 * MIB
EMOJI = "\U0001f600".encode()
TESTS = Path(__file__).parents[1]

RUN = (
    b'{"id":"production-#","user_email":"planner@northwind.example","name":"Daily plan",'
    b'"description":"","created_at":"2026-11-23T10:00:00Z","application_id":"routing",'
    b'"application_instance_id":"production","application_version_id":"v1",'
    b'"execution_class":"6c9500mb870s","status":"queued","status_v2":"queued"},'
)
LEAST = (
    b'{"id":"#","status_v2":"queued","execution_class":"c","application_id":"a","created_at":'
    b'"2026-11-23T10:00:00Z"},'
)


class Measured:
    """The process that measures."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def cost(
        self, unit: bytes, head: bytes = b'{"runs":[', tail: bytes = b"{}]}", size: int = LIMIT
    ) -> dict[str, Any]:
        """What a response costs that consists of a unit repeated, its `#` numbered."""
        parts = {"head": head, "unit": unit, "tail": tail}
        encoded = {name: base64.b64encode(part).decode() for name, part in parts.items()}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(encoded | {"size": size}) + "\n")
        self._process.stdin.flush()
        cost: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "died" not in cost, cost
        assert cost["peak"] <= max(4 * size, FLOOR), cost
        assert cost["blocked"] <= 0.5, cost
        return cost


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    environment = os.environ | IMAGE_MALLOC | {"PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "support.parsing_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Measured(process)
        assert process.stdin
        process.stdin.close()


def test_an_ordinary_queue_costs_less_than_twice_its_response(measured: Measured) -> None:
    cost = measured.cost(RUN)
    assert cost["result"].endswith(" runs")
    assert cost["peak"] < 2 * LIMIT


@pytest.mark.parametrize(
    "unit",
    [
        LEAST,
        LEAST.replace(b'"#"', b'"#%s"' % EMOJI),
        LEAST.replace(b'"#"', b'"#%s"' % (b"x" * 2000 + EMOJI)),
        RUN.replace(b'"queued"', b"7"),
        RUN.replace(b"Daily plan", b"},{" * 10),
        RUN.replace(b'""', b'[{"id":"x"},{"id":"y"}]'),
    ],
    ids=["least", "wide", "long", "invalid", "text like a gap", "lists like the runs"],
)
def test_an_odd_queue_is_read_within_the_limits(measured: Measured, unit: bytes) -> None:
    assert measured.cost(unit)["result"].endswith(" runs")


@pytest.mark.parametrize(
    ("unit", "head", "tail"),
    [
        (b" " + b"[]," * 332, b'{"x":[', b'NaN],"runs":[]}'),
        (b"[],", b'{"runs":[', b"0]}"),
        (b"0,", b'{"runs":[', b"0]}"),
        (b"{},", b'{"runs":[', b"{}]}"),
        (b"{} ,", b'{"runs":[', b"{}]}"),
        (b'{"status_v2":"other"},', b'{"runs":[', b"{}]}"),
        (b"[", b'{"runs":', b""),
        (b'{"":', b'{"runs":[{"x":', b""),
        (b'{"x":' + b'{"":' * 6000 + b"1" + b"}" * 6001 + b",", b'{"runs":[', b"{}]}"),
        (b'{"runs":[{"a":', b"", b""),
        (b"},{", b'{"runs":[{"name":"', b'"}]}'),
        (b'\\"', b'{"runs":[{"name":"', b'"}]}'),
        (b"9", b'{"runs":[{"id":', b"}]}"),
        (b"x", b'{"runs":[{"id":"', EMOJI + b'"}]}'),
        (b"x", b'{"runs":[],"next_page_token":"', EMOJI + b'"}'),
        (LEAST.replace(b'"a"', b'"#"'), b'{"runs":[', b"{}]}"),
        (LEAST.replace(b'"a"', b'"#%s"' % (b"x" * 230 + EMOJI)), b'{"runs":[', b"{}]}"),
        (RUN, b'{"runs":[', b'{"id":"'),
    ],
    ids=lambda part: repr(part[:20]),
)
def test_a_hostile_response_is_refused_within_the_limits(
    measured: Measured, unit: bytes, head: bytes, tail: bytes
) -> None:
    result = measured.cost(unit, head, tail)["result"]
    assert not result.endswith(" runs"), result


fragments = st.sampled_from(
    [
        b"{}", b"[]", b'""', b"0", b"null", b"NaN", b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\",
        b'"id":"#"', b'"application_id":"#"', b'"status_v2":"queued"', b'"x":', b'"runs":[', EMOJI,
        b'{"id":"#","application_id":"#","execution_class":"#","status_v2":"#"},', b"},{", b'{"":',
        b'"created_at":"2026-11-23T10:00:00Z"', b"\\u0000", b"\xff", b"[{},{}]", RUN, LEAST,
    ]
)  # fmt: skip
units = st.builds(
    lambda parts, space, times: space.join(parts) * times + space,
    st.lists(fragments, min_size=1, max_size=12),
    st.sampled_from([b"", b" ", b"\n\t", b" " * 1000]),
    st.sampled_from([1, 2, 7, 100, 332, 997]),
)
heads = st.sampled_from(
    [b'{"runs":[', b'{"x":[', b'{"runs":[{"x":', b'{"runs":[{"id":"', b"[", b""]
)
aligned_heads = st.builds(lambda head, spaces: b" " * spaces + head, heads, st.integers(0, 1100))
tails = st.sampled_from([b"{}]}", b'0],"runs":[]}', b'"}]}', b"]}", b""])


@pytest.mark.parametrize("size", LOWER)
@pytest.mark.parametrize(
    ("unit", "head", "tail"),
    [
        (LEAST.replace(b'"a"', b'"#"'), b'{"runs":[', b"{}]}"),
        (LEAST.replace(b'"a"', b'"#%s"' % (b"x" * 230 + EMOJI)), b'{"runs":[', b"{}]}"),
        (LEAST.replace(b'"a"', b'"#%s"' % (b"x" * 400_000 + EMOJI)), b'{"runs":[', b"{}]}"),
        (b"x", b'{"runs":[{"id":"', EMOJI + b'"}]}'),
    ],
    ids=["groups", "wide labels", "long labels", "a long ID"],
)
def test_a_lower_limit_lowers_the_cost(
    measured: Measured, unit: bytes, head: bytes, tail: bytes, size: int
) -> None:
    measured.cost(unit, head, tail, size)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(units, aligned_heads, tails, st.sampled_from([*LOWER, LIMIT]))
def test_no_shape_costs_more(
    measured: Measured, unit: bytes, head: bytes, tail: bytes, size: int
) -> None:
    measured.cost(unit, head, tail, size)
