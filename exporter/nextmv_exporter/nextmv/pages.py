"""Paths of the API, and its lists that come in pages."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote

from nextmv_exporter.nextmv.errors import InvalidResponseError

ACCOUNT = "v1/account"
"""Path of the account."""

APPLICATIONS = "v1/applications"
"""Path of the list of applications."""


class _Page(Protocol):
    next_page_token: str | None


Page = TypeVar("Page", bound=_Page)


def pages(get: Callable[[Mapping[str, str]], Page], endpoint: str) -> Iterator[Page]:
    """Fetch a list page by page, as the caller iterates.

    Args:
        get: fetches a page, given the query; may raise.
        endpoint: the path as errors name it.

    Yields:
        The pages.

    Raises:
        InvalidResponseError: a page refers to one before it.
    """
    params = {"pagereturn": "true"}
    followed: set[str] = set()
    while True:
        page = get(params)
        yield page
        token = page.next_page_token
        if not token:
            return
        if token in followed:
            raise InvalidResponseError(f"{endpoint}: pagination loop: repeated token")
        followed.add(token)
        params["pagetoken"] = token


def runs_path(application_id: str) -> str:
    """Return the path of an application's list of runs.

    Args:
        application_id: the ID; `.` and `..`, which would refer to other paths, are quoted too.

    Returns:
        The path, quoted.
    """
    quoted = quote(application_id, safe="")
    if quoted in {".", ".."}:
        quoted = quoted.replace(".", "%2E")
    return f"{APPLICATIONS}/{quoted}/runs"
