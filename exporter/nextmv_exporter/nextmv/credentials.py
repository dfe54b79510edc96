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
        api_key, key_origin = os.environ.get("NEXTMV_API_KEY"), "NEXTMV_API_KEY"
    if not url:
        url, url_origin = os.environ.get("NEXTMV_ENDPOINT"), "NEXTMV_ENDPOINT"
    if not api_key or not url:
        path, config = config_file or default_config_file(), load_config(config_file)
        entry = _entry(config, name)
        if entry is None:
            raise UnknownProfileError(f"profile {name!r} is not in {path}: {_choose(config)}")
        origin = f"of profile {name!r} in {path}"
        if not api_key and not _has_key(entry):
            why = "needs a browser (pkce)" if entry.get("auth_type") == "pkce" else "has no API key"
            raise ConfigurationError(
                f"profile {name!r} in {path} {why}: set NEXTMV_API_KEY, {_choose(config)}"
            )
        if not api_key:
            api_key, key_origin = _text(entry, "apikey", origin), f"apikey {origin}"
        if not url:
            url, url_origin = _endpoint(entry, name, origin), f"endpoint {origin}"
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
        f"configuration file {path} holds no YAML mapping: recreate it with {_CREATE}"
    )


def profiles_with_key(config: Mapping[str, Any]) -> list[str]:
    """List the profiles of a configuration that a server can use.

    Args:
        config: the mapping that `load_config` returns.

    Returns:
        Names of profiles with a key, the default profile first. A name that can't be printed is
        left out.
    """
    printable = (name for name in config if isinstance(name, str) and name.isprintable())
    names = [DEFAULT_PROFILE, *(name for name in printable if name == profile_name(name))]
    entries = {name: _entry(config, name) or {} for name in names}
    return [name for name, entry in entries.items() if _has_key(entry)]


def _entry(config: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    if name == DEFAULT_PROFILE:
        return config
    entry = config.get(name)
    return entry if name not in _SETTINGS and isinstance(entry, dict) else None


def _has_key(entry: Mapping[str, Any]) -> bool:
    """Whether a server can use it: it can't sign in through a browser."""
    return bool(entry.get("apikey")) and entry.get("auth_type") != "pkce"


def read_api_key_file(path: Path) -> str:
    """Read a file that holds just a key.

    Args:
        path: the file; white space around the key is dropped.

    Returns:
        The key.

    Raises:
        ConfigurationError: the file can't be read, is empty, or holds no valid key.
    """
    key = files.read(path, "API key file").decode(errors="replace").strip()
    return check_api_key(key, f"the key in API key file {path}")


def check_api_key(key: str, origin: str) -> str:
    """Reject a key that would break a header, or that holds more than the key.

    Args:
        key: the key.
        origin: where it comes from, for the message of an error.

    Returns:
        The key, unchanged.

    Raises:
        ConfigurationError: it is empty or in quotes, or has white space, control or non-ASCII
            characters, such as a byte order mark.
    """
    if not re.fullmatch(r"""(?!["'])[\x21-\x7e]+""", key):
        raise ConfigurationError(
            f"{origin} is empty, is in quotes, or has white space, control or non-ASCII "
            "characters: copy it again from the Nextmv console"
        )
    return key


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
    shown = re.sub(r"(?s)^.*@|[?#].*", "<redacted>", url)
    raise ConfigurationError(
        f"{origin} {shown!r} is not a URL, or has a user, a query or a fragment: "
        f"write it like {DEFAULT_ENDPOINT}"
    )


def listed(names: list[str]) -> str:
    """Return names for an error message, the first ten if there are more.

    Args:
        names: the names.

    Returns:
        The names, separated by commas, or `none`.
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _choose(config: Mapping[str, Any]) -> str:
    others = listed(profiles_with_key(config))
    return f"add it with {_CREATE}, or choose a profile that has a key: {others}"


def _text(entry: Mapping[str, Any], field: str, origin: str) -> str:
    value = entry.get(field) or ""
    if isinstance(value, str):
        return value
    raise ConfigurationError(f"{field} {origin} is not text: put it in quotes")


def _endpoint(entry: Mapping[str, Any], name: str, origin: str) -> str:
    default = DEFAULT_ENDPOINT if name == DEFAULT_PROFILE else ""
    if endpoint := _text(entry, "endpoint", origin) or default:
        return endpoint
    # As the SDK: a key is never sent to an endpoint that its profile does not name.
    raise ConfigurationError(
        f"there is no endpoint {origin}: add one, like `endpoint: {DEFAULT_ENDPOINT}`"
    )
