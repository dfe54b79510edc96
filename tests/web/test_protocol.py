"""The protocol of a connection: what is written to it, and how its client was verified."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from nextmv_exporter.web.protocol import Protocol, _client_verification

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def authority(serial: int = 1) -> str:
    """Certificate of an authority that differs in its key alone, or in its serial number too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(CREATED)
        .not_valid_after(CREATED + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode()


def verifying(*authorities: str, mode: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = mode
    for each in authorities:
        context.load_verify_locations(cadata=each)
    return context


FIRST = authority()


@pytest.mark.parametrize(
    ("context", "same"),
    [
        (verifying(FIRST), True),
        (verifying(FIRST, mode=ssl.CERT_OPTIONAL), False),
        (verifying(), False),
        (verifying(FIRST, authority(2)), False),
        (verifying(authority(2)), False),
        (verifying(authority()), False),
    ],
    ids=["same", "mode", "none", "one more", "another", "another key"],
)
def test_the_mode_and_the_whole_certificates_of_authorities_are_compared(
    context: ssl.SSLContext, same: bool
) -> None:
    found = _client_verification(context)
    assert (found == _client_verification(verifying(FIRST))) is same


def test_writing_pauses_until_the_client_has_read_all() -> None:
    """So that the time limit of a client that stops reading begins with the first byte unread."""

    async def scenario() -> tuple[int, int]:
        config = uvicorn.Config(PlainTextResponse("text"), log_config=None)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Protocol(config, state, {}, None), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        [protocol] = state.connections
        limits: tuple[int, int] = protocol.transport.get_write_buffer_limits()
        writer.close()
        server.close()
        return limits

    assert asyncio.run(scenario()) == (0, 1)
