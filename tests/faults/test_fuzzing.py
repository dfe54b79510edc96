"""Whatever bytes the API sends, the way from them to the exposition holds."""

import contextlib
import json
import threading
from collections.abc import Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markupsafe import escape
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.fake_api import KEY, RUN
from support.outcomes import ScrapedCollector, scrapes

from faults.fault_server import Conversation, FaultServer, answer
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.errors import InvalidResponseError, NextmvError
from nextmv_exporter.nextmv.failures import retry_after
from nextmv_exporter.nextmv.redaction import Redactor
from nextmv_exporter.scrape.counters import AccountMetrics
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.outcome import Outcome, Scrape
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot
from nextmv_exporter.web.landing import render

NOW = 1_795_428_000.0
BUCKETS = (5.0, 60.0, 3600.0)
ACCEPTS = {"": parse_text, "application/openmetrics-text; version=1.0.0": parse_openmetrics}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["queued", "RUNNING", "\0", '"', "\\", "\\n", "\n", "\r\n", "\u2028", "x" * 2000, ""]
)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | moments,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
fields = st.sampled_from(sorted(RUN))
runs = st.dictionaries(fields | texts, values | texts, max_size=8) | values
queues = st.lists(runs, max_size=12)


def through_the_line(body: bytes) -> list[float]:
    """From bytes to both expositions; gives the lengths of the groups."""
    queue = list(parse_queue(body))
    summary = summarise(take_snapshot(queue, NOW), wait_buckets=BUCKETS, max_groups=5)
    counters = AccountMetrics(wait_buckets=BUCKETS, max_groups=5).copy()
    scrape = Scrape(Outcome("default", "account-queue", 0.1, NOW, summary), counters)
    lengths: list[float] = []
    for accept, parse in ACCEPTS.items():
        exposed, _ = expose([ScrapedCollector([scrape])], accept=accept)
        families = list(parse(exposed.decode()))  # type: ignore[no-untyped-call]
        lengths = [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "nextmv_account_queue_length"
        ]
        assert sum(lengths) == len(queue)
    assert len(lengths) <= 5
    return lengths


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(queues)
def test_every_list_of_runs_comes_out_whole(entries: list[Any]) -> None:
    body = json.dumps({"runs": entries}).encode()
    assert sum(through_the_line(body)) == len(entries)


PIECES = (
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[" * 3000,
    b"NaN",
    b"1e9",
    b"\0",
    b"\xff",
    b",",
    b"\\ud800",
    b"",
)
MUTATIONS = 25


def mutations(body: bytes, random: Random) -> Iterator[bytes]:
    """The answer with bytes cut out, put in or changed; each change adds to those before."""
    mutated = bytearray(body)
    for _ in range(MUTATIONS):
        start = random.randrange(len(mutated) + 1)
        change = random.choice(PIECES) if random.random() < 0.7 else random.randbytes(3)
        mutated[start : start + random.randrange(6)] = change
        yield bytes(mutated)
        if random.random() < 0.5:
            mutated = bytearray(body)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(queues, st.randoms(use_true_random=False))
def test_thousands_of_mutated_answers_are_refused_or_come_out_whole(
    entries: list[Any], random: Random
) -> None:
    body = json.dumps({"runs": entries}).encode()
    for mutated in mutations(body, Random(random.getrandbits(64))):
        through_the_line_if_usable(mutated)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"runs": [{"created_at": "0001-01-01T00:00:00+23:59"}]}')
@example(b'{"runs": [{"status_v2": "queued", "created_at": "9999-12-31T23:59:59-23:59"}]}')
@example(b"[" * 100_000)
def test_any_bytes_are_refused_or_come_out_whole(body: bytes) -> None:
    through_the_line_if_usable(body)


def through_the_line_if_usable(body: bytes) -> None:
    with contextlib.suppress(InvalidResponseError):
        through_the_line(body)


