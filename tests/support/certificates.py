"""Certificates made for a test, and TLS contexts of clients that use them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


class Authority:
    """Issues certificates into a folder, each as NAME.pem and NAME.key.

    Args:
        folder: where they go, and the authority's own as ca.pem.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")

    def issue(self, name: str, *, valid_for: timedelta = timedelta(days=1)) -> Path:
        """Write a certificate for this machine, or write it anew; gives its path."""
        now = datetime.now(UTC)
        issued = self.ca.issue_cert(
            "localhost",
            "127.0.0.1",
            common_name=name,
            not_before=now - timedelta(days=2),
            not_after=now + valid_for,
        )
        path = self.folder / f"{name}.pem"
        path.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(path.with_suffix(".key"))
        return path

    def client(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A client that trusts the authority, and shows a certificate if it has one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if certificate:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return context


def encrypt_key(source: Path, target: Path) -> None:
    """Write a key again so that it needs a passphrase."""
    key = load_pem_private_key(source.read_bytes(), None)
    encryption = BestAvailableEncryption(b"hunter2")
    target.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def issue_weak(certificate: Path) -> None:
    """Write a certificate, signed by itself, whose key is of 1024 bits."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial_number=1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate.with_suffix(".key").write_bytes(pem)


def write_rsa_key(target: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    target.write_bytes(pem)
