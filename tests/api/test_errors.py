"""Each way in which a request can fail: its reason, and a line that says so without a secret."""

import copy
import pickle
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import pytest
import requests
import trustme
from faults.fault_server import Conversation, FaultServer, answer, answers
from hypothesis import given
from hypothesis import strategies as st
from support.fake_api import KEY, FakeAPI

from nextmv_exporter.nextmv import Client, errors
from nextmv_exporter.nextmv.client import MAX_RESPONSE_BYTES
from nextmv_exporter.nextmv.errors import NextmvError, Reason, StatusError
from nextmv_exporter.scrape.runs import parse_queue

QUEUE = "v1/account/queue"


def failure(url: str, max_response_bytes: int = MAX_RESPONSE_BYTES) -> NextmvError:
    with pytest.raises(NextmvError) as caught:
        parse_queue(Client(KEY, url, timeout=20, max_response_bytes=max_response_bytes).get(QUEUE))
    return caught.value


def assert_plain(error: NextmvError, reason: Reason, *parts: str) -> None:
    """The error's message is a short printable line that holds these parts and no secret."""
    message = str(error)
    assert error.reason is reason, message
    assert message.isprintable()
    assert len(message) < 500
    assert KEY not in message
    assert KEY not in repr(error)
    for part in parts:
        assert part in message