class Talk:
    """An API that answers with these raw bytes, and a client that asks it."""

    def __init__(self) -> None:
        self.response = b""
        self.server = FaultServer(self._say)
        self.client = Client(KEY, self.server.url, timeout=5, max_response_bytes=100_000)

    def _say(self, conversation: Conversation) -> None:
        conversation.hear()
        conversation.say(self.response)


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    made = Talk()
    with made.server:
        yield made
        made.client.close()


head_lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.1 302 Found", b"HTTP/1.0 200", b"HTTP/9 999 \xff", b"ICY 200",
        b"HTTP/1.1 100 Continue", b"HTTP/1.1 204 No", b"HTTP/1.1 503 Busy", b"HTTP/1.1 -1 x",
        b"Content-Length: 5", b"Content-Length: -5", b"Content-Length: 5, 6",
        b"Content-Length: x", b"Content-Length: " + b"9" * 5000, b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked", b"Content-Encoding: gzip",
        b"Content-Encoding: deflate",
        b"Content-Encoding: gzip, gzip, gzip, gzip, gzip, gzip", b"Content-Encoding: \xff",
        b"Location: http://[", b"Location: //", b"Location: \xff\xfe", b"Location: http://a:b/",
        b"Retry-After: Mon, 32 Foo 99999 99:99:99 +9999999999", b"Retry-After: \xb2",
        b"Date: 0 0 0 0 0", b"Set-Cookie: a=b; expires=x; domain=\xff", b": x", b"X", b" y", b"\0",
        b"Connection: keep-alive", b"Connection: close", b"Content-Type: a/b; charset=x",
    ]
)  # fmt: skip
responses = st.builds(
    lambda lines, body: b"\r\n".join([*lines, b"", b""]) + body,
    st.lists(head_lines | st.binary(max_size=20), max_size=6).map(
        lambda lines: lines if lines and lines[0][:4] == b"HTTP" else [b"HTTP/1.1 200 OK", *lines]
    ),
    st.sampled_from([b"", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"-1\r\n", b"\x1f\x8b\x08\0"])
    | st.binary(max_size=50),
) | st.binary(max_size=60)


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(responses)
@example(answer(b"", "302 Found", Location="http://["))
def test_no_http_however_broken_raises_anything_unexpected(talk: Talk, response: bytes) -> None:
    talk.response = response
    told = ""
    try:
        talk.client.get("v1/account/queue")
    except NextmvError as error:
        told = str(error)
    assert KEY not in told


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional={"Retry-After": st.text(), "Date": st.text()}))
def test_no_retry_after_raises(headers: dict[str, str]) -> None:
    seconds = retry_after(headers)
    assert seconds is None or seconds >= 0


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1), st.text())
def test_a_redacted_text_never_holds_the_key(key: str, around: str) -> None:
    cleaned = Redactor(key).hide(around + key + around)
    assert key not in cleaned.replace("<redacted>", "\0")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(queues)
def test_the_landing_page_shows_every_queue(entries: list[Any]) -> None:
    body = json.dumps({"runs": entries}).encode()
    summary = summarise(take_snapshot(parse_queue(body), NOW), wait_buckets=BUCKETS, max_groups=5)
    [scrape] = scrapes(Outcome("default", "account-queue", 0.1, NOW, summary))
    seen: Any = {"default": SimpleNamespace(last=scrape)}
    page = render("/metrics", seen).encode().decode()
    for status, number in summary.runs.items():
        assert f'<dd data-status="{escape(status)}">{number}</dd>' in page


def test_the_line_is_safe_in_a_thread_of_little_stack() -> None:
    """Deep nesting is refused, not followed until the stack ends."""
    refused: list[Exception] = []

    def parse() -> None:
        for body in (b'{"runs": ' + b"[" * 1_000_000, b'{"runs":[{"a":' * 300_000):
            try:
                list(parse_queue(body))
            except InvalidResponseError as error:
                refused.append(error)

    previous = threading.stack_size(1024 * 1024)
    try:
        thread = threading.Thread(target=parse)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(previous)
    assert len(refused) == 2
