"""TLS on real sockets: versions, clients' certificates, and what changes while it runs."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.exporter import Served, ask, exporter_here
from support.programs import write_yaml
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
GO_AES_256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
GO_13 = "TLS_AES_256_GCM_SHA384"
REQUIRED = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
IF_GIVEN = REQUIRED | {"client_auth_type": "VerifyClientCertIfGiven"}
FILES = {"cert_file": "server.pem", "key_file": "server.key"}

Serve = Callable[..., Served]


@pytest.fixture
def serve(authority: Authority, account: Mapping[str, Credentials]) -> Iterator[Serve]:
    """Serves with keys of `tls_server_config`."""
    with ExitStack() as stack:

        def start(**tls: Any) -> Served:
            configure(authority.folder, **tls)
            file = authority.folder / "web.yml"
            return stack.enter_context(exporter_here(accounts=account, web_config=file))

        yield start


def configure(folder: Path, **tls: Any) -> None:
    write_yaml(folder / "web.yml", {"tls_server_config": FILES | tls})


def refuses(served: Served, client: ssl.SSLContext) -> bool:
    try:
        served.get(tls=client)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def limited(
    client: ssl.SSLContext,
    lowest: ssl.TLSVersion = TLS12,
    highest: ssl.TLSVersion = TLS13,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    client.minimum_version, client.maximum_version = lowest, highest
    if ciphers:
        client.set_ciphers(ciphers)
    return client


def certificate(connection: HTTPConnection) -> str:
    """The serial number of the certificate that a connection was shown."""
    assert isinstance(connection.sock, ssl.SSLSocket)
    shown = connection.sock.getpeercert()
    assert shown
    return str(shown["serialNumber"])


def shown(served: Served, client: ssl.SSLContext) -> str:
    with closing(served.connection(client)) as connection:
        connection.connect()
        return certificate(connection)


def test_a_client_that_trusts_the_authority_is_answered_and_nothing_is_said_in_plain(
    serve: Serve, authority: Authority
) -> None:
    served = serve()
    assert served.url.startswith("https://127.0.0.1:")
    assert 'nextmv_up{account="default"} 1.0' in served.get("/metrics", tls=authority.client()).body
    assert '"__scheme__":"https"' in served.get("/sd", tls=authority.client()).body
    with pytest.raises(ssl.SSLCertVerificationError):
        served.get(tls=ssl.create_default_context())
    with pytest.raises(ConnectionError):
        served.get()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize(
    ("keys", "versions"),
    [
        ({}, {TLS12, TLS13}),
        ({"max_version": "TLS12"}, {TLS12}),
        ({"min_version": "TLS13"}, {TLS13}),
        ({"cipher_suites": [GO_13]}, {TLS13}),
        ({"cipher_suites": [GO_AES_256]}, {TLS12, TLS13}),
    ],
)
def test_only_the_configured_versions_are_spoken(
    serve: Serve, authority: Authority, keys: Any, versions: set[ssl.TLSVersion]
) -> None:
    served = serve(**keys)
    for version in (TLS12, TLS13):
        assert refuses(served, limited(authority.client(), version, version)) is (
            version not in versions
        )
    old = ssl.TLSVersion.TLSv1_1
    assert refuses(served, limited(authority.client(), old, old, "ALL:@SECLEVEL=0"))


def test_certificates_and_key_can_be_given_inline_with_any_text_between(
    serve: Serve, authority: Authority
) -> None:
    pem = authority.folder / "server.pem"
    served = serve(
        cert_file="",
        key_file="",
        cert=f"# {'any text ' * 10_000}\n{pem.read_text()}",
        key=pem.with_suffix(".key").read_text(),
        client_auth_type="RequireAndVerifyClientCert",
        client_ca=(authority.folder / "ca.pem").read_text(),
    )
    assert not refuses(served, authority.client(authority.issue("client")))
    assert refuses(served, authority.client())


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (REQUIRED, {"none", "stranger", "expired"}),
        (IF_GIVEN, {"stranger", "expired"}),
        ({"client_auth_type": "RequestClientCert"}, set()),
        ({}, set()),
    ],
)
def test_clients_certificates_are_verified_as_configured(
    serve: Serve,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
    keys: Any,
    refused: set[str],
) -> None:
    served = serve(**keys)
    clients = {
        "none": None,
        "stranger": Authority(tmp_path_factory.mktemp("stranger")).issue("client"),
        "expired": authority.issue("expired", valid_for=timedelta(days=-1)),
        "right": authority.issue("client"),
    }
    for version in (TLS12, TLS13):
        assert refused == {
            name
            for name, certificate in clients.items()
            if refuses(served, limited(authority.client(certificate), version, version))
        }


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_no_session_is_resumed_so_that_an_expired_certificate_is_refused(
    serve: Serve, authority: Authority, version: ssl.TLSVersion
) -> None:
    served = serve(**REQUIRED)
    client = authority.client(authority.issue("client", valid_for=timedelta(seconds=3)))
    client = limited(client, version, version)
    request = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    ended = time.monotonic() + 4

    def connect(stack: ExitStack, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        encrypted = client.wrap_socket(plain, server_hostname="localhost", session=session)
        stack.enter_context(encrypted).sendall(request)
        assert encrypted.recv(99).startswith(b"HTTP/1.1 200"), "refused"
        return encrypted

    with ExitStack() as stack:
        first = connect(stack, None)
        assert not connect(stack, first.session).session_reused
        time.sleep(max(0.0, ended - time.monotonic()))
        with pytest.raises((OSError, AssertionError)):
            connect(stack, first.session)


def test_a_new_certificate_is_shown_to_new_connections_while_open_ones_go_on(
    serve: Serve, authority: Authority
) -> None:
    served = serve()
    with closing(served.connection(authority.client())) as open_one:
        assert ask(open_one).status == 200
        opened, before = open_one.sock, certificate(open_one)
        authority.issue("server")
        assert shown(served, authority.client()) != before
        time.sleep(2)  # connections are looked at each second
        assert ask(open_one, "/metrics").status == 200
        assert open_one.sock is opened, "it was opened anew"


def is_disconnected(connection: HTTPConnection) -> bool:
    assert connection.sock
    connection.sock.settimeout(0.1)
    try:
        return not connection.sock.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_more_may_be_demanded_of_clients_also_of_those_who_are_connected(
    serve: Serve, authority: Authority
) -> None:
    served = serve()
    with closing(served.connection(authority.client())) as open_one:
        assert ask(open_one).status == 200
        configure(authority.folder, **REQUIRED)
        assert refuses(served, authority.client())
        until(lambda: is_disconnected(open_one), what="the end of the unverified connection")
    assert not refuses(served, authority.client(authority.issue("client")))


def test_clients_of_an_authority_that_is_replaced_are_refused_and_disconnected(
    serve: Serve, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    served = serve(**REQUIRED)
    client = authority.client(authority.issue("client"))
    with closing(served.connection(client)) as open_one:
        assert ask(open_one).status == 200
        other = Authority(tmp_path_factory.mktemp("other"))
        (other.folder / "ca.pem").replace(authority.folder / "ca.pem")
        assert refuses(served, client)
        until(lambda: is_disconnected(open_one), what="the end of the old client's connection")
    assert not refuses(served, authority.client(other.issue("client")))
