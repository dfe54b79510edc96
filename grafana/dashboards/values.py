"""How values are shown: colours, levels, and text in place of numbers that would mislead."""

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

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"

READABLE: list[ValueMapping] = [
    ValueMap(
        options={
            "1": ValueMappingResult(text="up", color=GREEN, index=0),
            "0": ValueMappingResult(text="unreadable", color=RED, index=1),
        }
    )
]


UNREADABLE = SpecialValueMap(
    options=DashboardSpecialValueMapOptions(
        match=SpecialValueMatch.NA_N,
        result=ValueMappingResult(text="unreadable", color=RED, index=0),
    )
)
DRAIN: list[ValueMapping] = [
    UNREADABLE,
    RangeMap(
        options=DashboardRangeMapOptions(
            from_val=NEVER,
            to=None,
            result=ValueMappingResult(text="none started", color=RED, index=1),
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
