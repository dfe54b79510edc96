"""Check a running exporter, such as for a container's health check."""

import http.client
import ssl
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click
import yaml

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
        web_config: its web configuration file, which specifies whether it serves TLS.

    Returns:
        The exit status: 0 if every address is healthy, else 1.
    """
    attempts = _attempts(web_config)
    healthy = True
    for host, port in addresses:
        results = [_request(_LOOPBACK.get(host, host), port, **attempt) for attempt in attempts]
        success, text = next((result for result in results if result[0]), results[0])
        click.echo(f"{host}:{port}: {text}")
        healthy = healthy and success
    return 0 if healthy else 1


def _attempts(web_config: Path | None) -> Sequence[Mapping[str, bool]]:
    """Return how to connect: with TLS or not, and whether a client certificate is required."""
    plain = {"tls": False, "certificate": False}
    if web_config is None:
        return [plain]
    try:
        section = (yaml.safe_load(web_config.read_bytes()) or {}).get("tls_server_config")
        required = section and section.get("client_auth_type") == "RequireAndVerifyClientCert"
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        # The server keeps the previous valid configuration.
        return [{"tls": True, "certificate": True}, plain]
    return [{"tls": True, "certificate": bool(required)}] if section else [plain]


def _request(host: str, port: int, *, tls: bool, certificate: bool) -> tuple[bool, str]:
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
            if certificate and isinstance(error, _REFUSALS):
                return True, "serves TLS; no more can be checked without a client certificate"
            return False, str(error)
    return status == http.HTTPStatus.OK, f"status {status}"
