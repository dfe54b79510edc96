"""From a response's bytes to runs: what is read of them, what is refused, and what that costs."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_api import FakeAPI

from nextmv_exporter.nextmv.errors import InvalidResponseError
from nextmv_exporter.scrape.runs import (
    BYTES_PER_RUN,
    FEW_RUNS,
    Application,
    Page,
    Run,
    parse_page,
    parse_queue,
)

GOOD = {
    "status_v2": "queued",
    "execution_class": "8c16gb120m",
    "application_id": "routing",
    "created_at": "2026-11-23T10:00:00Z",
    "id": "run-1",
}
RUN = Run("queued", "8c16gb120m", "routing", datetime(2026, 11, 23, 10, tzinfo=UTC), "run-1")
texts = st.text(st.characters(codec="utf-8"), max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
).filter(lambda value: "Infinity" not in json.dumps(value))
entries = st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, anything)) | anything


def queue(*listed: Any) -> bytes:
    return json.dumps({"runs": listed}).encode()


def expected(entry: Any) -> Run:
    """What is known of a run, by the rules of the contract."""
    run = Run()
    for field in GOOD:
        value = entry.get(field) if isinstance(entry, dict) else None
        if isinstance(value, str) and field != "created_at":
            setattr(run, field, value)
    with suppress(AttributeError):
        [run.created_at] = [
            each.created_at for each in parse_queue(queue({"created_at": entry.get("created_at")}))
        ]
    return run


@given(st.lists(entries), st.sampled_from([parse_queue, lambda body: parse_page(body).runs]))
def test_each_entry_is_a_run_and_no_other_spoils_it(
    listed: list[Any], parse: Callable[[bytes], Sequence[Run]]
) -> None:
    assert parse(queue(*listed)) == [expected(entry) for entry in listed]
    assert parse(queue(GOOD, *listed, {**GOOD, "x": listed})) == [
        RUN,
        *map(expected, listed),
        RUN,
    ]


@pytest.mark.parametrize("value", [None, 7, True, [], {}, "never", "2026-02-30T00:00:00Z"])
def test_an_invalid_field_affects_that_field_alone(value: object) -> None:
    for field in GOOD:
        [run, other] = parse_queue(queue({**GOOD, field: value}, GOOD))
        lost = field == "created_at" or not isinstance(value, str)
        assert getattr(run, field) == (None if lost else value)
        setattr(run, field, getattr(RUN, field))
        assert run == other == RUN


NO_QUEUES = [
    b"", b"null", b"[]", b"7", b"{}", b'{"runs": null}', b'{"runs": {}}', b'{"runs": 7}', b"<html>",
    b'{"runs": [', b'{"runs": []}}', b'{"runs": [],}', b'{"runs": [{},]}', b'{"runs": [{} {}]}',
    b'{"runs": [{"id": "\xff"}]}', b'{"runs": [7, {"id": "\xff"}]}', b'{"runs": [NaN]}',
    b'{"runs": [{"x": Infinity}]}', b'{"runs": [{"name": "\\ud83d"}]}', b"[" * 1_000_000,
    b'{"runs":[' + b'{"":' * 1_000_000, b'{"runs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'\xef\xbb\xbf{"runs": []}', '{"runs": []}'.encode("utf-16"),
    b'{"runs": [], "next_page_token": 7}',
]  # fmt: skip


@pytest.mark.parametrize("body", NO_QUEUES, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_is_no_queue_is_an_invalid_response(
    body: bytes, kind: Callable[[bytes], bytes]
) -> None:
    caught: list[Exception] = []

    def parse() -> None:
        try:
            parse_queue(kind(body))
        except InvalidResponseError as error:
            caught.append(error)

    before = threading.stack_size(4 << 20)  # as in the program
    thread = threading.Thread(target=parse)
    thread.start()
    thread.join()
    threading.stack_size(before)
    assert len(caught) == 1


@given(st.lists(entries), st.integers(0), st.binary(max_size=3))
def test_a_body_that_is_cut_or_changed_gives_runs_or_the_one_error(
    listed: list[Any], at: int, by: bytes
) -> None:
    body = queue(*listed)
    at %= len(body) + 1
    for changed in (body[:at], body[:at] + by + body[at + 1 :], by):
        with suppress(InvalidResponseError):
            assert isinstance(parse_queue(changed), list)


def test_few_runs_may_be_of_any_size_but_many_may_not_be_tiny() -> None:
    assert len(parse_queue(queue(*[{}] * (FEW_RUNS - 1)))) == FEW_RUNS - 1
    wide = {**GOOD, "name": "x" * (BYTES_PER_RUN - 100)}
    assert len(parse_queue(queue(*[wide] * 2 * FEW_RUNS))) == 2 * FEW_RUNS
    tiny: Any
    for tiny in ({}, {"id": "1"}, 7, [], None):
        with pytest.raises(InvalidResponseError, match="too many"):
            parse_queue(queue(*[tiny] * 20 * FEW_RUNS))


@settings(max_examples=20)
@given(st.text('"\\{},x', min_size=1, max_size=60), st.sampled_from([[], [None, {"id": 7}]]))
def test_brackets_and_commas_in_texts_are_no_runs(text: str, bad: list[Any]) -> None:
    odd = json.dumps({**GOOD, "name": text * 5, "description": "x" * 50}).encode()
    body = (
        b'{"runs": [' + (odd + b",") * 2 * FEW_RUNS + json.dumps([*bad, GOOD]).encode()[1:] + b"}"
    )
    runs = parse_queue(body)
    assert len(runs) == 2 * FEW_RUNS + len(bad) + 1
    assert runs[0] == runs[-1] == RUN


def test_a_page_names_the_next_and_may_be_empty() -> None:
    applications = [Application("a"), Application("b")]
    bodies = {
        b'{"runs": [{}], "next_page_token": "b"}': Page([Run()], None, "b"),
        b'{"runs": [7], "next_page_token": "b"}': Page([Run()], None, "b"),
        b'{"items": [{"id": "a"}, {"id": "b", "x": 1}]}': Page(None, applications),
        b'{"items": null, "next_page_token": "c"}': Page(None, None, "c"),
        b'{"runs": null}': Page(),
        b"{}": Page(),
    }
    for body, page in bodies.items():
        assert parse_page(body) == page


@pytest.mark.parametrize(
    "body", [b"[]", b'{"items": [{}]}', b'{"items": [{"id": 7}]}', b'{"items": [7]}']
)
def test_an_application_without_an_id_could_hide_runs_so_the_list_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        parse_page(body)


# Memory

MIB = 1 << 20
SIZE = 12 * MIB
EMOJI = "😀".encode()
REAL = queue({**GOOD, "id": "run-#", "user_email": "planner@northwind.example", "name": "Daily",
              "application_instance_id": "production", "application_version_id": "v1",
              "description": "x" * 60, "status": "queued"})[10:-2] + b","  # fmt: skip
LEAST = json.dumps({**GOOD, "id": "#", "application_id": "#"}).encode() + b","
SHAPES = {
    "ordinary": (b'{"runs":[', REAL, b"{}]}", 4),
    "odd texts": (b'{"runs":[', REAL.replace(b"xxxx", EMOJI), b"{}]}", 4),
    "one bad run": (b'{"runs":[7,', REAL, b"{}]}", 4),
    "one bad field": (b'{"runs":[', REAL, b'{"id":7}]}', 4),
    "least": (b'{"runs":[', LEAST, b"{}]}", 8),
    "only bad runs": (b'{"runs":[', LEAST.replace(b'"queued"', b"7"), b"{}]}", 8),
    "tiny": (b'{"runs":[', b"{},", b"{}]}", 8),
    "numbers": (b'{"runs":[', b"0,", b"0]}", 8),
    "lists": (b'{"runs":[', b"[],", b"0]}", 8),
    "lists elsewhere": (b'{"x":[', b"[],", b'0],"runs":[]}', 8),
    "fields": (b'{"runs":[{"x":0,', b'"y#":0,', b'"z":0}]}', 8),
    "bad fields": (b'{"runs":[{"id":0,', b'"y#":0,', b'"z":0}]}', 8),
    "nested": (b'{"runs":', b"[", b"", 8),
    "wide text": (b'{"runs":[{"id":"', b"x", EMOJI + b'"}]}', 8),
    "escapes": (b'{"runs":[{"id":"', b"\\u00e9", b'"}]}', 8),
    "spaces": (b'{"runs":[', b" ", b"]}", 8),
}


@pytest.fixture(scope="module")
def scraped() -> Iterator[Callable[[bytes], dict[str, Any]]]:
    """Scrapes an account whose queue is this, and tells what that cost."""
    program = Path(__file__).parents[1] / "support" / "parsing_process.py"
    with (
        FakeAPI() as api,
        subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin
        assert process.stdout

        def measure(body: bytes) -> dict[str, Any]:
            assert process.stdin
            assert process.stdout
            api.answers(200, body)
            print(api.url, SIZE, file=process.stdin, flush=True)
            result: dict[str, Any] = json.loads(process.stdout.readline())
            return result

        yield measure
        process.stdin.close()


@pytest.mark.system
@pytest.mark.parametrize("shape", SHAPES)
def test_a_response_costs_a_bounded_multiple_of_its_size(
    shape: str, scraped: Callable[[bytes], dict[str, Any]]
) -> None:
    head, unit, tail, most = SHAPES[shape]
    times = (SIZE - len(head + tail)) // (len(unit) + 6 * unit.count(b"#"))
    numbers = count()
    units = (unit.replace(b"#", b"%d" % next(numbers)) for _ in range(times))
    cost = scraped(head + b"".join(units) + tail)
    assert "died" not in cost
    assert cost["peak"] < most * SIZE + 8 * MIB, cost
    assert cost["up"] or most == 8
    if most == 4:
        assert cost["runs"] > times
