"""Outcomes of scrapes, made without an API."""

from typing import Any

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.outcome import Failure, Outcome
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.summary import created_timestamp, summarise

NOW = created_timestamp("2026-11-23T12:00:00Z") or 0.0
BOUNDS = (5.0, 60.0, 3600.0)
QUEUE = (
    Run("queued", "8c16gb120m", "routing", "2026-11-23T11:59:00Z"),
    Run("running", "8c16gb120m", "routing", "2026-11-23T11:50:00Z"),
)


def success(account: str = "default", *runs: Run, **options: Any) -> Outcome:
    """A scrape that read these runs, or `QUEUE`."""
    options = {"wait_buckets": BOUNDS, "max_groups": 2000, **options}
    return Outcome(account, "account-queue", 0.25, NOW, summarise(runs or QUEUE, NOW, **options))


def failure(account: str = "default") -> Outcome:
    """A scrape that was refused."""
    refused = Failure(Reason.AUTH, "401 Unauthorized")
    return Outcome(account, "account-queue", 0.25, NOW, failure=refused)
