"""Responses are read strictly, and a connection on which anything unexpected was seen is closed."""

import gzip
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from faults.fault_server import (
    Conversation,
    FaultServer,
    answer,
    answers,
    drips_the_headers,
    queue,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import Authority
from support.fake_api import KEY, FakeAPI

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv import Client, connections
from nextmv_exporter.nextmv.client import Budget
from nextmv_exporter.nextmv.connections import DeadlineAdapter, Exchange, exchanging
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    NextmvError,
    ResponseTooLargeError,
    StatusError,
)
from nextmv_exporter.nextmv.failures import failure_of
from nextmv_exporter.nextmv.trust import tls_context

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
QUEUE = b'{"runs": []}'


def chunks(size: bytes) -> bytes:
    """A body whose second chunk claims to be of this size."""
    return CHUNKED + b"1\r\n{\r\n" + size + b"\r\n" + b"x" * 1000


@pytest.mark.parametrize(
    "size", [b"-1", b"-2", b"+5", b"0x5", b"1_0", b"5 5", b"", b"ve", b"f" * 17]
)
def test_an_invalid_chunk_size_is_an_invalid_response(size: bytes) -> None:
    with FaultServer(answers(chunks(size))) as server, pytest.raises(NextmvError) as caught:
        Client(KEY, server.url).get("v1/account/queue")
    assert isinstance(caught.value, InvalidResponseError)
    assert str(caught.value) == "v1/account/queue: the body has an invalid chunk size"


@pytest.mark.parametrize("status", ["200 OK", "500 Oh"])
def test_a_negative_chunk_size_reads_nothing_more(status: str) -> None:
    sent = []

    def flood(conversation: Conversation) -> None:
        conversation.hear()
        conversation.say(CHUNKED.replace(b"200 OK", status.encode()) + b"-1\r\n")
        try:
            while True:
                conversation.say(b"x" * 65536)
                sent.append(65536)
        except OSError:
            pass

    with FaultServer(flood) as server, pytest.raises(NextmvError):
        Client(KEY, server.url).get("v1/account/queue")
    assert sum(sent) < 50_000_000


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10), st.booleans())
@settings(max_examples=25, deadline=None)
def test_valid_chunks_are_read_whatever_their_sizes(parts: list[bytes], extended: bool) -> None:
    extension = b";name=value" if extended else b""
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    with FaultServer(answers(CHUNKED + body + b"0\r\n\r\n")) as server:
        assert Client(KEY, server.url).get("v1") == b"".join(parts)


@pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints", "199 Something"])
def test_an_informational_response_is_skipped_and_its_connection_not_used_again(
    status: str,
) -> None:
    informational = f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode()
    numbered = [informational + answer(json.dumps([n]).encode()) for n in range(3)]
    with FaultServer(answers(*numbered)) as server:
        client = Client(KEY, server.url)
        assert [client.get("v1") for _ in range(3)] == [b"[0]", b"[1]", b"[2]"]
        assert server.accepted == 3


def test_a_change_of_the_protocol_is_a_failure() -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"
    with FaultServer(answers(switching + queue())) as server:
        with pytest.raises(StatusError) as caught:
            Client(KEY, server.url).get("v1")
        assert caught.value.status == 101


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "transfer-encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: 14\r\ncontent-length: 14",
    ],
)
def test_where_two_headers_give_the_length_the_connection_is_not_used_again(headers: str) -> None:
    chunked = "chunked" in headers
    body = b"3\r\n[0]\r\n0\r\n\r\n" if chunked else b"[0,         0]"
    with FaultServer(answers(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body)) as server:
        client = Client(KEY, server.url)
        assert [json.loads(client.get("v1")) for _ in range(3)] == [[0] if chunked else [0, 0]] * 3
        assert server.accepted == 3


def test_a_continue_is_skipped_and_its_connection_used_again() -> None:
    with FaultServer(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + queue())) as server:
        client = Client(KEY, server.url)
        assert [client.get("v1") for _ in range(3)] == [QUEUE] * 3
        assert server.accepted == 1


def test_bytes_beyond_the_response_are_no_response_to_the_next_request() -> None:
    numbered = [answer(json.dumps([n]).encode()) for n in range(3)]
    smuggled = answer(b'["smuggled"]')
    with FaultServer(answers(*(each + smuggled for each in numbered))) as server:
        client = Client(KEY, server.url)
        assert [client.get("v1") for _ in range(3)] == [b"[0]", b"[1]", b"[2]"]
        assert server.accepted == 3


