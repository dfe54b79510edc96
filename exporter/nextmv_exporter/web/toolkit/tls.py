"""TLS contexts for the server, from the web configuration."""

import contextlib
import errno
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nextmv_exporter.files import read
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.web.toolkit.config import TLSServerConfig

# Go's names, which the format uses, and OpenSSL's. Those of TLS 1.3 can't be selected in Go
# either: naming one allows all.
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OTHER_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
_PIPE_BYTES = 60_000


def server_context(config: TLSServerConfig) -> ssl.SSLContext:
    """Create the TLS context for a configuration.

    Args:
        config: the configuration, with file names resolved.

    Returns:
        The context.

    Raises:
        ConfigurationError: a certificate, key or cipher suite is invalid; the message names the
            key of the configuration.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.maximum_version = _VERSIONS[config.max_version]
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _choose_ciphers(context, config.cipher_suites)
    _load_identity(
        context,
        _Pem("cert", config.cert_file, config.cert),
        _Pem("key", config.key_file, config.key),
    )
    context.verify_mode = config.verify_mode
    if context.verify_mode and config.has_client_ca:
        _load_certificates(context, _Pem("client_ca", config.client_ca_file, config.client_ca))
    elif context.verify_mode:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


def _choose_ciphers(context: ssl.SSLContext, names: list[str]) -> None:
    unknown = [name for name in names if name not in _CIPHERS]
    if unknown:
        raise ConfigurationError(
            f"tls_server_config.cipher_suites: {unknown[0]!r} is unknown or insecure; "
            f"supported: {', '.join(_CIPHERS)}"
        )
    if chosen := [_CIPHERS[name] for name in names if _CIPHERS[name]]:
        context.set_ciphers(":".join(chosen))
    elif names:
        # No suite is left for TLS 1.2, and its default suites were not requested.
        if context.maximum_version == ssl.TLSVersion.TLSv1_2:
            raise ConfigurationError(
                "tls_server_config.cipher_suites: has none for TLS 1.2, which max_version requires"
            )
        context.minimum_version = ssl.TLSVersion.TLSv1_3


@dataclass(frozen=True)
class _Pem:
    """A certificate or key that the configuration gives, in a file or inline."""

    key: str
    file: str
    inline: str

    def text(self) -> str:
        if not self.file:
            return self.inline
        content = read(Path(self.file), f"tls_server_config.{self.key}_file")
        return content.decode("ascii", "ignore")  # any text is allowed between certificates

    def fault(self, what: str) -> ConfigurationError:
        where = f"{self.key}_file ({self.file})" if self.file else self.key
        return ConfigurationError(f"tls_server_config.{where}: {what}")

    @contextlib.contextmanager
    def as_file(self) -> Iterator[str]:
        """Yield the file's name, or that of a pipe with the text: OpenSSL reads only files.

        A pipe leaves no private key on a disk, and needs no writable disk.
        """
        if self.file:
            yield self.file
            return
        content = self.inline.encode()
        if len(content) > _PIPE_BYTES:
            raise self.fault("is too long to be given inline")
        reader, writer = os.pipe()
        try:
            os.write(writer, content)
            os.close(writer)
            yield f"/dev/fd/{reader}"
        finally:
            os.close(reader)


class _EncryptedKeyError(Exception):
    """A key that needs a passphrase."""


def _load_identity(context: ssl.SSLContext, cert: _Pem, key: _Pem) -> None:
    # OpenSSL does not report which of the two is invalid, so the certificate is tried alone.
    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert)
    key.text()

    def passphrase() -> str:
        # Without this, OpenSSL would prompt on the terminal.
        raise _EncryptedKeyError

    try:
        with cert.as_file() as cert_file, key.as_file() as key_file:
            context.load_cert_chain(cert_file, key_file, passphrase)
    except _EncryptedKeyError:
        raise key.fault("is encrypted: give the key without a passphrase") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # it may be read later
        # OpenSSL gives no reason for a key that it can't read; for a pipe, it reports that it
        # can't seek.
        reason = getattr(error, "reason", None)
        if not reason:
            raise key.fault("holds no private key in PEM format") from None
        if reason in _OTHER_KEY:
            raise key.fault("is not the key of the certificate") from None
        raise cert.fault(f"OpenSSL rejects it: {reason}") from None  # such as EE_KEY_TOO_SMALL


def _load_certificates(context: ssl.SSLContext, pem: _Pem) -> None:
    text = pem.text()
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError, TypeError):
        raise pem.fault("holds no certificate in PEM format") from None
