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
from nextmv_exporter.scrape.counters import RECENT, Counters
from nextmv_exporter.scrape.outcome import Scrape
from nextmv_exporter.scrape.summary import QUEUED, RUNNING, Backlog, Group, Summary
from nextmv_exporter.scrape.target import Target

MAX_DETAILED = 20
"""Accounts whose queues are shown on one page; the others are shown only in the overview."""

MAX_CLASSES = 20
MAX_GROUPS = 10

OLD = 300.0
"""Seconds after which a scrape no longer tells whether an account can be read."""

ADVICE: Mapping[Reason, str] = {
    Reason.AUTH: "Create a new API key in the Nextmv console and put it in the place of the old "
    "one; a key in NEXTMV_API_KEY or in a systemd credential needs a restart.",
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
    "large; the response takes up to four times that in memory.",
    Reason.INVALID_RESPONSE: "Look for a proxy's login page between the exporter and the API.",
}
"""What to do about a failure, in one sentence; the table in docs/runbooks.md has the same text."""


@dataclass
class ClassRow:
    """An execution class in numbers; ages in seconds, None if there is none or it is unknown."""

    queued: int = 0
    running: int = 0
    oldest_queued: float | None = None
    oldest_running: float | None = None
    entered: int = 0
    started: int = 0


def render(telemetry_path: str, targets: Mapping[str, Target], chosen: Collection[str] = ()) -> str:
    """Render the page.

    Args:
        telemetry_path: path of the metrics.
        targets: the accounts by name.
        chosen: names of the accounts to show in detail; by default all, or if these are more
            than `MAX_DETAILED`, those that failed and those with the longest queues.

    Returns:
        HTML.
    """
    now = time()
    scrapes = {name: target.last for name, target in targets.items()}
    # Sorting is stable: otherwise the accounts keep their order.
    names = sorted(scrapes, key=lambda name: _rank(scrapes[name], now))
    longest = nsmallest(
        MAX_DETAILED, names, key=lambda n: (_rank(scrapes[n], now), _length(scrapes[n]))
    )
    detailed = set(chosen or longest)
    return _template().render(
        version=__version__,
        telemetry_path=telemetry_path,
        accounts={name: scrapes[name] for name in names},
        detailed=[name for name in names if name in detailed],
        advice=ADVICE,
        classes=_classes,
        groups=_longest_groups,
        oldest=lambda summary: max(_oldest(summary.oldest, summary.now).values(), default=None),
        most=lambda rows, *fields: max(getattr(r, f) or 0 for r in rows.values() for f in fields),
        age=_age,
        duration=_duration,
        moment=lambda seconds: datetime.fromtimestamp(seconds, UTC),
        now=now,
        old=OLD,
        max_classes=MAX_CLASSES,
        recent_minutes=int(RECENT / 60),
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


def _rank(scrape: Scrape | None, now: float) -> int:
    """Return a key that sorts failed accounts first, then those that are no longer scraped."""
    if scrape and scrape.outcome.failure:
        return 0
    return 1 if scrape and now - scrape.outcome.finished > OLD else 2


def _length(scrape: Scrape | None) -> int:
    """Return a key that sorts the longest queues first."""
    summary = scrape and scrape.outcome.summary
    return -sum(summary.runs.values()) if summary else 0


def _classes(summary: Summary, counters: Counters) -> dict[str, ClassRow]:
    """Return the execution classes in numbers, the longest queue first."""
    rows: dict[str, ClassRow] = defaultdict(ClassRow)
    for group, length in summary.length.items():
        row = rows[group.execution_class]
        row.queued += length * (group.status_v2 == QUEUED)
        row.running += length * (group.status_v2 == RUNNING)
    for name, age in _oldest(summary.oldest, summary.now).items():
        rows[name].oldest_queued = age
    for name, age in _oldest(summary.oldest_running, summary.now).items():
        rows[name].oldest_running = age
    for name, (entered, started) in counters.recent_flow(summary.now).items():
        rows[name].entered, rows[name].started = entered, started
    return dict(sorted(rows.items(), key=lambda item: (-item[1].queued, -item[1].running, item[0])))


def _longest_groups(summary: Summary) -> tuple[Sequence[tuple[Group, int]], int]:
    """Return the groups with the most runs, and how many groups have any."""
    filled = [(group, length) for group, length in summary.length.items() if length]
    return nsmallest(MAX_GROUPS, filled, key=lambda item: (-item[1], item[0])), len(filled)


def _oldest(created: Mapping[Backlog, float | None], now: float) -> dict[str, float]:
    """Return the age of the oldest run of each execution class that has one, in seconds."""
    ages: dict[str, float] = {}
    for backlog, moment in created.items():
        if moment is not None:
            name = backlog.execution_class
            ages[name] = max(ages.get(name, 0.0), now - moment)
    return ages


def _age(seconds: float | None, runs: int) -> str:
    """Format the age of the oldest of some runs."""
    if seconds is None:
        return "unknown" if runs else "none"
    return _duration(seconds)


def _duration(seconds: float) -> str:
    """Format seconds like `1 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
