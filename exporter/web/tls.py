"""TLS contexts for the server, from the web configuration."""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Self

from exporter.nextmv.errors import ConfigurationError
from exporter.web.config import TLSServerConfig

# Go's names, which the format uses, and OpenSSL's. Those of TLS 1.3 can't be chosen in Go
# either: naming one allows all.
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_PIPE_BYTES = 60_000


def server_context(config: TLSServerConfig) -> ssl.SSLContext:
    """Make the context that a configuration describes.

    Args:
        config: the configuration, with file names resolved.

    Returns:
        The context.

    Raises:
        ConfigurationError: a certificate, key or cipher suite is unusable; the message names
            the key of the configuration.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.maximum_version = _VERSIONS[config.max_version]
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _choose_ciphers(context, config.cipher_suites)
    with (
        _as_file(config.cert_file, config.cert) as cert,
        _as_file(config.key_file, config.key) as key,
        _naming("cert_file, key_file", config.cert_file, config.key_file),
    ):
        # Without a password here, OpenSSL would ask for that of an encrypted key at the terminal.
        context.load_cert_chain(cert, key, password="")
    if config.client_auth_type not in ("", "NoClientCert"):
        with _naming("client_ca_file", config.client_ca_file):
            context.load_verify_locations(
                cafile=config.client_ca_file or None, cadata=config.client_ca or None
            )
        required = config.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


class ReloadingContext(ssl.SSLContext):
    """A context that gives each new connection the latest one.

    Connections that are open keep theirs.

    Args:
        latest: gives the context to use.
    """

    def __new__(cls, latest: Callable[[], ssl.SSLContext]) -> Self:
        """Make the underlying context, which itself serves nobody."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, latest: Callable[[], ssl.SSLContext]) -> None:
        self._latest = latest

    def wrap_bio(self, *args: object, **kwargs: object) -> ssl.SSLObject:
        """Begin a connection, as asyncio asks for it."""
        return self._latest().wrap_bio(*args, **kwargs)  # type: ignore[arg-type]


def _choose_ciphers(context: ssl.SSLContext, names: list[str]) -> None:
    unknown = [name for name in names if name not in _CIPHERS]
    if unknown:
        raise ConfigurationError(
            f"tls_server_config.cipher_suites: {unknown[0]!r} is not known or not safe; "
            f"these are: {', '.join(_CIPHERS)}"
        )
    if chosen := [_CIPHERS[name] for name in names if _CIPHERS[name]]:
        context.set_ciphers(":".join(chosen))


@contextlib.contextmanager
def _as_file(file: str, text: str) -> Iterator[str]:
    """Give a file's name, or that of a pipe with the text: OpenSSL reads only files.

    A pipe leaves no private key on a disk, and needs no disk that can be written.
    """
    if file:
        yield file
        return
    content = text.encode()
    if len(content) > _PIPE_BYTES:
        raise ConfigurationError("tls_server_config: an inline certificate or key is too long")
    reader, writer = os.pipe()
    try:
        os.write(writer, content)
        os.close(writer)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)


@contextlib.contextmanager
def _naming(keys: str, *files: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        names = ", ".join(file for file in files if file) or "given inline"
        fault = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigurationError(f"tls_server_config.{keys} ({names}): {fault}") from None
