"""Check a running exporter, such as for a container's health check."""

import http.client
import ssl
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from nextmv_exporter.units import Address

_TIMEOUT = 4.0
"""Seconds for each address."""

_REFUSALS = (ssl.SSLEOFError, http.client.RemoteDisconnected, ConnectionResetError)
"""How a handshake ends without the certificate that the server requires."""

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
    # The file need not be what the server uses: it keeps its configuration if it rejects a change.
    attempts = [True, False] if web_config else [False]
    healthy = True
    for host, port in addresses:
        results = [_request(_LOOPBACK.get(host, host), port, tls=tls) for tls in attempts]
        success, text = next((result for result in results if result[0]), results[0])
        click.echo(f"{host}:{port}: {text}")
        healthy = healthy and success
    return 0 if healthy else 1


def _request(host: str, port: int, *, tls: bool) -> tuple[bool, str]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)
    with closing(connection):
        try:
            connection.request("GET", "/-/healthy")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            if tls and isinstance(error, _REFUSALS):
                return True, "serves TLS; no more can be checked without a client certificate"
            return False, str(error)
    return status == http.HTTPStatus.OK, f"status {status}"
