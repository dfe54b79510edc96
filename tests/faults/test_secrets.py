"""The key goes to the configured origin and nowhere else: no redirect, no log, no page."""

import base64
import html
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import trustme
from support.exporter import exporter_process
from support.fake_api import KEY

from faults.fault_server import Behaviour, Conversation, FaultServer, answer, answers, queue
from faults.running_exporter import exporter_here, scrape
from nextmv_exporter.nextmv.redaction import Redactor

BEARER = f"Authorization: Bearer {KEY}\r\n".encode()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that the exporter is told to trust."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return made


def certified(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def proxy(to: int) -> Behaviour:
    """A forward proxy, for CONNECT and plain requests, that sends everything to this port."""

    def behave(conversation: Conversation) -> None:
        head = conversation.hear()
        with socket.create_connection(("127.0.0.1", to)) as onward:
            if head.startswith(b"CONNECT "):
                conversation.say(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                onward.sendall(head)
            back = threading.Thread(target=pump, args=(onward, conversation.connection))
            back.start()
            pump(conversation.connection, onward)
            back.join()

    return behave


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def test_no_redirect_is_followed() -> None:
    statuses = (301, 302, 303, 307, 308)
    with FaultServer(answers(queue())) as elsewhere:
        target = f"http://localhost:{elsewhere.port}/x"
        redirects = [answer(b"", f"{status} Moved", Location=target) for status in statuses]
        with (
            FaultServer(answers(*redirects)) as server,
            exporter_process(endpoint=server.url) as exporter,
        ):
            answered = [scrape(exporter.address, 10) for _ in statuses]
            log = exporter.log

    assert answered[-1].reasons == {"redirect"}
    assert answered[-1].errors("redirect") == len(statuses)
    assert not elsewhere.accepted
    assert log.count("redirect to host localhost") == 1


@pytest.mark.parametrize(
    "location", ["http://[", "//", "/login", "http://x:y:z/", "\x00", "javascript:", "é" * 5000]
)
def test_a_malformed_redirect_is_one_too(location: str, capfd: pytest.CaptureFixture[str]) -> None:
    response = answer(b"", "302 Found", Location=location)
    with FaultServer(answers(response)) as server, exporter_here(server.url) as address:
        assert scrape(address, 10).reasons == {"redirect"}

    assert "reason that it should not" not in capfd.readouterr().out


def test_a_proxy_for_http_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(answers(queue())) as server, FaultServer(proxy(server.port)) as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        monkeypatch.setenv("http_proxy", between.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with exporter_here("http://api.nextmv.example") as address:
            assert scrape(address, 10).up
        [request] = between.requests

    assert request.startswith(b"GET http://api.nextmv.example/v1/account/queue HTTP/1.1\r\n")


def test_a_proxy_for_https_is_used_and_never_sees_the_key(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certified(authority, "api.nextmv.example")
    with (
        FaultServer(answers(queue()), context) as server,
        FaultServer(proxy(server.port)) as between,
    ):
        monkeypatch.setenv("HTTPS_PROXY", between.url)
        with exporter_here("https://api.nextmv.example") as address:
            assert scrape(address, 10).up
            assert scrape(address, 10).up
        heard = b"".join(between.requests)

    assert heard.startswith(b"CONNECT api.nextmv.example:443 HTTP/1.")
    assert KEY.encode() not in heard
    assert all(BEARER in request for request in server.requests)


def test_a_proxy_that_never_answers_is_abandoned_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(conversation: Conversation) -> None:
        conversation.hear()
        conversation.wait_for_close()

    with FaultServer(silent) as between:
        monkeypatch.setenv("HTTPS_PROXY", between.url)
        with exporter_here("https://api.nextmv.example") as address:
            answered = scrape(address, 2)

    assert answered.seconds < 5
    assert answered.reasons == {"timeout"}


PROXY_USER, PROXY_PASSWORD = "anna/proxyuser", "proxy#pass?wörd"
PROXY_LOGIN = f"{quote(PROXY_USER, safe='')}:{quote(PROXY_PASSWORD, safe='')}"


def login_sent(head: bytes) -> str:
    """The value of a request's `Proxy-Authorization`, without `Basic `."""
    lines = head.decode().split("\r\n")
    [line] = [h for h in lines if h.startswith("Proxy-Authorization: Basic ")]
    return line.removeprefix("Proxy-Authorization: Basic ")


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [("https://api.nextmv.example", "connection"), ("http://api.nextmv.example", "client_error")],
)
def test_no_output_holds_a_proxys_user_or_password_even_if_the_proxy_echoes_them(
    endpoint: str, reason: str
) -> None:
    forms: list[Callable[[str], str]] = [
        str,
        lambda sent: base64.b64decode(sent).decode("latin-1"),
        lambda sent: base64.b64decode(sent).decode("latin-1").partition(":")[2],
        lambda sent: base64.b64encode(b"x" + base64.b64decode(sent) + b"y").decode(),
        lambda _: PROXY_LOGIN,
        lambda _: f"http://{PROXY_LOGIN}@proxy.example",
        lambda _: f"{PROXY_USER} {PROXY_PASSWORD}",
        lambda _: quote(PROXY_PASSWORD),
        lambda _: base64.b64encode(PROXY_PASSWORD.encode()).decode(),
    ]
    output = []

    def echo_as(form: Callable[[str], str]) -> Behaviour:
        def behave(conversation: Conversation) -> None:
            echo = form(login_sent(conversation.hear())).encode("latin-1")
            conversation.say(b"HTTP/1.1 407 Denied %b\r\nX: %b\r\n\r\n%b" % (echo, echo, echo))

        return behave

    with FaultServer(echo_as(str)) as between:
        proxy = f"http://{PROXY_LOGIN}@127.0.0.1:{between.port}"
        environment = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
        with exporter_process(
            "--log.level=debug", environment=environment, endpoint=endpoint
        ) as exporter:
            for form in forms:
                between.behave = echo_as(form)
                between.close_connections()
                output.append(scrape(exporter.address, 10).text)
                output.append(html.unescape(exporter.get("/").body))
            reasons = scrape(exporter.address, 10).reasons
            output.append(exporter.log)

    assert reasons == {reason}
    assert "407" in exporter.log
    assert "<redacted>" in exporter.log
    everything = "\n".join(output).lower()
    secrets = ["anna", "proxyuser", "pass?w", "pass%3fw", "proxy#", "proxy%23", "rd@"]
    sent = base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode("latin-1")).decode()
    for secret in [*secrets, sent[:12].lower(), sent[-12:].lower()]:
        assert secret not in everything, secret


@pytest.mark.usefixtures("authority")
def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    stranger = trustme.CA()
    with (
        FaultServer(answers(queue()), certified(stranger)) as server,
        exporter_here(server.url) as address,
    ):
        assert scrape(address, 10).reasons == {"tls"}
        assert not server.requests


def test_a_certificate_for_another_name_is_refused(authority: trustme.CA) -> None:
    with (
        FaultServer(answers(queue()), certified(authority, "other.example")) as server,
        exporter_here(server.url) as address,
    ):
        assert scrape(address, 10).reasons == {"tls"}
        assert not server.requests


def test_the_authorities_of_the_environment_are_trusted(authority: trustme.CA) -> None:
    with (
        FaultServer(answers(queue()), certified(authority)) as server,
        exporter_here(server.url) as address,
    ):
        assert scrape(address, 10).up


def test_plain_http_behind_https_is_an_error_of_tls() -> None:
    def speaks_no_tls(conversation: Conversation) -> None:
        conversation.connection.recv(65536)
        conversation.say(answer(b"", "400 Bad Request"))

    with (
        FaultServer(speaks_no_tls) as server,
        exporter_here(f"https://127.0.0.1:{server.port}") as address,
    ):
        assert scrape(address, 10).reasons == {"tls"}


def test_netrc_never_replaces_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login anna password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FaultServer(answers(queue())) as server, exporter_here(server.url) as address:
        assert scrape(address, 10).up
        [request] = server.requests

    assert BEARER in request


def test_cookies_are_not_kept() -> None:
    response = answer(b'{"runs": []}', Set_Cookie="session=1; Path=/")
    with FaultServer(answers(response)) as server, exporter_here(server.url) as address:
        assert [scrape(address, 10).up for _ in range(2)] == [True, True]

    assert all(b"cookie" not in request.lower() for request in server.requests)


Respond = Callable[[str], bytes]

FORMS: tuple[Callable[[str], str], ...] = (
    str,
    quote,
    lambda echo: quote(echo, safe=""),
    lambda echo: base64.b64encode(echo.encode()).decode(),
    lambda echo: base64.b64encode(f"x{echo}y".encode()).decode(),
    json.dumps,
    html.escape,
)


def echoed_as(form: Callable[[str], str]) -> list[Respond]:
    """An echo in a body, in the reason phrase, and in a redirect's host."""
    return [
        lambda echo: answer(form(echo).encode(), "400 Bad Request"),
        lambda echo: answer(b"", f"500 {form(echo)}"),
        lambda echo: answer(b"", "302 Found", Location=f"https://{form(echo)}.example/"),
    ]


def echoed_behind(padding: bytes) -> Respond:
    return lambda echo: answer(padding + b" " + echo.encode(), "401 Unauthorized")


def echoes() -> list[Respond]:
    """Answers that hold what a request's `Authorization` header held, at awkward places."""
    where_an_excerpt_is_cut_off = [echoed_behind(b"x" * n) for n in range(150, 205, 5)]
    where_reading_for_it_ends = [echoed_behind(b" " * n) for n in range(4040, 4100, 10)]
    chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    in_other_places: list[Respond] = [
        lambda echo: f"{echo}\r\n\r\n".encode(),
        lambda echo: f"{chunked}{echo}\r\n".encode(),
        lambda echo: f"HTTP/1.1 500 Oh\r\nA\r\n{echo}\r\n\r\n".encode(),
        lambda echo: answer(b"", Content_Length=echo),
        lambda echo: answer(b"x", Content_Encoding=f"gzip, {echo}"),
        lambda echo: answer(b"", "418 Teapot", Retry_After=echo),
        lambda echo: answer(echo.encode()),
        lambda echo: answer(json.dumps({echo: echo}).encode()),
        lambda echo: answer(json.dumps({"runs": echo}).encode()),
    ]
    return [
        *(respond for form in FORMS for respond in echoed_as(form)),
        *where_an_excerpt_is_cut_off,
        *where_reading_for_it_ends,
        *in_other_places,
    ]


def forms_of_the_key() -> set[str]:
    encoded = [base64.b64encode(b"x" * n + KEY.encode()).decode()[4:-4] for n in range(3)]
    forms = {KEY, quote(KEY), quote(KEY, safe=""), *encoded, KEY[:12], KEY[-12:]}
    return {form.lower() for form in forms}


def test_no_output_holds_the_key_even_if_the_api_echoes_it() -> None:
    output = []
    with FaultServer(answers(queue())) as server:

        def echo_with(respond: Respond) -> Behaviour:
            def behave(conversation: Conversation) -> None:
                head = conversation.hear().decode()
                [line] = [h for h in head.split("\r\n") if h.startswith("Authorization: ")]
                conversation.say(respond(line.removeprefix("Authorization: Bearer ")))

            return behave

        flags = ("--log.level=debug", "--log.format=json")
        with exporter_process(*flags, endpoint=server.url) as exporter:
            for respond in echoes():
                server.behave = echo_with(respond)
                server.close_connections()
                output.append(scrape(exporter.address, 10).text)
                output.append(requests.get(f"http://{exporter.address}/", timeout=10).text)
            output.append(requests.get(f"http://{exporter.address}/sd", timeout=10).text)
            log = exporter.log

    assert "<redacted>" in log
    assert "Traceback" not in log
    everything = (html.unescape("\n".join(output)) + log + log.replace("\\/", "/")).lower()
    for form in forms_of_the_key():
        assert form not in everything, form


@pytest.mark.parametrize("key", [KEY, "k", 'a"b\\c&<>', "=" * 50, "x" * 5000])
def test_a_redacted_text_holds_no_form_of_the_key(key: str) -> None:
    redactor = Redactor(key)
    for form in (key, quote(key, safe=""), json.dumps(key)[1:-1], html.escape(key)):
        assert redactor.clean(f"?{form}?", 500) == "?<redacted>?"


@pytest.mark.parametrize("key", [KEY, "5chrs", 'a"b\\c&<>', "=" * 50, "x" * 5000])
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
def test_of_a_redacted_key_in_base64_only_what_depends_on_its_surroundings_is_left(
    key: str, before: str
) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(f"{before}{key}z".encode()).decode()
        left = Redactor(key).hide(encoded)
        assert left.count("<redacted>") == 1
        assert len(left.replace("<redacted>", "")) <= len(encode(f"{before}z".encode())) + 4


@pytest.mark.parametrize("key", ["two\nlines", "naïve", "tab\there", "sp ace", "nul\x7f"])
def test_a_key_that_would_break_a_header_is_refused_without_telling_it(
    key: str, tmp_path: Path
) -> None:
    import subprocess
    import sys

    file = tmp_path / "key"
    file.write_text(key)
    ended = subprocess.run(
        [sys.executable, "-m", "nextmv_exporter", f"--nextmv.api-key-file={file}", "--once"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert str(file) in ended.stderr
    assert key not in ended.stderr
    assert "Traceback" not in ended.stderr
