"""The web configuration file, in the format of Prometheus's exporter-toolkit, and its TLS contexts.

docs/web-configuration.md lists the differences. Unsupported keys are rejected.
"""

import contextlib
import os
import re
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from nextmv_exporter.files import Reloaded, Watch, read, read_yaml
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.errors import ConfigurationError

# 22 characters of salt, of which the last has two significant bits, and 31 of the hash.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_PLAIN_KEY = re.compile(r"[\w.@+-]{1,64}")
_VERIFY_MODES = {
    **dict.fromkeys(("", "NoClientCert", "RequestClientCert"), ssl.CERT_NONE),
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
# Go's names, which the format uses, and OpenSSL's.
_CIPHERS_12 = {
    f"TLS_ECDHE_{kind}_WITH_{go}": f"ECDHE-{kind}-{openssl}"
    for kind in ("ECDSA", "RSA")
    for go, openssl in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
    }.items()
}
# Go does not let these be chosen either: a list that names one allows all of TLS 1.3.
_CIPHERS_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

log = get_logger()


def _one_of(names: Iterable[str]) -> Any:
    return Field(pattern=f"^({'|'.join(names)})$")


def _bcrypt(value: str) -> str:
    if not _BCRYPT.fullmatch(value):
        raise ValueError("is not a bcrypt hash: make one with `htpasswd -nBC 10 ''`")
    return value


Line = Annotated[str, Field(pattern="^[ -~]*$")]
Version = Annotated[str, _one_of(_VERSIONS)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)


