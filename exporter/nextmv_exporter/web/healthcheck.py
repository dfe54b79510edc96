"""Check a running exporter, such as for a container's health check."""

import http.client
import socket
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import yaml

from nextmv_exporter.output import echo
from nextmv_exporter.units import Address

_TIMEOUT = 4.0
"""Seconds for each attempt."""

_REFUSALS = (ssl.SSLEOFError, http.client.RemoteDisconnected, ConnectionResetError)
"""How a handshake ends without the certificate that the server requires."""

_HANDSHAKE = b"\x16"
"""First byte of a TLS record that holds a message of a handshake."""

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def check(addresses: Sequence[Address], web_config: Path | None) -> int:
    """Request `/-/healthy` at every listen address, through no proxy, and print the results.

    The server's certificate is not verified. If the server requires a client certificate, which
    this client does not have, a TLS handshake with the server is enough.

    Args:
        addresses: where the exporter listens.
        web_config: its web configuration file; with one, it may serve TLS.

    Returns:
        The exit status: 0 if every address is healthy, else 1.
    """
    healthy = True
    for host, port in addresses:
        address = Address(_LOOPBACK.get(host, host), port)
        failures = []
        # The server keeps its configuration if it rejects a change of the file.
        for tls in _attempts(web_config):
            success, text = _request(address, tls=tls)
            if success:
                break
            failures.append(text)
        else:
            healthy, text = False, failures[0]
        echo(f"{host}:{port}: {text}", err=False)
    return 0 if healthy else 1


def _attempts(web_config: Path | None) -> Sequence[bool]:
    """Return whether to use TLS, first what the file says."""
    if web_config is None:
        return [False]
    try:
        tls = "tls_server_config" in (yaml.safe_load(web_config.read_bytes()) or {})
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        tls = True
    return [tls, not tls]


def _request(address: Address, *, tls: bool) -> tuple[bool, str]:
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT)
    if tls:
        connection = http.client.HTTPSConnection(*address, timeout=_TIMEOUT, context=_context())
    with closing(connection):
        try:
            connection.request("GET", "/-/healthy")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            if tls and isinstance(error, _REFUSALS) and _begins_handshake(address):
                return True, "serves TLS; no more can be checked without a client certificate"
            return False, str(error)
    return status == http.HTTPStatus.OK, f"status {status}"


def _begins_handshake(address: Address) -> bool:
    """Return whether a server responds to the first message of a TLS handshake."""
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        _context().wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    try:
        with socket.create_connection(address, _TIMEOUT) as connection:
            connection.sendall(hello.read())
            return connection.recv(1) == _HANDSHAKE
    except OSError:
        return False


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
