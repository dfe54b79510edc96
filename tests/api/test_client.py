"""The client on real connections: what it sends and keeps, and when it ends."""

import copy
import gzip
import json
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from faults.fault_server import (
    Behaviour,
    Conversation,
    FaultServer,
    answer,
    answers,
    drips_an_errors_body,
    drips_the_body,
    never_answers,
    queue,
    stalls_in_the_body,
    stalls_in_the_handshake,
)
from freezegun import freeze_time
from support.fake_api import KEY, FakeAPI

from nextmv_exporter import __version__
from nextmv_exporter.nextmv import Account, Client
from nextmv_exporter.nextmv.client import Budget, Deadline, Exchange
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    NextmvError,
    Reason,
    ResponseTooLargeError,
    StatusError,
)

QUEUE = "v1/account/queue"


@pytest.fixture
def client(api: FakeAPI) -> Client:
    return Client(api_key=KEY, url=api.url)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that clients are told to trust."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return made


def certified(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def failure(url: str, **options: float) -> NextmvError:
    """How a request there fails."""
    with pytest.raises(NextmvError) as caught:
        Client(KEY, url, **options).get(QUEUE)  # type: ignore[arg-type]
    return caught.value


# What is sent


def test_it_asks_for_json_with_the_key_and_says_who_it_is(api: FakeAPI, client: Client) -> None:
    assert api.requests == [], "making a client sends nothing"
    client.get("v1/applications", params={"pagereturn": "true", "pagetoken": "a/b&c"})

    [request] = api.requests
    assert request.path == "/v1/applications?pagereturn=true&pagetoken=a%2Fb%26c"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Accept-Encoding"] == "gzip"
    assert request.headers["User-Agent"] == f"nextmv-exporter/{__version__}"


@pytest.mark.parametrize("path", ["", "/", "/nextmv", "/nextmv/"])
def test_the_path_of_the_endpoint_goes_before_that_of_the_api(api: FakeAPI, path: str) -> None:
    Client(KEY, api.url + path).get(QUEUE)
    assert api.paths() == [f"{path.rstrip('/')}/{QUEUE}"]


def test_the_key_goes_to_no_other_host_and_nothing_else_is_sent(
    api: FakeAPI, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login anna password of-the-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FaultServer(answers(queue())) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            target = f"http://localhost:{elsewhere.port}/x"
            api.answers(status, b"", Location=target, Set_Cookie="session=1; Path=/")
            with pytest.raises(StatusError, match="redirect to host localhost, not") as caught:
                client.get(QUEUE)
            assert caught.value.reason is Reason.REDIRECT
        assert not elsewhere.accepted
    assert all(each.headers["Authorization"] == f"Bearer {KEY}" for each in api.requests)
    assert not any("Cookie" in each.headers for each in api.requests)


def test_credentials_are_asked_for_with_each_request(api: FakeAPI) -> None:
    keys = iter(["first", "second"])
    client = Client(credentials=lambda: Credentials(next(keys), api.url))
    for _ in range(2):
        client.get(QUEUE)
    sent = [request.headers["Authorization"] for request in api.requests]
    assert sent == ["Bearer first", "Bearer second"]


# What is received


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_the_body_is_decompressed_whether_it_comes_whole_or_in_chunks(size: int) -> None:
    body = json.dumps({"runs": [], "x": os.urandom(size // 2).hex()}).encode()
    packed = gzip.compress(body)
    parts = [packed[at : at + 7000] for at in range(0, len(packed), 7000)]
    chunks = b"".join(b"%x;odd=1\r\n%b\r\n" % (len(part), part) for part in parts)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    responses = [
        answer(body),
        answer(packed, Content_Encoding="gzip"),
        head + chunks + b"0\r\n\r\n",
    ]
    with FaultServer(answers(*responses)) as server:
        client = Client(KEY, server.url)
        assert [client.get(QUEUE) for _ in responses] == [body] * 3
        assert server.accepted == 1, "the connection is used again"


def test_each_exchange_is_observed_with_its_code_and_the_offset_of_the_clocks() -> None:
    dates = {"200 OK": "12:01:40", "500 Oops": "11:59:50", "404 No": "nonsense"}
    responses = [answer(status=s, Date=f"Mon, 30 Nov 2026 {d} GMT") for s, d in dates.items()]
    seen: list[Exchange] = []
    with freeze_time("2026-11-30T12:00:00.5"):
        with FaultServer(answers(*responses, answer())) as server:
            client = Client(KEY, server.url)
            for _ in range(4):
                with suppress(StatusError):
                    client.get("v1/applications/a/runs", name="runs", on_exchange=seen.append)
            url = server.url
        with pytest.raises(NextmvError):
            Client(KEY, url).get(QUEUE, on_exchange=seen.append)
    assert [(each.path, each.code, each.clock_offset) for each in seen] == [
        ("runs", "200", 100.0),
        ("runs", "500", -10.0),
        ("runs", "404", None),
        ("runs", "200", None),
        (QUEUE, "error", None),
    ]
    assert all(0 <= each.seconds < 60 for each in seen)


# Deadlines


@pytest.mark.parametrize(
    ("behave", "scheme", "reason"),
    [
        (never_answers, "http", Reason.TIMEOUT),
        (drips_the_body, "http", Reason.TIMEOUT),
        (drips_an_errors_body, "http", Reason.SERVER_ERROR),
        (stalls_in_the_body, "http", Reason.TIMEOUT),
        (stalls_in_the_handshake, "https", Reason.TIMEOUT),
    ],
)
def test_a_request_ends_soon_after_its_deadline(
    behave: Behaviour, scheme: str, reason: Reason
) -> None:
    with FaultServer(behave) as server:
        start = time.monotonic()
        caught = failure(f"{scheme}://127.0.0.1:{server.port}", timeout=1.0)
        assert time.monotonic() - start < 10  # where the server goes on for a minute
        assert caught.reason is reason
        assert f"127.0.0.1:{server.port}" in str(caught) or reason is Reason.SERVER_ERROR


def test_what_comes_late_in_the_head_leaves_as_little_time_for_the_body() -> None:
    def late(conversation: Conversation) -> None:
        conversation.hear()
        time.sleep(1.5)
        stalls_in_the_body(conversation)

    with FaultServer(late) as server:
        start = time.monotonic()
        assert failure(server.url, timeout=2.0).reason is Reason.TIMEOUT
        assert time.monotonic() - start < 3.3  # not 1.5 and then 2 again


@contextmanager
def full_listener() -> Iterator[int]:
    """A port where connections are neither accepted nor refused, as behind a silent firewall."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def test_an_address_that_drops_packets_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = socket.getaddrinfo
    with full_listener() as deaf, FaultServer(answers(queue())) as server:
        caught = failure(f"http://127.0.0.1:{deaf}", timeout=1.0)
        assert isinstance(caught, DeadlineExceededError)
        # No name that resolves everywhere has two such addresses.
        ports = (deaf, server.port)
        two = [resolve("127.0.0.1", port, type=socket.SOCK_STREAM)[0] for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: two)
        assert Client(KEY, "http://two.example", timeout=6.0).get(QUEUE)


def test_without_time_left_nothing_is_sent(api: FakeAPI, client: Client) -> None:
    seen: list[Exchange] = []
    with pytest.raises(DeadlineExceededError):
        client.get(QUEUE, deadline=Deadline(0), on_exchange=seen.append)
    assert api.requests == []
    assert seen == []


# Connections


def test_a_connection_that_was_closed_meanwhile_is_replaced_at_once() -> None:
    def once(conversation: Conversation) -> None:
        if conversation.hear():
            conversation.say(queue())
            conversation.hear()  # the next request, which gets no response

    with FaultServer(once) as server:
        client = Client(KEY, server.url)
        for _ in range(3):
            assert client.get(QUEUE)
        assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("responses", "requests_sent", "succeeds"),
    [
        ([answer(status="502 Bad"), queue()], 2, True),
        ([answer(status="503 Unavailable"), answer(status="504 Late"), queue()], 2, False),
        ([answer(status="503 Unavailable", Retry_After="1"), queue()], 1, False),
        ([answer(status="500 Oops"), queue()], 1, False),
        ([answer(status="429 Slow"), queue()], 1, False),
    ],
)
def test_an_overloaded_gateway_is_asked_once_more(
    responses: list[bytes], requests_sent: int, *, succeeds: bool
) -> None:
    with FaultServer(answers(*responses)) as server:
        try:
            assert Client(KEY, server.url).get(QUEUE)
            assert succeeds
        except StatusError:
            assert not succeeds
        assert len(server.requests) == requests_sent


def test_clients_and_accounts_are_copied_with_connections_of_their_own(api: FakeAPI) -> None:
    account = Account(Client(KEY, api.url, timeout=3.0), endpoint="v2/account")
    account.queue()
    for copied in (copy.deepcopy(account), pickle.loads(pickle.dumps(account)), copy.copy(account)):
        assert copied.queue().runs == []
        assert copied.client.credentials == Credentials(KEY, api.url)
        assert (copied.client.timeout, copied.endpoint) == (3.0, "v2/account")
    assert len(api.requests) == 4


def test_importing_and_making_a_client_starts_no_thread_and_loads_no_pydantic() -> None:
    program = (
        "import sys, threading, nextmv_exporter\n"
        "nextmv_exporter.Client('key', 'https://api.example')\n"
        "assert threading.active_count() == 1\n"
        "assert 'pydantic' not in sys.modules\n"
        "import nextmv_exporter.files\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


# Sizes


def test_a_budget_holds_over_several_responses_and_counts_decompressed_bytes(
    api: FakeAPI, client: Client
) -> None:
    body = b'{"runs": []}' + b" " * 600
    api.answers(200, gzip.compress(body), Content_Encoding="gzip")
    budget = Budget(2 * len(body))
    assert client.get(QUEUE, budget=budget) == body
    assert client.get(QUEUE, budget=budget) == body
    with pytest.raises(ResponseTooLargeError, match="larger than 1224 bytes"):
        client.get(QUEUE, budget=budget)


MEMORY = r"""
import gc, re, sys
from nextmv_exporter.nextmv.client import Client, Deadline
from nextmv_exporter.nextmv.errors import NextmvError
from nextmv_exporter.scrape.sources import SourceState, fetch_runs

def resident(name):
    return int(re.search(rf"{name}:\s+(\d+)", open("/proc/self/status").read())[1]) >> 10

client = Client("key", sys.argv[1], max_response_bytes=int(sys.argv[2]), timeout=60)
gc.disable()
for number in range(int(sys.argv[3])):
    try:
        fetch_runs(client, SourceState(), Deadline(60))
        print("read")
    except NextmvError as error:
        reason = error.reason
    if number == 1:
        before = resident("VmRSS")
print(reason, resident("VmRSS") - before, resident("VmHWM"))
"""


def fetch_repeatedly(url: str, limit: int, times: int) -> tuple[str, int, int]:
    """The reason of failure, the growth and the peak in MiB, without garbage collection."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, url, str(limit), str(times)],
        capture_output=True,
        check=True,
        text=True,
        timeout=300,
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    reason, growth, peak = done.stdout.split()
    return reason, int(growth), int(peak)


LARGE = b'{"runs": [' + b" " * (16 << 20)


@pytest.mark.system
@pytest.mark.parametrize(
    ("response", "limit", "reason"),
    [
        (answer(LARGE), 64 << 20, "invalid_response"),
        (answer(LARGE, length=len(LARGE) + 1), 64 << 20, "connection"),
        (answer(LARGE), 15 << 20, "response_too_large"),
        (answer(LARGE, "500 Oops"), 64 << 20, "server_error"),
    ],
    ids=["invalid", "cut off", "too large", "error"],
)
def test_a_failed_fetch_keeps_no_memory(response: bytes, limit: int, reason: str) -> None:
    with FaultServer(answers(response, keep_alive=False)) as server:
        failed, growth, _ = fetch_repeatedly(server.url, limit, 12)
    assert failed == reason
    assert growth < 24  # MiB; ten bodies would be 160


@pytest.mark.system
def test_what_grows_when_it_is_decompressed_is_left_at_the_limit() -> None:
    bomb = gzip.compress(bytes(512 << 20), 9)
    with FaultServer(answers(answer(bomb, Content_Encoding="gzip"))) as server:
        failed, _, peak = fetch_repeatedly(server.url, 32 << 20, 3)
    assert failed == "response_too_large"
    assert peak < 150


# Proxies and certificates


def proxy(to: int) -> Behaviour:
    """A forward proxy, for CONNECT and plain requests, that sends everything to this port."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_the_environment_is_used_and_never_sees_the_key_over_tls(
    scheme: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certified(authority, "api.nextmv.example") if scheme == "https" else None
    with FaultServer(answers(queue()), tls) as server, FaultServer(proxy(server.port)) as between:
        monkeypatch.setenv(f"{scheme}_proxy", between.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        client = Client(KEY, f"{scheme}://api.nextmv.example")
        for _ in range(2):
            assert client.get(QUEUE)
        heard = b"".join(between.requests)
        assert Client(KEY, f"{server.scheme}://127.0.0.1:{server.port}").credentials
    assert len(server.requests) == 2
    assert all(KEY.encode() in request for request in server.requests)
    assert (KEY.encode() in heard) == (scheme == "http")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("password", ["plain", "pässwörd", "p@ss:w/rd#?%", "日本語の鍵"])
def test_a_proxy_gets_the_user_and_password_as_they_were_encoded(
    password: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = password.encode(encoding, "ignore") or b"none"
    with FaultServer(answers(queue())) as between:
        login = f"{quote('änna'.encode(encoding))}:{quote(raw, safe='')}"
        monkeypatch.setenv("http_proxy", f"http://{login}@127.0.0.1:{between.port}")
        Client(KEY, "http://api.nextmv.example").get(QUEUE)
        [line] = [h for h in between.requests[0].split(b"\r\n") if h.startswith(b"Proxy-Auth")]
    assert b64decode(line.rpartition(b" ")[2]) == "änna:".encode(encoding) + raw


def test_a_proxys_fault_names_the_proxy_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def echo(conversation: Conversation) -> None:
        [line] = [h for h in conversation.hear().split(b"\r\n") if h.startswith(b"Proxy-Auth")]
        sent = b64decode(line.rpartition(b" ")[2])
        conversation.say(b"HTTP/1.1 407 No %b\r\n\r\n%b pa%%2Fss%%C3%%BC" % (sent, sent))

    for scheme in ("http", "https"):
        with FaultServer(echo) as between:
            monkeypatch.setenv(
                f"{scheme}_proxy", f"http://annas:pa%2Fss%C3%BC@127.0.0.1:{between.port}"
            )
            message = str(failure(f"{scheme}://api.nextmv.example"))
            where = f"through proxy 127.0.0.1:{between.port}"
        assert "407" in message
        assert not any(secret in message for secret in ("annas", "pa/ss", "pa%2Fss", KEY))
        assert where in message or scheme == "http"
        # Now nothing listens there.
        caught = failure(f"{scheme}://api.nextmv.example")
        assert caught.reason is Reason.CONNECTION
        assert where in str(caught)
        assert "Connection refused" in str(caught)


def test_a_short_user_spoils_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(answers(answer(b"", "407 Denied"))) as between:
        for user in ("u", "unn"):
            monkeypatch.setenv("https_proxy", f"http://{user}:p@127.0.0.1:{between.port}")
            assert "Tunnel connection failed" in str(failure("https://api.nextmv.example"))


@pytest.mark.parametrize(
    "url",
    [
        *(f"http://anna:hunter{odd}two@proxy.example:3128" for odd in "/#?@"),
        "http://anna:hunter2@proxy.example:99999",
        "http://u:two@proxy.example:99999",
        "http://anna:hunter2@",
        "socks5://anna:hunter2@proxy.example",
        "gopher://anna:hunter2@proxy.example",
        f"http://anna:hunter2@{'x' * 80}.example",
    ],
)
def test_a_proxy_that_is_no_url_is_a_failure_that_does_not_quote_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", url)
    caught = failure("https://api.nextmv.example", timeout=5.0)
    assert caught.reason in (Reason.CONNECTION, Reason.TIMEOUT)
    assert "proxy" in str(caught)
    assert not any(part in str(caught) for part in ("anna", "hunter", "two"))
    assert Client(KEY, "http://127.0.0.1:9").credentials, "not used for this one"


def test_authorities_are_those_of_a_variable_else_the_systems(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    subprocess.run(["openssl", "rehash", folder], check=True)
    with FakeAPI(certified(authority)) as api:
        for variable, path in {
            "REQUESTS_CA_BUNDLE": tmp_path / "ca.pem",
            "CURL_CA_BUNDLE": folder,
            "SSL_CERT_FILE": tmp_path / "ca.pem",
            "SSL_CERT_DIR": folder,
        }.items():
            with pytest.MonkeyPatch.context() as patch:
                for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
                    patch.delenv(other, raising=False)
                assert failure(api.url).reason is Reason.TLS
                patch.setenv(variable, str(path))
                assert Client(KEY, api.url).get(QUEUE) == api.answer.body
        assert len(api.requests) == 4


@pytest.mark.parametrize("content", [None, "", "nonsense", "folder"])
def test_authorities_that_can_not_be_read_matter_only_for_tls(
    content: str | None, api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    assert Client(KEY, api.url).get(QUEUE)
    with FakeAPI(certified(trustme.CA())) as secure:
        caught = failure(secure.url)
    assert caught.reason is Reason.TLS
    if content != "folder":
        assert str(path) in str(caught)