@pytest.mark.parametrize("length", [4000, 8192, 9000])
def test_bytes_beyond_the_response_are_found_where_tls_has_decrypted_them(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Authority(tmp_path).issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    head = len(answer(b"0" * 5000)) - 5000
    numbered = [answer(str(n).encode().ljust(length - head)) for n in range(3)]
    assert {len(each) for each in numbered} == {length}
    smuggled = answer(b"smuggled")
    with FaultServer(answers(*(each + smuggled for each in numbered)), context) as server:
        client = Client(KEY, f"https://127.0.0.1:{server.port}")
        assert [client.get("v1").strip() for _ in range(3)] == [b"0", b"1", b"2"]
        assert server.accepted == 3


def test_after_a_kept_connection_that_was_closed_a_new_one_is_used_and_no_other_kept_one() -> None:
    def close_at_the_second_request(conversation: Conversation) -> None:
        conversation.hear()
        time.sleep(0.3)
        conversation.say(queue())
        conversation.hear()

    with FaultServer(close_at_the_second_request) as server, ThreadPoolExecutor(2) as pool:
        client = Client(KEY, server.url)
        assert list(pool.map(lambda _: client.get("v1"), range(2))) == [QUEUE] * 2
        assert server.accepted == 2
        assert client.get("v1") == QUEUE
        assert server.accepted == 3


def test_an_ordinary_connection_is_used_again() -> None:
    with FaultServer(answers(queue())) as server:
        client = Client(KEY, server.url)
        for _ in range(3):
            client.get("v1")
        assert server.accepted == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_deadline_that_was_extended_holds_for_the_read_in_progress(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(conversation: Conversation) -> None:
        conversation.hear()
        time.sleep(2.5)
        conversation.say(queue())

    context = None
    if tls:
        certificate = Authority(tmp_path).issue("server")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with FaultServer(slow, tls=context) as server:
        deadline = Deadline(1.5)
        threading.Timer(0.5, deadline.extend, (Deadline(20), time.monotonic() + 20)).start()
        assert Client(KEY, server.url).get("v1", deadline=deadline) == QUEUE


def test_a_cancelled_deadline_ends_a_read_in_progress() -> None:
    def stall(conversation: Conversation) -> None:
        conversation.hear()
        conversation.wait_for_close()

    with FaultServer(stall) as server:
        deadline = Deadline(60)
        threading.Timer(0.2, deadline.cancel).start()
        with pytest.raises(DeadlineExceededError):
            Client(KEY, server.url).get("v1", deadline=deadline)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_after_the_deadline_connecting_times_out(scheme: str) -> None:
    adapter = DeadlineAdapter(tls_context(), 1)
    with FaultServer(answers(queue())) as server:
        request = requests.Request("GET", f"{scheme}://127.0.0.1:{server.port}").prepare()
        with exchanging(Exchange(Deadline(0))), pytest.raises(requests.RequestException) as caught:
            adapter.send(request)
    assert isinstance(failure_of(caught.value, "v1", KEY), DeadlineExceededError)


def test_a_request_is_not_held_back_until_an_earlier_one_is_acknowledged(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []
    connect = connections._connect

    def connected(*args: Any) -> socket.socket:
        sock = connect(*args)
        made.append(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        return sock

    monkeypatch.setattr(connections, "_connect", connected)
    Client(KEY, api.url).get("v1/account/queue")
    assert made == [True]


def test_the_sockets_of_other_programs_are_left_alone() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as connection,
    ):
        assert type(connection) is socket.socket
        assert connection.gettimeout() is None


def test_a_budget_holds_over_several_responses_and_counts_decompressed_bytes() -> None:
    body = gzip.compress(b"x" * 30_000)
    with FaultServer(answers(answer(body, Content_Encoding="gzip"))) as server:
        client, budget = Client(KEY, server.url), Budget(100_000)
        for _ in range(3):
            client.get("v1", budget=budget)
        with pytest.raises(ResponseTooLargeError, match="larger than 100000 bytes"):
            client.get("v1", budget=budget)
        assert client.get("v1"), "the next fetch has its own"


def test_an_html_page_is_named_by_its_type() -> None:
    page = answer(b"<html>Log in</html>", Content_Type="text/html; charset=utf-8")
    with (
        FaultServer(answers(page)) as server,
        pytest.raises(InvalidResponseError, match="an HTML page, not JSON: is there a proxy"),
    ):
        Client(KEY, server.url).get("v1")


def test_tls_to_a_port_without_it_names_the_cause(api: FakeAPI) -> None:
    with pytest.raises(NextmvError, match="does not speak TLS"):
        Client(KEY, api.url.replace("http://", "https://")).get("v1")


def test_a_deadline_holds_for_a_proxy_that_is_asked_over_tls_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Authority(tmp_path).issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with FaultServer(drips_the_headers, tls=context) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            Client(KEY, "https://api.example").get("v1", deadline=Deadline(2.5))
    assert time.monotonic() - start < 20, "the headers would take a quarter of an hour"
