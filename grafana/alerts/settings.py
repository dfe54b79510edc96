"""What operators may tune in the rules: every name, default and meaning, once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

OLDEST_QUEUED_SECONDS = 1800
"""The dashboard colours waits by it, too."""

Value = str | float | Mapping[str, float]


@dataclass(frozen=True)
class Setting:
    """A value that the rules refer to as `<<name>>`.

    Args:
        name: as in the source of the rules and in the chart's values.
        default: durations as Prometheus writes them.
        meaning: one sentence for those who tune it.
        section: where in the chart's values it lives.
    """

    name: str
    default: Value
    meaning: str
    section: str = "prometheusRule.thresholds"

    @property
    def chart_value(self) -> str:
        """Its path in the values of the chart."""
        return f"{self.section}.{self.name}"


@dataclass(frozen=True)
class _Other(Setting):
    """A setting that is no threshold."""

    section: str = field(default="prometheusRule", kw_only=True)


SETTINGS: tuple[Setting, ...] = (
    _Other(
        "jobRegex",
        ".*nextmv-exporter.*",
        "Regular expression for the `job` label of the exporter's targets.",
    ),
    _Other(
        "runbookBaseUrl",
        "",
        "Put before `docs/runbooks.md#...` in every `runbook_url`; ends with a slash.",
    ),
    Setting(
        "notDrainingWindow",
        "30m",
        "How far back a queue must have grown, and nothing started, to count as not draining.",
    ),
    Setting("notDrainingFor", "15m", "How long that must hold."),
    Setting(
        "oldestQueuedSeconds",
        OLDEST_QUEUED_SECONDS,
        "Longest time a run may wait in the queue, seconds.",
    ),
    Setting(
        "oldestQueuedSecondsByClass",
        {},
        "The same for execution classes that differ, by name of the class.",
    ),
    Setting("oldestQueuedFor", "5m", "How long a run must be over that."),
    Setting(
        "unusualFactor",
        2,
        "A queue is unusually long from this many times its average at this hour of the day.",
    ),
    Setting(
        "unusualDeviations",
        3,
        "It must also be this many standard deviations above that average.",
    ),
    Setting("unusualMinimumRuns", 20, "Queues up to this length are never unusually long."),
    Setting("unusualMinimumDays", 3, "Days of history, of the last seven, before judging at all."),
    Setting("unusualFor", "15m", "How long a queue must be unusually long."),
    Setting(
        "unreadableFor",
        "10m",
        "How long most scrapes of an account must fail, other than by a refused key.",
    ),
    Setting("rateLimitedScrapes", 3, "Scrapes in 15 minutes that the API may refuse with 429."),
    Setting("rateLimitedFor", "5m", "How long there must be more than that."),
    Setting("malformedRuns", 0, "Malformed runs that a queue may hold."),
    Setting("malformedFor", "15m", "How long there must be more than that."),
    Setting("foldedGroups", 0, "Label groups that may be folded into `__other__`."),
    Setting("foldedFor", "15m", "How long there must be more than that."),
    Setting("exporterDownFor", "5m", "How long Prometheus must fail to scrape the exporter."),
    Setting("exporterAbsentFor", "15m", "How long Prometheus must know no exporter at all."),
    Setting("keepFiringFor", "10m", "How long alerts that may flap go on after they cleared."),
)
