"""When a connection's client verification has changed since its handshake."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from nextmv_exporter.web.protocol import _client_verification

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
