"""Scrapes of an exporter as fault tests need them."""

from dataclasses import dataclass

import requests
from support.metrics import value

from nextmv_exporter.nextmv.errors import Reason


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

    @property
    def errors(self) -> dict[str, float]:
        """How many scrapes failed so far, by reason."""
        counts = {each: self.value("nextmv_scrape_errors_total", reason=each) for each in Reason}
        return {reason: count for reason, count in counts.items() if count}


def scrape(address: str, timeout: float = 10) -> Scraped:
    """Scrape as a Prometheus with a timeout, in seconds."""
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)}
    with requests.Session() as session:
        session.trust_env = False
        got = session.get(f"http://{address}/metrics", headers=headers, timeout=120)
    assert got.status_code == 200, got.text
    return Scraped(got.text, got.elapsed.total_seconds())
