"""The page for people: what this is, and how each account's last scrape went."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nextmv_exporter import __version__
from nextmv_exporter.scrape.summary import Summary
from nextmv_exporter.scrape.target import Target


def render(telemetry_path: str, targets: Mapping[str, Target]) -> str:
    """Write the page.

    Args:
        telemetry_path: where the metrics are.
        targets: the accounts by name.

    Returns:
        HTML.
    """
    return _template().render(
        version=__version__,
        telemetry_path=telemetry_path,
        accounts=[(name, target.last) for name, target in targets.items()],
        oldest_age=_oldest_age,
        duration=_duration,
        moment=lambda seconds: datetime.fromtimestamp(seconds, UTC),
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


def _oldest_age(summary: Summary) -> float | None:
    created = [moment for moment in summary.oldest.values() if moment is not None]
    return max(0.0, summary.now - min(created)) if created else None


def _duration(seconds: float | None) -> str:
    """Write seconds as people say them: `1 h 5 min`."""
    if seconds is None:
        return "none queued"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
