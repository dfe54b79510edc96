"""Proxies of the environment: checked before they are used, and their passwords kept secret."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import unquote

from requests.adapters import HTTPAdapter
from requests.utils import prepend_scheme_if_needed, should_bypass_proxies
from urllib3.exceptions import ProxySchemeUnknown

from nextmv_exporter.errors import ConfigurationError

_VARIABLE = re.compile(r"(https?|all)_proxy", re.IGNORECASE)
_URL = re.compile(
    r"((?P<scheme>[^:/?#@]*)://)?((?P<user>[^:]*)(:(?P<password>.*))?@)?(?P<place>[^@]*)", re.DOTALL
)
_SCHEME_FAULT = "it must start with http:// or https://"


def check_proxies(url: str) -> None:
    """Check the variables that name proxies, unless no proxy is used for an endpoint.

    Args:
        url: base URL of the endpoint.

    Raises:
        ConfigurationError: a variable holds no URL of a proxy. The message shows neither the
            user nor the password in it.
    """
    for name, proxy in _variables():
        if (fault := _fault(proxy)) and not should_bypass_proxies(url, no_proxy=None):
            raise ConfigurationError(
                f"{name} is not the URL of a proxy: {fault}. Write it like "
                "http://user:password@proxy.example:3128, with special characters of the user and "
                "the password percent-encoded"
            )


def proxy_secrets() -> Iterator[str]:
    """Yield users and passwords of proxies, as they are written and as they are sent."""
    for _, proxy in _variables():
        parts = _parts(proxy)
        user, password = parts["user"], parts["password"]
        both = f"{user}:{password}" if user and password else None
        for secret in filter(None, (user, password, both)):
            yield from {secret, unquote(secret)}


def _variables() -> Iterator[tuple[str, str]]:
    names = filter(_VARIABLE.fullmatch, os.environ)
    return ((name, os.environ[name]) for name in names if os.environ[name])


def _parts(proxy: str) -> Mapping[str, str]:
    match = _URL.match(proxy)  # which no text fails to do
    return match.groupdict("") if match else {}


@lru_cache
def _fault(proxy: str) -> str:
    """Return what is wrong with the URL of a proxy, in words that quote nothing of it."""
    parts = _parts(proxy)
    if parts["scheme"].lower() not in ("", "http", "https"):
        return _SCHEME_FAULT
    if re.search(r"[/?#]", parts["user"] + parts["password"]):
        return "its user or password has a /, ? or # that is not percent-encoded"
    try:
        # As `requests` does it before a connection is made.
        url = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
        proxied = HTTPAdapter().proxy_manager_for(url).proxy
        (proxied.host or "").encode("idna")
    except ProxySchemeUnknown:
        return _SCHEME_FAULT
    except Exception:  # noqa: BLE001 - each library that takes part raises errors of its own
        return "its host, port, user or password is invalid"
    if not proxied.host or proxied.port == 0 or not re.fullmatch(r"[^/?#]+/?", parts["place"]):
        return "it must have a host, a port and nothing after them"
    return ""
