"""The status page: each account's queue at its last scrape, and what to do about failures."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from heapq import nsmallest
from time import time

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nextmv_exporter import __version__
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.outcome import Outcome
from nextmv_exporter.scrape.summary import QUEUED, RUNNING, Group, Summary
from nextmv_exporter.scrape.target import Target

MAX_DETAILED = 20
"""Accounts whose queues are shown on one page; the others are lines of the overview."""

MAX_CLASSES = 20
MAX_GROUPS = 10

ADVICE: Mapping[Reason, str] = {
    Reason.AUTH: "Create a new API key in the Nextmv console and put it in the place of the old "
    "one; only a key in NEXTMV_API_KEY needs a restart.",
    Reason.RATE_LIMITED: "Scrape less often, or find out what else uses the key.",
    Reason.CLIENT_ERROR: "Check --nextmv.endpoint.",
    Reason.SERVER_ERROR: "Check Nextmv's status page.",
    Reason.TIMEOUT: "Compare nextmv_api_request_duration_seconds with the scrape timeout; raise "
    "scrape_timeout and --nextmv.timeout.",
    Reason.CONNECTION: "Check DNS, egress rules and the proxy.",
    Reason.TLS: "Behind an intercepting proxy, set REQUESTS_CA_BUNDLE to its authority.",
    Reason.REDIRECT: "Set --nextmv.endpoint to where the API is now; redirects are not followed, "
    "since that would send the key there.",
    Reason.RESPONSE_TOO_LARGE: "Raise --nextmv.max-response-bytes if the account is really that "
    "large; memory grows by about twice that.",
    Reason.INVALID_RESPONSE: "Look for a proxy's login page between the exporter and the API.",
}
"""What to do about a failure, in one sentence; the README has the same."""


@dataclass
class ClassRow:
    """An execution class in numbers; ages in seconds, None if not known."""

    queued: int = 0
    running: int = 0
    oldest_queued: float | None = None


def render(telemetry_path: str, targets: Mapping[str, Target], chosen: Collection[str] = ()) -> str:
    """Render the page.

    Args:
        telemetry_path: path of the metrics.
        targets: the accounts by name.
        chosen: names of the accounts to show in detail. Without them, all are; where these are
            more than `MAX_DETAILED`, those that failed and those with the longest queues.

    Returns:
        HTML.
    """
    accounts = {
        name: last.outcome if (last := target.last) else None for name, target in targets.items()
    }
    detailed = set(chosen or nsmallest(MAX_DETAILED, accounts, key=lambda n: _rank(accounts[n])))
    return _template().render(
        version=__version__,
        telemetry_path=telemetry_path,
        accounts=accounts,
        detailed=[name for name in accounts if name in detailed],
        advice=ADVICE,
        classes=_classes,
        groups=_longest_groups,
        oldest=_oldest,
        age=_age,
        duration=_duration,
        moment=lambda seconds: datetime.fromtimestamp(seconds, UTC),
        now=time(),
        max_classes=MAX_CLASSES,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("nextmv_exporter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("landing.html")


def _rank(last: Outcome | None) -> tuple[bool, int]:
    """Return a key that sorts failed accounts first, then the longest queues."""
    if last is None:
        return True, 0
    return last.failure is None, -sum(last.summary.runs.values()) if last.summary else 0


def _classes(summary: Summary) -> dict[str, ClassRow]:
    """Return the execution classes in numbers, the longest queue first."""
    rows: dict[str, ClassRow] = defaultdict(ClassRow)
    for group, length in summary.length.items():
        row = rows[group.execution_class]
        row.queued += length * (group.status_v2 == QUEUED)
        row.running += length * (group.status_v2 == RUNNING)
    for backlog, created in summary.oldest.items():
        row = rows[backlog.execution_class]
        if created is not None:
            row.oldest_queued = max(row.oldest_queued or 0.0, summary.now - created)
    return dict(sorted(rows.items(), key=lambda item: (-item[1].queued, -item[1].running, item[0])))


def _longest_groups(summary: Summary) -> Sequence[tuple[Group, int]]:
    filled = [(group, length) for group, length in summary.length.items() if length]
    return nsmallest(MAX_GROUPS, filled, key=lambda item: (-item[1], item[0]))


def _oldest(summary: Summary) -> float | None:
    """Return the age of the oldest queued run, seconds."""
    created = [moment for moment in summary.oldest.values() if moment is not None]
    return max(0.0, summary.now - min(created)) if created else None


def _age(seconds: float | None, runs: int) -> str:
    """Format the age of the oldest of some runs."""
    if seconds is not None:
        return _duration(seconds)
    return "unknown" if runs else "none"


def _duration(seconds: float) -> str:
    """Format seconds as people say them: `1 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