class TLSServerConfig(_Section):
    """The server's certificate, and the verification of clients."""

    cert_file: str = ""
    key_file: str = ""
    cert: str = ""
    key: str = ""
    client_auth_type: Annotated[str, _one_of(_VERIFY_MODES)] = ""
    client_ca_file: str = ""
    client_ca: str = ""
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: list[Annotated[str, _one_of([*_CIPHERS_12, *_CIPHERS_13])]] = []
    prefer_server_cipher_suites: bool = True

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """Whether clients' certificates are verified; more protection compares as greater."""
        return _VERIFY_MODES[self.client_auth_type]

    @model_validator(mode="after")
    def _consistent(self) -> "TLSServerConfig":
        if self.client_auth_type in ("", "NoClientCert") and self.client_ca + self.client_ca_file:
            raise ValueError("client_ca_file or client_ca needs a client_auth_type")
        if self.cipher_suites and _CIPHERS_12.keys().isdisjoint(self.cipher_suites):
            self.min_version = "TLS13"  # no suite of TLS 1.2 is allowed
        if self.min_version > self.max_version:
            raise ValueError("min_version, or that of the cipher_suites, is above max_version")
        return self

    def load(self, folder: Path, watch: Watch) -> None:
        """Read the files that it names.

        Args:
            folder: file names are relative to it.
            watch: called with each file.

        Raises:
            ConfigurationError: a file can't be read.
        """
        for name in ("cert", "key", "client_ca"):
            if file := getattr(self, f"{name}_file"):
                watch(folder / file)
                content = read(folder / file, f"tls_server_config.{name}_file")
                # Any text is allowed between certificates.
                setattr(self, name, content.decode("ascii", "ignore"))

    def context(self) -> ssl.SSLContext:
        """Create a TLS context.

        Returns:
            The context. Each connection needs one of its own: those of a context can resume its
            TLS sessions, and a client whose certificate has expired would never be verified again.

        Raises:
            ConfigurationError: OpenSSL does not accept the certificates or the key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.maximum_version = _VERSIONS[self.max_version]
        if chosen := [_CIPHERS_12[n] for n in self.cipher_suites if n in _CIPHERS_12]:
            context.set_ciphers(":".join(chosen))
        expected = "cert and key must be a PEM certificate and its key without a passphrase"
        try:
            with _as_file(self.cert) as cert, _as_file(self.key) as key:
                # With a password, OpenSSL does not prompt for one on the terminal.
                context.load_cert_chain(cert, key, password="")
            context.verify_mode = self.verify_mode
            if self.verify_mode:
                expected = "client_ca must be PEM certificates"
                context.load_verify_locations(cadata=self.client_ca)
        except (ssl.SSLError, ValueError, TypeError) as error:
            raise ConfigurationError(f"tls_server_config: {expected}: {error}") from None
        return context


class HeadersConfig(_Section):
    """Headers of every response; blank ones are left out."""

    csp: Line = Field(default="", alias="Content-Security-Policy")
    hsts: Line = Field(default="", alias="Strict-Transport-Security")
    content_type_options: Literal["", "nosniff"] = Field(default="", alias="X-Content-Type-Options")
    frame_options: Literal["", "deny", "sameorigin"] = Field(default="", alias="X-Frame-Options")
    xss_protection: Line = Field(default="", alias="X-XSS-Protection")


class HTTPServerConfig(_Section):
    """How the server speaks HTTP; it speaks HTTP/1.1, whatever `http2` says."""

    http2: bool = True
    headers: HeadersConfig = HeadersConfig()


class WebConfig(_Section):
    """The whole file; an empty one changes nothing."""

    # None if the key is missing. A key without a value is refused: the file may have been cut off.
    tls_server_config: TLSServerConfig = None  # type: ignore[assignment]
    http_server_config: HTTPServerConfig = HTTPServerConfig()
    basic_auth_users: dict[str, Annotated[str, AfterValidator(_bcrypt)]] = {}


def web_config(path: Path) -> Reloaded[WebConfig]:
    """Read a web configuration file, and again when it or a file that it names changes.

    Args:
        path: the file.

    Returns:
        A function that returns the latest valid configuration. A change that removes protection
        is invalid: the file may be truncated while it is written.

    Raises:
        ConfigurationError: it can't be read or is invalid. The message names the key and quotes no
            value.
    """

    def load(last: WebConfig | None, watch: Watch) -> WebConfig:
        watch(path)
        document = read_yaml(path, "--web.config.file")
        try:
            config = WebConfig.model_validate({} if document is None else document)
            if tls := config.tls_server_config:
                tls.load(path.parent, watch)
                tls.context()
            _reject_weaker(_protection(last or config), _protection(config))
        except ValidationError as error:
            raise ConfigurationError(f"--web.config.file {path}: {_first_fault(error)}") from None
        except ConfigurationError as error:
            raise type(error)(f"--web.config.file {path}: {error}") from None
        return config

    return Reloaded(
        load,
        lambda _old, _new: log.info("Web configuration reloaded", file=str(path)),
        "Reload failed, keeping current web configuration",
    )


def _protection(config: WebConfig) -> dict[str, int]:
    """Return what protects, by key; more of it compares as greater."""
    protection = {"basic_auth_users": int(bool(config.basic_auth_users))}
    if tls := config.tls_server_config:
        protection |= {
            "tls_server_config": 1,
            "tls_server_config.client_auth_type": tls.verify_mode,
            "tls_server_config.cipher_suites": bool(tls.cipher_suites),
            "tls_server_config.min_version": _VERSIONS[tls.min_version],
            "tls_server_config.max_version": _VERSIONS[tls.max_version],
        }
    return protection


def _reject_weaker(old: Mapping[str, int], new: Mapping[str, int]) -> None:
    for key in {**old, **new}:
        if new.get(key, -1) < old.get(key, sys.maxsize):
            raise ConfigurationError(f"{key} can't be added, removed or weakened without a restart")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    # A misplaced key might be a hash or a private key.
    parts = [str(part) for part in fault["loc"] if part != "[key]"]
    key = ".".join(part if _PLAIN_KEY.fullmatch(part) else "(not shown)" for part in parts)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "there is no such key, or this server does not support it"
    return f"{key}: {message}" if key else message


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Yield the name of a file in memory: OpenSSL reads only files, and a key belongs in none."""
    has_memfd = hasattr(os, "memfd_create")  # on Linux
    with os.fdopen(os.memfd_create("pem"), "wb") if has_memfd else TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"
