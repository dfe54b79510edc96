"""Outcomes of scrapes, made without an API."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from prometheus_client.registry import Collector

from nextmv_exporter.nextmv.client import Exchange
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import Counters
from nextmv_exporter.scrape.flow import compare
from nextmv_exporter.scrape.metrics import Family, families
from nextmv_exporter.scrape.outcome import Failure, Outcome, Scrape
from nextmv_exporter.scrape.runs import Run, parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
BOUNDS = (5.0, 60.0, 3600.0)


def moment(text: str | None) -> datetime | None:
    """Parse a `created_at` as the API writes it."""
    [run] = parse_queue(json.dumps({"runs": [{"created_at": text}]}).encode())
    return run.created_at


def run(
    status_v2: str | None = None,
    execution_class: str | None = None,
    application_id: str | None = None,
    created_at: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's name
) -> Run:
    """A run as it comes out of the parser."""
    return Run(status_v2, execution_class, application_id, moment(created_at), id)


QUEUE = (
    run("queued", "8c16gb120m", "routing", "2026-11-23T11:59:00Z", "run-2"),
    run("running", "8c16gb120m", "routing", "2026-11-23T11:50:00Z", "run-1"),
)


def success(account: str = "default", *runs: Run, **options: Any) -> Outcome:
    """A scrape that read these runs, or `QUEUE`."""
    options = {"wait_buckets": BOUNDS, "max_groups": 2000, **options}
    return Outcome(
        account, "account-queue", 0.25, NOW, summarise(take_snapshot(runs or QUEUE, NOW), **options)
    )


def failure(account: str = "default") -> Outcome:
    """A scrape that was refused."""
    refused = Failure(Reason.AUTH, "401 Unauthorized")
    return Outcome(account, "account-queue", 0.25, NOW, failure=refused)


def counters() -> Counters:
    """Counters of an account that has sent a request."""
    counted = Counters(BOUNDS, max_groups=2000)
    counted.count_request(Exchange("v1/account/queue", "200", 0.2, None))
    return counted


def scrapes(*outcomes: Outcome) -> list[Scrape]:
    """What the scrapes with these outcomes report."""
    return [Scrape(outcome, counters()) for outcome in outcomes]


def flowing() -> Scrape:
    """The second scrape of an account one of whose runs has just started."""
    earlier = (QUEUE[0], replace(QUEUE[1], status_v2="queued"))
    baseline, _ = compare(None, take_snapshot(earlier, NOW - 15))
    counted = counters()
    counted.count_flow(compare(baseline, take_snapshot(QUEUE, NOW))[1])
    return Scrape(success(), counted)


class ScrapedCollector(Collector):
    """Yields the families of scrapes that are over."""

    def __init__(self, scraped: Sequence[Scrape]) -> None:
        self._scraped = scraped

    def collect(self) -> Iterator[Family]:
        yield from families(self._scraped)

    def describe(self) -> Iterator[Family]:
        yield from families(())
