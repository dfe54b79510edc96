"""No answer costs more memory than is allowed, and none spoils the exposition."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from support.metrics import value, values

from faults import server
from faults.exposition import OPENMETRICS, assert_parseable, assert_promtool_reads
from faults.program import Program, program
from faults.server import FaultServer

MIB = 1 << 20
LIMIT = 4 * MIB
MAX_GROUPS = 500
RUN = {
    "id": "run-1",
    "created_at": "2026-11-23T10:00:00Z",
    "application_id": "routing",
    "execution_class": "large",
    "status_v2": "queued",
}


@pytest.fixture(scope="module")
def api() -> Iterator[FaultServer]:
    with FaultServer(server.serves(server.answer())) as running:
        yield running


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, api: FaultServer
) -> Iterator[Program]:
    limits = ("--nextmv.max-response-bytes", str(LIMIT), "--queue.max-groups", str(MAX_GROUPS))
    with program(
        tmp_path_factory.mktemp("limits"),
        *limits,
        "--queue.zero-retention",
        "0",
        NEXTMV_ENDPOINT=api.url,
    ) as exporter:
        exporter.scrape()
        yield exporter


TEN_GB = 10 * 10**9
HEAVY: dict[str, server.Fault] = {
    "a gzip bomb of 10 GB": server.bomb(TEN_GB),
    "a gzip bomb in a gzip": server.nested_bomb(10**9),
    "a body without end": server.endless,
    "one chunk without end": lambda peer: (
        peer.request(),
        peer.send(server.head(Transfer_Encoding="chunked"), b"fffffffff\r\n"),
        [peer.send(bytes(MIB)) for _ in range(10_000)],
    )[0] and None,
}


@pytest.mark.parametrize("fault", HEAVY)
def test_an_answer_that_is_too_large_is_cut_off_while_it_is_read(
    running: Program, api: FaultServer, fault: str
) -> None:
    api.fault = HEAVY[fault]
    before = running.scrape_errors("response_too_large")
    running.forget_peak()
    resident = running.resident()

    scrape = running.scrape()

    assert scrape.up() == 0
    assert scrape.errors("response_too_large") == before + 1
    assert running.peak() - resident < LIMIT + 12 * MIB
    assert "larger than 4194304 bytes" in running.log.splitlines()[-1]


REFUSED: dict[str, tuple[server.Fault, str]] = {
    "an error": (server.bomb(TEN_GB, "500 Oops"), "server_error"),
    "a redirect": (
        server.bomb(TEN_GB, "302 Found", Location="https://elsewhere.test/"),
        "redirect",
    ),
    "a limit": (server.bomb(TEN_GB, "429 Slow down"), "rate_limited"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_bomb_in_an_answer_that_is_refused_anyway_costs_little(
    running: Program, api: FaultServer, fault: str
) -> None:
    api.fault, reason = REFUSED[fault]
    running.forget_peak()
    resident = running.resident()

    scrape = running.scrape(30)

    assert scrape.up() == 0
    assert scrape.errors(reason) == 1
    assert running.peak() - resident < 12 * MIB


ENDLESS_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"X-Header: value\r\n" * 1000
LONG_HEADER = b"HTTP/1.1 200 OK\r\nX-Header: " + b"x" * MIB


@pytest.mark.parametrize("head", [ENDLESS_HEADERS, LONG_HEADER], ids=["many", "long"])
def test_headers_without_end_are_refused(
    running: Program, api: FaultServer, head: bytes
) -> None:
    def serve(peer: server.Peer) -> None:
        peer.request()
        peer.send(head)
        peer.hold()

    api.fault = serve

    scrape = running.scrape(20)

    assert scrape.up() == 0
    assert scrape.errors("timeout") == 0
    assert "Traceback" not in running.log


INVALID = {
    "deep nesting": b'{"runs": [' + b'{"a":[' * 100_000,
    "deep nesting, closed": b'{"runs": [{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    "deep nesting beside the runs": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "runs": []}',
    "invalid UTF-8": b'{"runs": [{"application_id": "\xff\xfe"}]}',
    "an overlong NUL": b'{"runs": [{"application_id": "\xc0\x80"}]}',
    "a number of 100,000 digits": b'{"runs": ' + b"9" * 100_000 + b"}",
    "nothing": b"",
    "only white space": b" " * 1000,
    "a BOM alone": b"\xef\xbb\xbf",
    "UTF-16 of something else": "[1, 2]".encode("utf-16"),
}


@pytest.mark.parametrize("body", INVALID)
def test_a_body_that_is_no_queue_is_an_invalid_response(
    running: Program, api: FaultServer, body: str
) -> None:
    api.fault = server.serves(server.answer(INVALID[body]))
    before = running.scrape_errors("invalid_response")

    scrape = running.scrape()

    assert scrape.up() == 0
    assert scrape.errors("invalid_response") == before + 1
    assert not values(scrape.text, "nextmv_account_queue_runs")
    assert "Traceback" not in running.log
    assert_promtool_reads(scrape.text)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


USABLE: dict[str, tuple[bytes, int, int]] = {
    # body, runs, of which malformed
    "a run that is a number": (b'{"runs": [1, %s]}' % json.dumps(RUN).encode(), 2, 1),
    "a run that is a list": (b'{"runs": [[], %s]}' % json.dumps(RUN).encode(), 2, 1),
    "runs of every type": (b'{"runs": [null, true, 1e400, -0.0, "x", [], {}]}', 7, 7),
    "NaN": (b'{"runs": [{"status_v2": NaN}, {"status_v2": Infinity}]}', 2, 2),
    "huge numbers": (b'{"runs": [{"status_v2": %s}, {"id": 1e999999}]}' % (b"9" * 4000), 2, 2),
    "duplicate keys": (b'{"runs": [1], "runs": [{"id": 1, "id": 2}]}', 1, 1),
    "fields of wrong types": (b'{"runs": [{"status_v2": [], "application_id": {"a": 1}}]}', 1, 1),
    "a nested field": (b'{"runs": [{"options": %s}]}' % nested(500), 1, 1),
    "absurd moments": (
        server.queue(
            *(
                RUN | {"created_at": moment}
                for moment in (
                    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
                    "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "now", "", "1" * 5000,
                    "2026-01-01T00:00:60Z", "\ud800", "9999-12-31T24:00:00Z",
                )
            )
        ),
        11,
        10,
    ),
}  # fmt: skip


@pytest.mark.parametrize("body", USABLE)
def test_a_bad_run_counts_and_spoils_nothing(
    running: Program, api: FaultServer, body: str
) -> None:
    content, runs, malformed = USABLE[body]
    api.fault = server.serves(server.answer(content))

    scrape = running.scrape()

    assert scrape.up() == 1
    assert sum(values(scrape.text, "nextmv_account_queue_length")) == runs
    assert value(scrape.text, "nextmv_account_queue_malformed_runs") == malformed
    assert_promtool_reads(scrape.text)


LABELS = {
    "newline": "a\nb",
    "carriage return": "a\rb\r\n",
    "quotes": '"a"=\'b\'',
    "backslashes": "\\n\\\\\\",
    "trailing backslash": "a\\",
    "braces": '{a="b"} 1 2 # {c="d"} 3',
    "NUL": "a\0b",
    "lone surrogates": "\ud800 and \udfff",
    "line separators": "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e",
    "controls": "\x01\x1b[31m\x7f\x9b",
    "direction marks": "\u202e\u200f",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "white space": " \t ",
    "a comment": "# HELP x y",
    "a megabyte": "x" * MIB,
    "a megabyte of astral signs": "\U0001f600" * (MIB // 4),
    "the end": "# EOF",
}


@pytest.mark.parametrize("label", LABELS)
def test_any_text_makes_a_label_that_every_parser_reads(
    running: Program, api: FaultServer, label: str
) -> None:
    hostile = LABELS[label]
    names = ("status_v2", "execution_class", "application_id")
    runs = [RUN | {name: hostile} for name in names]
    api.fault = server.serves(server.answer(server.queue(*runs, RUN)))

    scrape = running.scrape()
    openmetrics = requests.get(
        f"{running.url}/metrics", headers={"Accept": OPENMETRICS}, timeout=30
    ).text
    page = requests.get(running.url, timeout=30)

    assert scrape.up() == 1
    assert sum(values(scrape.text, "nextmv_account_queue_length")) == len(runs) + 1
    assert len(scrape.text) < 40_000
    assert_parseable(scrape.text, openmetrics)
    assert_promtool_reads(scrape.text)
    assert page.status_code == 200


def distinct(**labels: Any) -> bytes:
    return server.answer(server.queue(*({**RUN, **{k: f"{v}{i}" for k, v in labels.items()}}
                                        for i in range(20_000))))  # fmt: skip


def test_fifty_thousand_applications_stay_within_the_limit_of_groups(
    running: Program, api: FaultServer
) -> None:
    runs = [{"status_v2": "queued", "application_id": f"app{i}"} for i in range(50_000)]
    api.fault = server.serves(server.answer(server.queue(*runs)))

    scrape = running.scrape()

    lengths = values(scrape.text, "nextmv_account_queue_length")
    assert len(lengths) == MAX_GROUPS
    assert sum(lengths) == 50_000
    assert value(scrape.text, "nextmv_account_queue_folded_groups") == 50_001 - MAX_GROUPS
    assert_promtool_reads(scrape.text)


@pytest.mark.parametrize("name", ["status_v2", "execution_class"])
def test_so_do_twenty_thousand_of_any_other_label(
    running: Program, api: FaultServer, name: str
) -> None:
    api.fault = server.serves(distinct(**{name: "x"}))

    scrape = running.scrape()

    assert sum(values(scrape.text, "nextmv_account_queue_length")) == 20_000
    for metric in ("length", "oldest_queued_run_age_seconds", "runs", "wait_seconds_gcount"):
        assert len(values(scrape.text, f"nextmv_account_queue_{metric}")) <= MAX_GROUPS + 2
    assert_promtool_reads(scrape.text)
