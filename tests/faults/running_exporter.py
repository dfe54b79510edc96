"""Scrapes of an exporter as fault tests need them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
import support.exporter
from support.fake_api import KEY
from support.metrics import value

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.web.app import TIMEOUT_HEADER


@dataclass
class Scraped:
    """The answer to a scrape."""

    text: str
    seconds: float

    def value(self, name: str, **labels: str) -> float:
        return value(self.text, name, **labels)

    @property
    def up(self) -> bool:
        return self.value("nextmv_up") == 1

    def errors(self, reason: str) -> float:
        return self.value("nextmv_scrape_errors_total", reason=reason)

    @property
    def reasons(self) -> set[str]:
        """Those for which any scrape failed."""
        return {reason for reason in Reason if self.errors(reason)}


def scrape(
    address: str,
    timeout: str | float | None = None,
    path: str = "/metrics",
    auth: tuple[str, str] | None = None,
) -> Scraped:
    headers = {} if timeout is None else {TIMEOUT_HEADER: str(timeout)}
    with requests.Session() as session:
        session.trust_env = False
        got = session.get(f"http://{address}{path}", headers=headers, auth=auth, timeout=60)
    assert got.status_code == 200, got.text
    return Scraped(got.text, got.elapsed.total_seconds())


@contextmanager
def exporter_here(endpoint: str, *flags: str) -> Iterator[str]:
    """Run the exporter in this process, so that its threads can be seen; gives its address."""
    accounts = {"default": Credentials(KEY, endpoint)}
    with support.exporter.exporter_here(*flags, accounts=accounts) as served:
        yield served.address


def fetches() -> int:
    """Threads in this process that wait for the API."""
    return sum(thread.name.startswith("fetch ") for thread in threading.enumerate())
