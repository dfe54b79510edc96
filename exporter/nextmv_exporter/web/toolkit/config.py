"""The web configuration file, in the format of Prometheus's exporter-toolkit.

docs/web-configuration.md lists the differences. Unsupported keys are rejected with an error.
"""

import re
import ssl
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from nextmv_exporter.files import read_yaml
from nextmv_exporter.nextmv.errors import ConfigurationError

# 22 characters of salt, of which the last has two significant bits, and 31 of the hash.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_VERIFY_MODES = {
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_BOOLEANS = {
    spelling: value
    for words, value in (("y yes on true", True), ("n no off false", False))
    for word in words.split()
    for spelling in (word, word.capitalize(), word.upper())
}
_NO_TIME = re.compile(r"0|(0+(\.0+)?(ns|us|µs|ms|s|m|h))+")
_PLAIN_KEY = re.compile(r"[\w.@+-]{1,64}")


def _bcrypt(value: str) -> str:
    if not _BCRYPT.fullmatch(value):
        raise ValueError("is not a bcrypt hash: make one with `htpasswd -nBC 10 ''`")
    return value


def _unsupported(value: object) -> object:
    if value:
        raise ValueError("this server does not support it: remove it")
    return value


def _boolean(value: object) -> object:
    # Only what Go's YAML library accepts.
    return _BOOLEANS.get(value, value) if isinstance(value, str) else value


def _off(value: str) -> str:
    if not _NO_TIME.fullmatch(value):
        raise ValueError("this server does not limit rates: set it to 0")
    return value


Unsupported = Annotated[object, AfterValidator(_unsupported)]
Line = Annotated[str, Field(pattern="^[ -~]*$")]
Boolean = Annotated[bool, BeforeValidator(_boolean)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: object) -> object:
        """Ignore null values, except in sections where they may come from a truncated file."""
        if not isinstance(values, dict):
            return values
        kept = ("tls_server_config", "basic_auth_users")
        return {key: value for key, value in values.items() if value is not None or key in kept}


class TLSServerConfig(_Section):
    """The server's certificate, and the verification of clients."""

    cert_file: str = ""
    key_file: str = ""
    cert: str = ""
    key: str = ""
    client_auth_type: Literal[
        "",
        "NoClientCert",
        "RequestClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = ""
    client_ca_file: str = ""
    client_ca: str = ""
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] = "TLS13"
    cipher_suites: list[str] = Field(default_factory=list)
    prefer_server_cipher_suites: Boolean = True
    client_allowed_sans: Unsupported = None
    curve_preferences: Unsupported = None

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """Whether clients' certificates are verified; more protection compares as greater."""
        return _VERIFY_MODES.get(self.client_auth_type, ssl.CERT_NONE)

    @property
    def has_client_ca(self) -> bool:
        """Whether the configuration names authorities of clients' certificates."""
        return bool(self.client_ca or self.client_ca_file)

    @model_validator(mode="after")
    def _consistent(self) -> "TLSServerConfig":
        for name in ("cert", "key"):
            if not getattr(self, name) and not getattr(self, f"{name}_file"):
                raise ValueError(f"{name}_file or {name} is missing")
        if self.has_client_ca and self.client_auth_type in ("", "NoClientCert"):
            raise ValueError("client_ca_file or client_ca needs a client_auth_type")
        if self.client_auth_type == "RequireAndVerifyClientCert" and not self.has_client_ca:
            raise ValueError("client_auth_type RequireAndVerifyClientCert needs a client_ca_file")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self


class HeadersConfig(_Section):
    """Headers of every response; blank ones are left out."""

    csp: Line = Field(default="", alias="Content-Security-Policy")
    hsts: Line = Field(default="", alias="Strict-Transport-Security")
    content_type_options: Literal["", "nosniff"] = Field(default="", alias="X-Content-Type-Options")
    frame_options: Literal["", "deny", "sameorigin"] = Field(default="", alias="X-Frame-Options")
    xss_protection: Line = Field(default="", alias="X-XSS-Protection")


class HTTPServerConfig(_Section):
    """How the server speaks HTTP."""

    http2: Boolean = True
    headers: HeadersConfig = Field(default_factory=HeadersConfig)


class RateLimitConfig(_Section):
    """A limit of requests, which must be switched off."""

    interval: Annotated[str, AfterValidator(_off)] = "0"
    burst: Annotated[int, Field(strict=False)] = 0


def _given(value: object) -> object:
    if value is None:
        raise ValueError("must be a mapping of keys to values")
    return value


class WebConfig(_Section):
    """The whole file; an empty one changes nothing."""

    tls_server_config: Annotated[TLSServerConfig | None, BeforeValidator(_given)] = None
    http_server_config: HTTPServerConfig = Field(default_factory=HTTPServerConfig)
    basic_auth_users: dict[str, Annotated[str, AfterValidator(_bcrypt)]] = Field(
        default_factory=dict
    )
    rate_limit: RateLimitConfig = Field(default_factory=RateLimitConfig)


def load_web_config(path: Path) -> WebConfig:
    """Read and check a web configuration file.

    Args:
        path: the file.

    Returns:
        The configuration; its file names are resolved against the file's folder.

    Raises:
        ConfigurationError: it can't be read or is invalid. The message names the key, and
            does not quote any value.
    """
    document = read_yaml(path, "--web.config.file", _Loader)
    try:
        config = WebConfig.model_validate({} if document is None else document)
    except ValidationError as error:
        raise ConfigurationError(f"--web.config.file {path}: {_first_fault(error)}") from None
    if tls := config.tls_server_config:
        for name in ("cert_file", "key_file", "client_ca_file"):
            if file := getattr(tls, name):
                setattr(tls, name, str(path.parent / file))
    return config


class _Loader(yaml.SafeLoader):
    """Loader that reads numbers, dates and booleans as text, as Go does.

    Rejects what YAML forbids and PyYAML allows: a key twice, of which one would be ignored.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigurationError(f"{_shown(key.value)} is given twice (line {line})")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(_shown(part) for part in fault["loc"] if part != "[key]")
    match fault["type"]:
        case "extra_forbidden":
            message = "there is no such key"
        case "model_type" | "dict_type":
            message = "must be a mapping of keys to values"
        case "string_pattern_mismatch":
            message = "must be one line of printable ASCII"
        case _:
            message = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _shown(key: object) -> str:
    """Return a key for an error message: a misplaced one might be a hash or a private key."""
    return str(key) if _PLAIN_KEY.fullmatch(str(key)) else "(not shown)"
