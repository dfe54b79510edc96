"""How values look: colours, levels, and words where a number would mislead."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardRangeMapOptions,
    DashboardSpecialValueMapOptions,
    RangeMap,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

from grafana.alerts.settings import OLDEST_QUEUED_SECONDS
from grafana.dashboards.queries import NEVER

CONSOLE = "https://cloud.nextmv.io"

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"

READABLE: list[ValueMapping] = [
    ValueMap(
        options={
            "1": ValueMappingResult(text="up", color=GREEN, index=0),
            "0": ValueMappingResult(text="unreadable", color=RED, index=1),
        }
    )
]


def unknown_as(text: str, color: str = RED) -> SpecialValueMap:
    """Show a word where a query answers NaN.

    Args:
        text: the word.
        color: of the word.

    Returns:
        The value mapping.
    """
    return SpecialValueMap(
        options=DashboardSpecialValueMapOptions(
            match=SpecialValueMatch.NA_N,
            result=ValueMappingResult(text=text, color=color, index=0),
        )
    )


UNREADABLE = unknown_as("unreadable")
TIME_TO_EMPTY: list[ValueMapping] = [
    unknown_as("can't tell", GREY),
    RangeMap(
        options=DashboardRangeMapOptions(
            from_val=NEVER,
            to=None,
            result=ValueMappingResult(text="not draining", color=RED, index=1),
        )
    ),
]


def levels(*steps: tuple[float, str], base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Colour values by level.

    Args:
        steps: from which value on, which colour.
        base: colour below the first.

    Returns:
        The thresholds.
    """
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(None, base), *(Threshold(value, color) for value, color in steps)])
    )


WAIT_LEVELS = levels((OLDEST_QUEUED_SECONDS / 2, ORANGE), (OLDEST_QUEUED_SECONDS, RED))
