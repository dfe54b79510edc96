"""API key and endpoint, found where Nextmv's own tools look for them.

The order is that of Nextmv's Python SDK: given in code, the environment
(`NEXTMV_API_KEY`, `NEXTMV_ENDPOINT`), the profile in `~/.nextmv/config.yaml`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.files import Stamp, stamp
from nextmv_exporter.nextmv.errors import UnknownProfileError

DEFAULT_ENDPOINT = "https://api.cloud.nextmv.io"
DEFAULT_PROFILE = "default"

# Top-level keys of the configuration file that are settings, not profiles: as in the SDK.
_SETTINGS = frozenset(
    {
        "apikey",
        "auth_session",
        "auth_type",
        "default",
        "endpoint",
        "sso_domain",
        "system_certs",
        "team_id",
    }
)
_KEY = re.compile(r"[\x21-\x7e]+")
_parsing = Lock()


def default_config_file() -> Path:
    """Where the Nextmv CLI keeps its configuration: `~/.nextmv/config.yaml`."""
    return Path.home() / ".nextmv" / "config.yaml"


@dataclass(frozen=True)
class Credentials:
    """What a request to the API needs.

    Args:
        api_key: the bearer token; kept out of `repr`.
        url: base URL of the API, with scheme, without a slash at the end.
    """

    api_key: str = field(repr=False)
    url: str


def resolve(
    profile: str = DEFAULT_PROFILE,
    *,
    api_key: str | None = None,
    url: str | None = None,
    config_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Credentials:
    """Find the key and the endpoint of an account.

    Args:
        profile: profile of the configuration file; `default` is the top level of the file.
        api_key: a key given in code, which goes before all others.
        url: an endpoint given in code, which goes before all others.
        config_file: the configuration file; without it the CLI's own, if there is one.
        environ: the environment.

    Returns:
        The credentials, checked for use in a request.

    Raises:
        UnknownProfileError: the profile is not in the file.
        ConfigurationError: no key, a profile that a server can't use, or an unusable file, key
            or URL.
    """
    name = profile_name(profile)
    origin = "the API key"
    if not api_key:
        api_key, origin = environ.get("NEXTMV_API_KEY") or None, "NEXTMV_API_KEY"
    url = url or environ.get("NEXTMV_ENDPOINT") or None
    if api_key is None or url is None:
        path = config_file or default_config_file()
        entry = _profile(load_config(config_file), name, path)
        if api_key is None:
            api_key, origin = _api_key(entry, name, path), f"apikey of profile {name!r} in {path}"
        url = url or _endpoint(entry, name, path)
    return Credentials(api_key=check_api_key(api_key, origin), url=check_url(url))


def profile_name(profile: str) -> str:
    """Bring a profile's name into the form that labels and look-ups use.

    Args:
        profile: as given; the SDK strips it and knows `default` in any case.

    Returns:
        The name.
    """
    name = profile.strip()
    return DEFAULT_PROFILE if name.lower() in ("", DEFAULT_PROFILE) else name


def load_config(config_file: Path | None = None) -> Mapping[str, Any]:
    """Read a Nextmv configuration file; it is parsed once, however many profiles look into it.

    Args:
        config_file: the file; without it the CLI's own, which may be absent.

    Returns:
        The file's top-level mapping,
        the CLI's own file does not exist.

    Raises:
        ConfigurationError: the file can't be read or is not a YAML mapping.
    """
    path = config_file or default_config_file()
    try:
        with _parsing:
            return _parse(path, stamp([path]))
    except FileNotFoundError:
        if config_file is None:
            return {}
        raise ConfigurationError(
            f"configuration file {path} does not exist: check --nextmv.config-file"
        ) from None


@lru_cache(maxsize=1)
def _parse(path: Path, _: Stamp) -> Mapping[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"configuration file {path} can't be read: {error.strerror}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date may be impossible
        # The error's own text quotes the file, and so the keys in it: only its place is told.
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise ConfigurationError(
            f"configuration file {path} is not valid YAML{place}: mend it, "
            "or write it anew with `nextmv configuration create`"
        ) from None
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise ConfigurationError(
            f"configuration file {path} holds a YAML {type(config).__name__} where a mapping "
            "belongs: write it anew with `nextmv configuration create`"
        )
    return config


def profiles_with_key(config: Mapping[str, Any]) -> list[str]:
    """List the profiles of a configuration that a server can use.

    Args:
        config: the mapping that `load_config` returns.

    Returns:
        Names of profiles with a key, the default profile first.
    """
    entries = {DEFAULT_PROFILE: config} | {
        name: entry for name, entry in config.items() if _is_profile(name, entry)
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
        ConfigurationError: the file can't be read, is empty, or holds no usable key.
    """
    try:
        key = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"API key file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"API key file {path} is not text") from None
    if not key:
        raise ConfigurationError(f"API key file {path} is empty: write the key into it")
    return check_api_key(key, f"the key in API key file {path}")


