"""What the API sends costs a bounded amount of memory, and always comes out as valid metrics."""

import gzip
import json
import shutil
import subprocess
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.exporter import Process, exporter_process
from support.fake_api import RUN

from faults.fault_server import Conversation, FaultServer, answer, answers, queue
from faults.running_exporter import exporter_here, scrape

MIB = 1024 * 1024
FORMATS = {
    "text/plain": parse_text,
    "application/openmetrics-text; version=1.0.0": parse_openmetrics,
}


@cache
def bomb(gibibytes: int) -> list[bytes]:
    """A gzip stream of that many GiB of spaces, in pieces: it takes 1 MiB a GiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b'{"runs": [') + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the same text gives the same bytes again.
    block = packer.compress(b" " * 16 * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return [head] + [block] * (gibibytes * 64)


def serves_bomb(pieces: list[bytes], status: str = "200 OK", more: str = "") -> Any:
    def behave(conversation: Conversation) -> None:
        while conversation.hear():
            head = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n{more}Connection: close\r\n\r\n"
            conversation.say(head.encode())
            for piece in pieces:
                conversation.say(piece)
            return

    return behave


def peak_growth(exporter: Process, scrapes: int = 1) -> float:
    """How far memory rose above where it was, MiB."""
    before = exporter.resident_mib
    Path(f"/proc/{exporter.pid}/clear_refs").write_text("5")
    for _ in range(scrapes):
        scrape(exporter.address, 20)
    return exporter.status("VmHWM") / 1024 - before


@pytest.mark.parametrize("limit", ["4MiB", "64MiB"])
def test_a_gzip_bomb_costs_a_few_mebibytes_whatever_the_limit(limit: str) -> None:
    with (
        FaultServer(answers(queue())) as server,
        exporter_process(
            f"--nextmv.max-response-bytes={limit}", "--nextmv.timeout=20s", endpoint=server.url
        ) as exporter,
    ):
        assert scrape(exporter.address, 20).up  # so that all is imported that there is to import
        before = exporter.resident_mib
        server.behave = serves_bomb(bomb(10))
        server.close_connections()
        grown_at_most = peak_growth(exporter)
        answered = scrape(exporter.address, 20)
        grown = exporter.resident_mib - before

    assert answered.reasons == {"response_too_large"}
    assert answered.errors("response_too_large") == 2
    assert grown_at_most < 24
    assert grown < 24, "and gives the memory back"


@pytest.mark.parametrize(
    ("status", "more", "reason"),
    [
        ("500 Oh", "", "server_error"),
        ("302 Found", "Location: https://elsewhere.example/\r\n", "redirect"),
    ],
)
def test_a_gzip_bomb_behind_another_status_is_not_read(status: str, more: str, reason: str) -> None:
    with (
        FaultServer(serves_bomb(bomb(1), status, more)) as server,
        exporter_process(endpoint=server.url) as exporter,
    ):
        grown = peak_growth(exporter)
        answered = scrape(exporter.address, 20)

    assert answered.reasons == {reason}
    assert grown < 24


def test_a_gzip_bomb_inside_a_gzip_bomb_costs_no_more() -> None:
    body = gzip.compress(b"".join(bomb(1)), compresslevel=1)
    response = answer(body, Content_Encoding="gzip, gzip")
    with FaultServer(answers(response)) as server, exporter_here(server.url) as address:
        assert scrape(address, 20).reasons == {"response_too_large"}


def chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def plain_of(size: int) -> bytes:
    return b'{"runs": [' + b" " * size + b"]}"


@pytest.mark.parametrize(
    "response",
    [
        answer(plain_of(2 * MIB)),
        chunked(*[plain_of(MIB // 4)] * 8),
        answer(gzip.compress(plain_of(2 * MIB)), Content_Encoding="gzip"),
    ],
    ids=["plain", "chunked", "gzip"],
)
def test_a_response_over_the_limit_is_cut_off(response: bytes) -> None:
    with (
        FaultServer(answers(response)) as server,
        exporter_here(server.url, "--nextmv.max-response-bytes=1MiB") as address,
    ):
        assert scrape(address, 20).reasons == {"response_too_large"}


def test_a_response_of_exactly_the_limit_is_taken() -> None:
    body = b'{"runs": []}'
    with FaultServer(answers(answer(body), answer(body + b" "))) as server:
        flag = f"--nextmv.max-response-bytes={len(body)}"
        with exporter_here(server.url, flag) as address:
            assert scrape(address, 20).up
            assert scrape(address, 20).reasons == {"response_too_large"}


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_head_without_end_costs_no_memory(head: bytes) -> None:
    def babbles(conversation: Conversation) -> None:
        conversation.hear()
        conversation.say(head)
        for _ in range(200):
            conversation.say(b"x" * MIB)

    def babbles_in_many_headers(conversation: Conversation) -> None:
        conversation.hear()
        conversation.say(b"HTTP/1.1 200 OK\r\n")
        for _ in range(200):
            conversation.say(b"X: x\r\n" * 100_000)

    with (
        FaultServer(babbles) as server,
        exporter_process(endpoint=server.url) as exporter,
    ):
        grown = peak_growth(exporter)
        server.behave = babbles_in_many_headers
        grown += peak_growth(exporter)
        answered = scrape(exporter.address, 20)

    assert not answered.up
    assert grown < 40
    assert answered.reasons <= {"invalid_response", "connection"}


def text(value: str) -> bytes:
    return json.dumps({"runs": [{**RUN, "application_id": value}, RUN]}).encode()


HUGE = "9" * 10_000
UNPARSABLE = {
    "deep lists": b'{"runs": ' + b"[" * 200_000,
    "deep lists that end": b'{"runs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects in a run": b'{"runs": [{"x": ' + b'{"x": ' * 200_000,
    "invalid UTF-8": b'{"runs": [{"application_id": "\xff\xfe"}, {"status_v2": "queued"}]}',
    "no JSON": b"<html>",
    "nothing": b"",
    "a list": b"[]",
    "runs that are an object": b'{"runs": {}}',
    "runs that are null": b'{"runs": null}',
    "half": b'{"runs": [{"id": "run',
    "NaN": b'{"runs": [{"created_at": NaN}, {"status_v2": Infinity}]}',
    "lone surrogate": text("\ud800 \udfff"),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + text("x"),
    "two answers": b'{"runs": []}{"runs": []}',
    "no runs": b"{}",
}
ODD = {
    "huge integer": f'{{"runs": [{{"application_id": {HUGE}}}, {{}}]}}'.encode(),
    "huge integer beside": f'{{"x": {HUGE}, "runs": [{{"status_v2": 1}}, {{}}]}}'.encode(),
    "huge exponent": b'{"runs": [{"created_at": 1e999999}, {"created_at": -1e-999999}]}',
    "duplicate keys": b'{"runs": [1], "runs": [{"status_v2": "a", "status_v2": "b"}, {}]}',
    "numbers and lists": b'{"runs": [7, [1, [2]]]}',
    "null and text": b'{"runs": [null, "run"]}',
    "objects in fields": b'{"runs": [{"status_v2": {}, "application_id": []}, true]}',
    "newline": text("a\nb\n# TYPE nextmv_up counter\nnextmv_up 7"),
    "carriage return": text("a\rb\r\n"),
    "quotes": text('"},} 1\\"'),
    "backslashes": text("\\\\\\n\\"),
    "NUL": text("a\0b"),
    "surrogate pair": text("\U0001f600"),
    "line separators": text("a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1e"),
    "control characters": text("\x01\x02\x1b[31m\x7f\x9b"),
    "byte order mark": text("\ufeff"),
    "right to left": text("\u202egnp"),
    "a megabyte": text("x" * MIB),
    "a megabyte of quotes": text('"' * MIB),
    "non-characters": text("\uffff\ufffe\U0010ffff"),
    "spaces": text("  "),
    "braces": text("{}=,#"),
}


@pytest.fixture(scope="module")
def odd_answers() -> Any:
    """One exporter and one API for all odd answers; with time enough on a busy machine."""
    with (
        FaultServer(answers(queue())) as server,
        exporter_here(server.url, "--nextmv.timeout=60s") as address,
    ):
        yield server, address


def expositions(address: str) -> dict[str, str]:
    found = {}
    for accept in FORMATS:
        got = requests.get(f"http://{address}/metrics", headers={"Accept": accept}, timeout=30)
        assert got.status_code == 200
        got.encoding = "utf-8"
        found[accept] = got.text
    return found


def assert_valid(exposition: dict[str, str]) -> None:
    for accept, parse in FORMATS.items():
        assert list(parse(exposition[accept]))  # type: ignore[no-untyped-call]
    if shutil.which("promtool"):
        metrics = exposition["text/plain"].encode()
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=metrics, capture_output=True, check=False
        )
        # 3 is for matters of taste, such as names of the client library.
        assert checked.returncode in {0, 3}, checked.stderr.decode()
        assert b"error while linting" not in checked.stderr


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_runs_are_counted_and_the_metrics_stay_valid(body: bytes, odd_answers: Any) -> None:
    server, address = odd_answers
    server.behave = answers(answer(body))
    server.close_connections()
    exposition = expositions(address)

    assert_valid(exposition)
    lengths = [
        sample.value
        for family in parse_text(exposition["text/plain"])
        for sample in family.samples
        if sample.name == "nextmv_account_queue_length"
    ]
    assert sum(lengths) == 2


@pytest.mark.parametrize("body", UNPARSABLE.values(), ids=UNPARSABLE)
def test_an_unusable_answer_is_told_and_the_metrics_stay_valid(
    body: bytes, odd_answers: Any
) -> None:
    server, address = odd_answers
    server.behave = answers(answer(body))
    server.close_connections()
    before = scrape(address).errors("invalid_response")
    exposition = expositions(address)

    assert_valid(exposition)
    assert "nextmv_account_queue_length{" not in exposition["text/plain"]
    assert scrape(address).errors("invalid_response") == before + 3


def test_fifty_thousand_applications_stay_within_max_groups(odd_answers: Any) -> None:
    server, address = odd_answers
    runs = [{**RUN, "application_id": f"app-{n}"} for n in range(50_000)]
    server.behave = answers(queue(*runs))
    server.close_connections()
    answered = scrape(address, 60)
    samples = [
        sample
        for family in parse_text(answered.text)
        for sample in family.samples
        if sample.name == "nextmv_account_queue_length"
    ]

    assert answered.up
    assert len([sample for sample in samples if sample.value]) <= 2000
    assert sum(sample.value for sample in samples) == 50_000
    assert answered.value("nextmv_account_queue_folded_groups") == 50_000 - 1999
    assert len(answered.text) < 3 * MIB


def swarm(unit: bytes, size: int = 60 * MIB) -> bytes:
    return b'{"runs": [' + unit * (size // len(unit)) + b"0]}"


@pytest.mark.parametrize(
    "unit",
    [b"[],", b"0,", b"{},", b"[]," * 5 + b'"' + b"x" * 90 + b'",', b'{"status_v2":"other"},'],
    ids=["lists", "numbers", "objects", "lists and text", "tiny runs"],
)
def test_a_swarm_of_tiny_values_is_refused_before_it_costs_time_or_memory(unit: bytes) -> None:
    body = swarm(unit)
    with (
        FaultServer(answers(answer(body))) as server,
        exporter_process("--web.timeout-offset=5s", endpoint=server.url) as exporter,
    ):
        answered = scrape(exporter.address, 10)
        peak = exporter.status("VmHWM") / 1024

    assert answered.seconds < 10
    assert answered.reasons == {"invalid_response"}
    assert peak < 600, "MiB; as Python objects they would take thousands"
