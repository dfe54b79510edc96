"""The status page: each account's queue at its last scrape, and what to do about failures."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time

from jinja2 import Environment, PackageLoader, StrictUndefined

from nextmv_exporter import __version__
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import RECENT, Counters
from nextmv_exporter.scrape.summary import QUEUED, RUNNING, Backlog, Summary
from nextmv_exporter.scrape.target import Scrape, Target

MAX_DETAILED = 20
"""Accounts whose queues are shown on one page; the others are shown only in the overview."""

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


_ENVIRONMENT = Environment(
    loader=PackageLoader("nextmv_exporter.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass
class ClassRow:
    """An execution class in numbers of runs."""

    name: str
    queued: int = 0
    running: int = 0
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
    ranks = {name: _rank(scrape, now) for name, scrape in scrapes.items()}
    detailed = set(chosen or sorted(ranks, key=ranks.__getitem__)[:MAX_DETAILED])
    # Sorting is stable: otherwise the accounts keep their order.
    names = sorted(scrapes, key=lambda name: ranks[name][0])
    return _ENVIRONMENT.get_template("landing.html").render(
        telemetry_path=telemetry_path,
        accounts={name: scrapes[name] for name in names},
        detailed=[name for name in names if name in detailed],
        now=now,
        version=__version__,
        advice=ADVICE,
        old=OLD,
        recent=RECENT,
        classes=_classes,
        oldest=_oldest,
        duration=_duration,
        moment=lambda seconds: datetime.fromtimestamp(seconds, UTC),
    )


def _rank(scrape: Scrape | None, now: float) -> tuple[int, int]:
    """Return a key that sorts failed accounts first, then old scrapes, then the longest queues."""
    if scrape is None:
        return 2, 0
    last = scrape.outcome
    runs = sum(last.summary.runs.values()) if last.summary else 0
    return 0 if last.failure else 1 if now - last.finished > OLD else 2, -runs


def _classes(summary: Summary, counters: Counters) -> list[ClassRow]:
    """Return the execution classes in numbers, the longest queue first."""
    rows: dict[str, ClassRow] = {}
    for group, length in summary.length.items():
        row = rows.setdefault(group.execution_class, ClassRow(group.execution_class))
        row.queued += length * (group.status_v2 == QUEUED)
        row.running += length * (group.status_v2 == RUNNING)
    for name, (entered, started) in counters.recent_flow(summary.now).items():
        row = rows.setdefault(name, ClassRow(name))
        row.entered, row.started = entered, started
    return sorted(rows.values(), key=lambda row: (-row.queued, -row.running, row.name))


def _oldest(created: Mapping[Backlog, float | None], execution_class: str = "") -> float | None:
    """Return when the oldest run was created, of all or of an execution class, in unix seconds."""
    of_class = {k: v for k, v in created.items() if execution_class in ("", k.execution_class)}
    return min(filter(None, of_class.values()), default=None)


def _duration(seconds: float) -> str:
    """Format seconds like `1 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
