"""Proxies of the environment: checked before they are used, and their passwords kept secret."""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

from requests.adapters import HTTPAdapter
from requests.utils import prepend_scheme_if_needed, should_bypass_proxies

from nextmv_exporter.nextmv.errors import ConfigurationError

_VARIABLE = re.compile(r"(https?|all)_proxy", re.IGNORECASE)
_URL = re.compile(
    r"(https?://)?((?P<user>[^/?#:]*)(:(?P<password>[^/?#]*))?@)?[^/?#@\s]+(?<!:0)/?", re.IGNORECASE
)


def check_proxies(url: str) -> None:
    """Check the variables that name proxies, unless no proxy is used for an endpoint.

    Args:
        url: base URL of the endpoint.

    Raises:
        ConfigurationError: a variable is not the URL of a proxy. The message does not quote it.
    """
    for name, proxy in _variables():
        if not _valid(proxy) and not should_bypass_proxies(url, no_proxy=None):
            raise ConfigurationError(
                f"{name} is not the URL of an HTTP proxy: write it like "
                "http://user:password@proxy.example:3128, with special characters such as /, ? "
                "and # in the user and the password percent-encoded, and a port up to 65535"
            )


def proxy_secrets() -> Iterator[str]:
    """Yield users and passwords of proxies, as they are written and as they are sent."""
    for match in filter(None, (_URL.fullmatch(proxy) for _, proxy in _variables())):
        user, password = match["user"], match["password"]
        both = f"{user}:{password}" if user and password else None
        for secret in filter(None, (user, password, both)):
            yield from {secret, unquote(secret)}


def _variables() -> Iterator[tuple[str, str]]:
    names = filter(_VARIABLE.fullmatch, os.environ)
    return ((name, os.environ[name]) for name in names if os.environ[name])


@lru_cache
def _valid(proxy: str) -> bool:
    try:
        # As `requests` does it before a connection is made.
        url = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
        proxied = HTTPAdapter().proxy_manager_for(url).proxy
        (proxied.host or "").encode("idna")
    except Exception:  # noqa: BLE001 - each of the libraries raises different errors
        return False
    return bool(_URL.fullmatch(proxy) and proxied.host and proxied.port)