def check_api_key(key: str, origin: str = "the API key") -> str:
    """Refuse a key that would break a header.

    Args:
        key: the key.
        origin: where it comes from, to be named where it is refused.

    Returns:
        The key, unchanged.

    Raises:
        ConfigurationError: it has white space, control or non-ASCII characters.
    """
    if not _KEY.fullmatch(key):
        raise ConfigurationError(
            f"{origin} has white space, control or non-ASCII characters: "
            "copy it again from the Nextmv console"
        )
    return key


def check_url(url: str) -> str:
    """Bring an endpoint into the form of a base URL.

    Args:
        url: the endpoint; without a scheme, `https://` is meant.

    Returns:
        The URL, without a slash at the end.

    Raises:
        ConfigurationError: it is no http or https URL, or holds a user, query or fragment.
    """
    full = url if "://" in url else f"https://{url}"
    try:
        parts = parse_url(full)
    except LocationParseError:
        parts = None
    if (
        parts is None
        or parts.scheme not in ("http", "https")
        or not parts.host
        or re.search(r"[\s\x00-\x1f]", full)
    ):
        shown = re.sub(r"(?s)^.*@|[?#].*", "<redacted>", url)  # a password may be among it
        raise ConfigurationError(
            f"endpoint {shown!r} is not a URL: write it like {DEFAULT_ENDPOINT} "
            "(--nextmv.endpoint, NEXTMV_ENDPOINT or `endpoint` in the configuration file)"
        )
    if parts.auth or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the endpoint for host {parts.host} must not hold a user, a query or a fragment: "
            f"write it like {DEFAULT_ENDPOINT}"
        )
    return full.rstrip("/")


def _is_profile(name: object, entry: object) -> bool:
    """Tell a profile that can be asked for by its name from a setting and from a mistake."""
    return (
        isinstance(name, str)
        and name == profile_name(name) != DEFAULT_PROFILE
        and name not in _SETTINGS
        and isinstance(entry, dict)
    )


def _profile(config: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    if name == DEFAULT_PROFILE:
        return config
    if not config:
        raise ConfigurationError(
            f"profile {name!r} is asked for, but there is no configuration in {path}: "
            "create it with `nextmv configuration create`, or set --nextmv.config-file"
        )
    entry = config.get(name)
    if name in _SETTINGS or not isinstance(entry, dict):
        known = ", ".join(profiles_with_key(config)) or "none"
        raise UnknownProfileError(
            f"profile {name!r} is not in {path}: choose one that is there "
            f"(with an API key: {known}), or add it with `nextmv configuration create`"
        )
    return entry


def _api_key(entry: Mapping[str, Any], name: str, path: Path) -> str:
    if entry.get("auth_type") == "pkce":
        raise ConfigurationError(
            f"profile {name!r} in {path} signs in through a browser (auth_type: pkce), "
            "which a server can't do: create an API key in the Nextmv console and use a profile "
            "with an apikey"
        )
    key = entry.get("apikey")
    if isinstance(key, str) and key:
        return key
    if key not in (None, ""):
        raise ConfigurationError(
            f"apikey of profile {name!r} in {path} is not text: put it in quotes"
        )
    if name != DEFAULT_PROFILE:
        raise ConfigurationError(
            f"profile {name!r} in {path} has no apikey: add it with `nextmv configuration create`"
        )
    raise ConfigurationError(
        f"no API key: set NEXTMV_API_KEY or --nextmv.api-key-file, or add an apikey to {path} "
        "with `nextmv configuration create` (or look around with --demo, which needs none)"
    )


def _endpoint(entry: Mapping[str, Any], name: str, path: Path) -> str:
    endpoint = entry.get("endpoint")
    if isinstance(endpoint, str) and endpoint:
        return endpoint
    if endpoint not in (None, ""):
        raise ConfigurationError(f"endpoint of profile {name!r} in {path} is not text")
    if name != DEFAULT_PROFILE:
        # As the SDK: a key is never sent to an endpoint that its profile does not name.
        raise ConfigurationError(
            f"profile {name!r} in {path} has no endpoint: add one, like "
            f"`endpoint: {DEFAULT_ENDPOINT.removeprefix('https://')}`"
        )
    return DEFAULT_ENDPOINT
