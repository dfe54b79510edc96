"""API key and endpoint, found where Nextmv's own tools look for them.

The order is that of Nextmv's Python SDK: given in code, the environment
(`NEXTMV_API_KEY`, `NEXTMV_ENDPOINT`), the profile in `~/.nextmv/config.yaml`.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from urllib3.util import parse_url

from nextmv_exporter import files
from nextmv_exporter.nextmv.errors import ConfigurationError, UnknownProfileError

DEFAULT_ENDPOINT = "https://api.cloud.nextmv.io"
DEFAULT_PROFILE = "default"
ALL_PROFILES = "*"
"""Selects every profile that has a key."""

_SHOWN = 10  # profiles in an error
# Top-level keys of the configuration file that are settings, not profiles: as in the SDK.
_SETTINGS = frozenset({
    "apikey", "auth_session", "auth_type", "default",
    "endpoint", "sso_domain", "system_certs", "team_id",
})  # fmt: skip
_CREATE = "`nextmv configuration create`"


def default_config_file() -> Path:
    """Return the path of the Nextmv CLI's configuration file: `~/.nextmv/config.yaml`.

    Returns:
        The path; where there is no home directory it starts with `~`, and no such file exists.
    """
    return Path(os.path.expanduser("~/.nextmv/config.yaml"))  # noqa: PTH111 - Path's raises


@dataclass(frozen=True)
class Credentials:
    """What a request to the API needs.

    Args:
        api_key: the bearer token; kept out of `repr`.
        url: base URL of the API, with scheme, without a slash at the end.
    """

    api_key: str = field(repr=False)
    url: str

    @property
    def sent_in_clear(self) -> bool:
        """Whether the key is sent without encryption over a network."""
        parts = urlsplit(self.url)
        local = re.fullmatch(r"(.+\.)?localhost|127(\.\d+){3}|::1", parts.hostname or "")
        return parts.scheme == "http" and not local


def resolve(
    profile: str = DEFAULT_PROFILE,
    *,
    api_key: str | None = None,
    url: str | None = None,
    config_file: Path | None = None,
) -> Credentials:
    """Find the key and the endpoint of an account.

    Args:
        profile: profile of the configuration file; `default` is the top level of the file.
        api_key: a key given in code; takes precedence over all others.
        url: an endpoint given in code; takes precedence over all others.
        config_file: the configuration file; without it the CLI's own, if there is one.

    Returns:
        The credentials, checked for use in a request.

    Raises:
        UnknownProfileError: the profile is not in the file.
        ConfigurationError: no key, a profile that a server can't use, or an invalid file, key
            or URL.
    """
    name = profile_name(profile)
    key_origin, url_origin = "the API key", "the endpoint"
    if not api_key:
        api_key, key_origin = os.environ.get("NEXTMV_API_KEY") or None, "NEXTMV_API_KEY"
    if not url:
        url, url_origin = os.environ.get("NEXTMV_ENDPOINT") or None, "NEXTMV_ENDPOINT"
    if api_key is None or url is None:
        path = config_file or default_config_file()
        config = load_config(config_file)
        entry = _profile(config, name, path)
        of_profile = f"of profile {name!r} in {path}"
        if api_key is None:
            api_key, key_origin = _api_key(config, entry, name, path), f"apikey {of_profile}"
        if url is None:
            url, url_origin = _endpoint(entry, name, path), f"endpoint {of_profile}"
    return Credentials(check_api_key(api_key, key_origin), check_url(url, url_origin))


def profile_name(profile: str) -> str:
    """Return a profile's name in the form that labels and look-ups use.

    Args:
        profile: as given; the SDK strips it and accepts `default` in any case.

    Returns:
        The name.
    """
    name = profile.strip()
    return DEFAULT_PROFILE if name.lower() in ("", DEFAULT_PROFILE) else name


def load_config(config_file: Path | None = None) -> Mapping[str, Any]:
    """Read a Nextmv configuration file; each version of it is parsed only once.

    Args:
        config_file: the file; without it the CLI's own, which may be absent.

    Returns:
        The file's top-level mapping; empty if the CLI's own file does not exist.

    Raises:
        ConfigurationError: the file can't be read or is not a YAML mapping.
    """
    path = config_file or default_config_file()
    if config_file is None and not os.path.exists(path):  # noqa: PTH110 - Path's raises
        return {}
    return _parse(path, files.stamp(path))


@lru_cache(maxsize=1)
def _parse(path: Path, _stamp: object) -> Mapping[str, Any]:
    config = files.read_yaml(path, "configuration file")
    if config is None or isinstance(config, dict):
        return config or {}
    raise ConfigurationError(
        f"configuration file {path} holds a YAML {type(config).__name__} instead of a mapping: "
        f"recreate it with {_CREATE}"
    )


def profiles_with_key(config: Mapping[str, Any]) -> list[str]:
    """List the profiles of a configuration that a server can use.

    Args:
        config: the mapping that `load_config` returns.

    Returns:
        Names of profiles with a key, the default profile first. A name that can't be printed is
        left out.
    """
    entries = {DEFAULT_PROFILE: config} | {
        name: entry
        for name, entry in config.items()
        if isinstance(name, str)
        and name.isprintable()
        and name == profile_name(name) != DEFAULT_PROFILE
        and name not in _SETTINGS
        and isinstance(entry, dict)
    }
    return [
        name
        for name, entry in entries.items()
        if entry.get("apikey") and entry.get("auth_type") != "pkce"
    ]


def read_api_key_file(path: Path) -> str:
    """Read a file that holds just a key.

    Args:
        path: the file; white space around the key is dropped.

    Returns:
        The key.

    Raises:
        ConfigurationError: the file can't be read, is empty, or holds no valid key.
    """
    content = files.read(path, "API key file")
    try:
        key = content.decode().strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"API key file {path} is not text: save it as UTF-8") from None
    if not key:
        raise ConfigurationError(f"API key file {path} is empty: write the key into it")
    return check_api_key(key, f"the key in API key file {path}")


def check_api_key(key: str, origin: str) -> str:
    """Reject a key that would break a header, or that holds more than the key.

    Args:
        key: the key.
        origin: where it comes from, for the message of an error.

    Returns:
        The key, unchanged.

    Raises:
        ConfigurationError: it starts with a byte order mark, is in quotes, or has white space,
            control or non-ASCII characters.
    """
    if key.startswith("\ufeff"):
        fault = "starts with a byte order mark: save the file as UTF-8 without one"
    elif re.fullmatch(r"""(["']).*\1""", key):
        fault = "is in quotes: remove them, since here they are a part of the value"
    elif not re.fullmatch(r"[\x21-\x7e]+", key):
        fault = (
            "has white space, control or non-ASCII characters: "
            "copy it again from the Nextmv console"
        )
    else:
        return key
    raise ConfigurationError(f"{origin} {fault}")


def check_url(url: str, origin: str) -> str:
    """Return an endpoint in the form of a base URL.

    Args:
        url: the endpoint; the scheme defaults to `https://`.
        origin: where it comes from, for the message of an error.

    Returns:
        The URL, without a slash at the end.

    Raises:
        ConfigurationError: it is no http or https URL, or holds a user, query or fragment.
    """
    full = url if "://" in url else f"https://{url}"
    # The host that is excluded is that of `https:/api.example`.
    valid = re.fullmatch(r"(?i:https?)://(?!https?:?/)[^/?#@\s\\]+(/[^?#\s\\]*)?", full)
    with suppress(ValueError):  # as the errors of urllib3 are
        host = parse_url(full).host or ""  # as `requests` does
        if valid and host.encode("idna") and urlsplit(full).port != 0:
            return full.rstrip("/")
    raise ConfigurationError(
        f"{origin} {without_secrets(url)!r} is not a URL, or has a user, a query or a fragment: "
        f"write it like {DEFAULT_ENDPOINT}",
        "endpoint",
    )


def without_secrets(url: str) -> str:
    """Return what is meant to be a URL, without what may be a user, a password or a query.

    Args:
        url: the text.

    Returns:
        The text for an error message.
    """
    return re.sub(r"(?s)^.*@|[?#].*", "<redacted>", url)


def _profile(config: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    if name == DEFAULT_PROFILE:
        return config
    entry = config.get(name)
    if name in _SETTINGS or not isinstance(entry, dict):
        raise UnknownProfileError(
            f"profile {name!r} is not in {path}: choose one that is there "
            f"(with an API key: {listed(profiles_with_key(config))}), or add it with {_CREATE}",
            "profile",
        )
    return entry


def listed(names: list[str]) -> str:
    """Return names for an error message, the first ten if there are more.

    Args:
        names: the names.

    Returns:
        The names, separated by commas, or `none`.
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _text(entry: Mapping[str, Any], key: str, name: str, path: Path) -> str:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise ConfigurationError(f"{key} of profile {name!r} in {path} is not text: put it in quotes")


def _api_key(config: Mapping[str, Any], entry: Mapping[str, Any], name: str, path: Path) -> str:
    if entry.get("auth_type") == "pkce":
        raise ConfigurationError(
            f"profile {name!r} in {path} signs in through a browser (auth_type: pkce), which a "
            "server can't do: create an API key in the Nextmv console and use a profile with it"
        )
    if key := _text(entry, "apikey", name, path):
        return key
    if name != DEFAULT_PROFILE:
        raise ConfigurationError(f"profile {name!r} in {path} has no apikey: add it with {_CREATE}")
    if others := profiles_with_key(config):
        raise ConfigurationError(
            f"no API key: the default profile in {path} has no apikey, but these profiles have: "
            f"{listed(others)}; choose one, or * for all, with NEXTMV_PROFILE",
            "profile",
        )
    raise ConfigurationError(
        f"no API key: set NEXTMV_API_KEY, or add an apikey to {path} with {_CREATE}",
        "api-key-file",
    )


def _endpoint(entry: Mapping[str, Any], name: str, path: Path) -> str:
    if endpoint := _text(entry, "endpoint", name, path):
        return endpoint
    if name == DEFAULT_PROFILE:
        return DEFAULT_ENDPOINT
    # As the SDK: a key is never sent to an endpoint that its profile does not name.
    raise ConfigurationError(
        f"profile {name!r} in {path} has no endpoint: add one, like "
        f"`endpoint: {DEFAULT_ENDPOINT.removeprefix('https://')}`"
    )