def chunked(*chunks: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


RESPONSES: dict[str, tuple[bytes, Reason, str]] = {
    "400": (answer(b"odd", "400 Bad"), Reason.CLIENT_ERROR, "responded 400 Bad: odd"),
    "401": (answer(b'{"error": "no"}', "401 No"), Reason.AUTH, '401 No: {"error": "no"}'),
    "403": (answer(b"", "403 Forbidden"), Reason.AUTH, "responded 403 Forbidden"),
    "404": (answer(b"", "404 Not Found"), Reason.CLIENT_ERROR, "404 Not Found"),
    "429": (answer(b"", "429 Slow"), Reason.RATE_LIMITED, "429 Slow"),
    "500": (answer(b"a\r\n\x00\x1b[31mb", "500 Oops"), Reason.SERVER_ERROR, "500 Oops: a [31mb"),
    "503": (answer(b"", "503 Later", Retry_After="9"), Reason.SERVER_ERROR, "503 Later"),
    "302": (answer(b"", "302 Found", Location="/login"), Reason.REDIRECT, "host 127.0.0.1,"),
    "304": (answer(b"", "304 Not Modified"), Reason.REDIRECT, "304"),
    "to nowhere": (answer(b"", "302 Found", Location="http://["), Reason.REDIRECT, "host unknown"),
    "long": (answer(b"x" * 100_000, "500 Oops"), Reason.SERVER_ERROR, "x" * 200),
    "the key": (
        answer(b"not \x01 " + f"{KEY} {KEY}".encode(), f"401 {KEY}"),
        Reason.AUTH,
        "401 <redacted>: not <redacted> <redacted>",
    ),
    "a login page": (
        answer(b"<html>", Content_Type="text/html; charset=utf-8"),
        Reason.INVALID_RESPONSE,
        "proxy's login page",
    ),
    "HTML as JSON": (answer(b"<html>"), Reason.INVALID_RESPONSE, "not JSON"),
    "nothing": (answer(b""), Reason.INVALID_RESPONSE, "not JSON"),
    "no gzip": (
        answer(b"plain", Content_Encoding="gzip"),
        Reason.INVALID_RESPONSE,
        "incorrect header",
    ),
    "cut off": (answer(b"{", length=10), Reason.CONNECTION, "9 more expected"),
    "a negative chunk": (chunked(b"-1\r\n{}"), Reason.CONNECTION, ""),
    "an odd chunk": (chunked(b"zz\r\n{}"), Reason.CONNECTION, ""),
    "no HTTP": (b"220 mail.example ESMTP\r\n", Reason.INVALID_RESPONSE, "not valid HTTP"),
    "too many headers": (
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        Reason.INVALID_RESPONSE,
        "more than 100 headers",
    ),
    "nothing at all": (b"", Reason.CONNECTION, "closed connection without response"),
    "too large": (answer(b" " * 3000), Reason.RESPONSE_TOO_LARGE, "larger than 2000 bytes"),
}


@pytest.mark.parametrize("fault", RESPONSES)
def test_a_response_fails_with_its_reason(fault: str) -> None:
    response, reason, part = RESPONSES[fault]
    with FaultServer(answers(response, keep_alive=False)) as server:
        limit = 2000 if fault == "too large" else MAX_RESPONSE_BYTES
        assert_plain(failure(server.url, limit), reason, part)


def test_the_table_has_every_reason_but_those_without_a_response() -> None:
    shown = {reason for _, reason, _ in RESPONSES.values()}
    assert set(Reason) - shown == {Reason.TIMEOUT, Reason.TLS}


def resets(conversation: Conversation) -> None:
    conversation.hear()
    linger = struct.pack("ii", 1, 0)
    conversation.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_a_connection_that_fails_names_its_host() -> None:
    with FaultServer(resets) as server:
        host = f"host 127.0.0.1:{server.port}"
        assert_plain(failure(server.url), Reason.CONNECTION, "reset by peer", host)
        url = server.url
    assert_plain(failure(url), Reason.CONNECTION, "Connection refused", host)
    url = url.replace("http:", "https:")
    assert_plain(failure(url), Reason.CONNECTION, "Connection refused", host)
    url = "http://nowhere.invalid"
    assert_plain(failure(url), Reason.CONNECTION, "ame", "host nowhere.invalid")


def test_a_connection_without_trust_is_a_tls_failure(api: FakeAPI) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FakeAPI(context) as untrusted:
        assert_plain(failure(untrusted.url), Reason.TLS, "certificate verify failed", "127.0.0.1")
        assert untrusted.requests == []
    url = api.url.replace("http:", "https:")
    assert_plain(failure(url), Reason.TLS, "WRONG_VERSION_NUMBER")


@pytest.mark.parametrize("before", ["", " " * 4090, "x" * 190, "\n" * 4080 + "é"])
def test_no_part_of_the_key_is_shown_wherever_the_text_is_cut(before: str) -> None:
    def two_pieces(conversation: Conversation) -> None:
        conversation.hear()
        body = f"{before}{KEY}{KEY}".encode()
        head = f"HTTP/1.1 500 Oops\r\nContent-Length: {len(body) + 9}\r\n\r\n".encode()
        conversation.say(head + body[: -len(KEY) // 2])

    with FaultServer(two_pieces) as server:
        message = str(failure(server.url))
    assert not any(KEY[:length] in message for length in range(6, len(KEY)))


@given(st.text(), st.text(min_size=4).filter(lambda secret: secret.strip() == secret))
def test_plain_text_is_short_and_printable_and_has_no_secret(text: str, secret: str) -> None:
    line = errors.plain(f"{text}{secret}{text}", [secret])
    assert len(line) <= errors.MAX_MESSAGE
    assert line.isprintable()
    assert secret not in line or secret in text.replace(secret, "") + "<redacted>"


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("120", None, 120.0),
        ("0", None, 0.0),
        ("Mon, 30 Nov 2026 12:01:00 GMT", "Mon, 30 Nov 2026 12:00:00 GMT", 60.0),
        ("Mon, 30 Nov 2026 11:00:00 GMT", "Mon, 30 Nov 2026 12:00:00 GMT", 0.0),
        ("soon", None, None),
        ("-5", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 404])
def test_a_retry_after_is_seconds_or_a_date(
    header: str | None, date: str | None, seconds: float | None, status: int
) -> None:
    lines = {"Retry-After": header, "Date": date, "Content-Length": "0"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    response = f"HTTP/1.1 {status} No\r\n{head}\r\n".encode()
    with FaultServer(answers(response)) as server:
        error = failure(server.url)
    assert isinstance(error, StatusError)
    assert error.retry_after == (seconds if status != 404 else None)


COPIES: list[Callable[[Any], Any]] = [copy.copy, lambda e: pickle.loads(pickle.dumps(e))]


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "pickle"])
def test_every_error_can_be_copied_and_pickled(copied: Callable[[Any], Any]) -> None:
    with FaultServer(answers(answer(b"slow", "429 Slow", Retry_After="7"))) as server:
        status_error = failure(server.url)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    plain = [kind for kind in kinds if issubclass(kind, NextmvError | errors.ConfigurationError)]
    assert len(plain) >= 10
    for kind in plain:
        assert str(copied(kind("a message"))) == "a message"
    twin = copied(status_error)
    assert isinstance(twin, StatusError)
    assert isinstance(twin, requests.HTTPError)
    assert str(twin) == str(status_error)
    assert (twin.status, twin.retry_after, twin.reason) == (429, 7.0, Reason.RATE_LIMITED)
    assert twin.response is not None
    assert twin.response.status_code == 429
    assert twin.response.text == "slow"
    assert KEY not in str(twin.response.request.headers)
    assert str(copied(errors.ConfigurationError("no such file"))) == "no such file"
