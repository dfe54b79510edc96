"""The message of a failure is that of its innermost cause, and of no other."""

import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from faults.fault_server import Conversation, FaultServer, answer, never_answers
from support.harness import dead

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv import errors
from nextmv_exporter.nextmv.client import Client

QUEUE = "v1/account/queue"


def message(url: str, kind: type[errors.NextmvError] = errors.ConnectionFailedError) -> str:
    """The message of a request to this URL."""
    with pytest.raises(errors.NextmvError) as caught:
        Client(api_key="the-api-key", url=url).get(QUEUE, deadline=Deadline(20))
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith(f"{QUEUE}: ")
    return text.removeprefix(f"{QUEUE}: ")


def say(text: bytes) -> Callable[[Conversation], None]:
    def behave(conversation: Conversation) -> None:
        conversation.hear()
        conversation.say(text)

    return behave


def reset(conversation: Conversation) -> None:
    conversation.hear()
    conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    linger = struct.pack("ii", 1, 0)
    conversation.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    conversation.connection.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_connection(scheme: str) -> None:
    with dead() as url:
        host = url.removeprefix("http://")
        assert message(f"{scheme}://{host}") == f"[Errno 111] Connection refused (host {host})"


def test_a_name_that_does_not_exist() -> None:
    known = {
        "[Errno -2] Name or service not known (host nowhere.invalid)",
        "[Errno -3] Temporary failure in name resolution (host nowhere.invalid)",
    }
    assert message("https://nowhere.invalid") in known


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_whose_name_does_not_exist(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://anna:secret@nowhere.invalid:3128")
    text = message(f"{scheme}://api.nextmv.example")
    assert re.fullmatch(r"\[Errno -[23]\] [A-Z].* \(proxy nowhere\.invalid:3128\)", text)
    assert "anna" not in text
    assert "secret" not in text


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_reset_at_once(scheme: str) -> None:
    """The reset is seen while connecting, writing or reading."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()

    requests: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        for _ in range(20):
            with pytest.raises(errors.NextmvError) as caught:
                Client(api_key="the-api-key", url=url).get(
                    QUEUE, on_request=lambda _, code, __: requests.append(code)
                )
            assert caught.value.reason in (errors.Reason.CONNECTION, errors.Reason.TLS)
            assert re.fullmatch(rf"{QUEUE}: \S.+", str(caught.value))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert requests == ["error"] * 20


def test_a_connection_that_is_reset_in_the_body() -> None:
    with FaultServer(reset) as server:
        assert message(server.url) == "[Errno 104] Connection reset by peer"


def test_a_response_that_is_late() -> None:
    with FaultServer(never_answers) as server, pytest.raises(errors.DeadlineExceededError) as e:
        Client(api_key="the-api-key", url=server.url).get(QUEUE, deadline=Deadline(0.2))
    assert str(e.value) == f"{QUEUE}: timed out before the full response was received"


def test_an_excerpt_ends_before_a_part_of_the_key_that_was_cut() -> None:
    begun = b"oops" + b" " * (4096 - 4 - 8) + b"the-api-"
    with FaultServer(say(answer(begun + b"key", "500 Oh"))) as server:
        assert message(server.url, errors.StatusError) == "the API responded 500 Oh: oops"


def test_an_excerpt_has_200_characters() -> None:
    with FaultServer(say(answer(b"x" * 300, "500 Oh"))) as server:
        text = message(server.url, errors.StatusError)
    assert text == f"the API responded 500 Oh: {'x' * 200}"


def test_a_body_that_is_cut_off() -> None:
    with FaultServer(say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nxyz")) as server:
        assert message(server.url) == "IncompleteRead(3 bytes read, 97 more expected)"


@pytest.mark.parametrize(
    ("response", "limit"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (b"HTTP/2 200\r\n\r\n", ""),
        (b"HTTP/1.1 OK\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n", ": got more than 100 headers"),
        (
            b"HTTP/1.1 200 OK\r\nA: " + b"b" * 65536 + b"\r\n\r\n",
            ": got more than 65536 bytes when reading header line",
        ),
    ],
)
def test_a_response_that_is_not_http(response: bytes, limit: str) -> None:
    with FaultServer(say(response)) as server:
        assert message(server.url, errors.InvalidResponseError) == (
            f"the response is not valid HTTP{limit}"
        )


@pytest.mark.parametrize("location", ["mailto:ops@nextmv.example", "http://["])
def test_a_redirect_to_no_host(location: str) -> None:
    response = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    with FaultServer(say(response.encode())) as server:
        assert message(server.url, errors.StatusError) == (
            "the API responded 302 Found, a redirect to host unknown, not followed"
        )


def test_a_proxy_that_refuses_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with dead() as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        host = url.removeprefix("http://")
        assert message("https://api.nextmv.example") == (
            f"[Errno 111] Connection refused (proxy {host})"
        )


def test_a_proxy_that_refuses_to_connect_to_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(say(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as between:
        monkeypatch.setenv("HTTPS_PROXY", between.url)
        assert message("https://api.nextmv.example") == (
            "Tunnel connection failed: 407 Proxy Authentication Required "
            f"(proxy 127.0.0.1:{between.port})"
        )


def test_a_certificate_of_an_unknown_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(say(b""), context) as server:
        text = message(server.url, errors.TLSError)
    assert text.startswith("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: ")


def test_plain_http_where_tls_is_expected() -> None:
    def behave(conversation: Conversation) -> None:
        conversation.connection.recv(65536)
        conversation.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with FaultServer(behave) as server:
        port = server.port
        text = message(f"https://127.0.0.1:{port}", errors.TLSError)
    assert text.startswith("[SSL: WRONG_VERSION_NUMBER]") or "RECORD_LAYER" in text
    assert text.endswith(
        f" (host 127.0.0.1:{port}) "
        "(the port does not speak TLS: is the endpoint or proxy http:// there?)"
    )
