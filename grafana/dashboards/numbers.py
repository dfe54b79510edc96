"""The top row: how bad is it."""

from grafana_foundation_sdk.builders import stat

from grafana.alerts.settings import OLDEST_QUEUED_SECONDS
from grafana.dashboards import queries as promql
from grafana.dashboards.panels import number
from grafana.dashboards.values import (
    BLUE,
    GREEN,
    ORANGE,
    READABLE,
    RED,
    TIME_TO_EMPTY,
    UNREADABLE,
    WAIT_LEVELS,
    levels,
)


def numbers() -> list[stat.Panel]:
    """Make the row of numbers at the top.

    Returns:
        The panels from left to right.
    """
    return [
        number(
            "Runs queued",
            "Runs that wait. If it grows, look below at which class and application it is, and "
            "whether runs still start.",
            promql.per_account(f"sum by (account) ({promql.QUEUED})"),
            "short",
        )
        .thresholds(levels((20, ORANGE), (100, RED)))
        .span(4),
        number(
            "Runs running",
            "Runs that execute. 0 while runs are queued means that Nextmv starts none: read the "
            "runbook of NextmvQueueNotDraining.",
            promql.per_account(f"sum by (account) ({promql.RUNNING})"),
            "short",
        )
        .thresholds(levels(base=BLUE))
        .span(4),
        number(
            "Oldest queued run",
            "How long the oldest queued run has waited. Find its application in the table of the "
            "worst groups, and cancel or reprioritise it in the console.",
            promql.per_account(f"max by (account) ({promql.AGE})"),
            "s",
        )
        .thresholds(WAIT_LEVELS)
        .span(4),
        number(
            "Wait, 90th percentile",
            "Nine in ten queued runs have waited less than this so far, whatever the application. "
            "High while the oldest is not much older: the whole class is slow, not one run.",
            promql.quantile(0.9),
            "s",
        )
        .thresholds(WAIT_LEVELS)
        .span(4),
        number(
            "Time to empty",
            "When the queue is empty if it goes on shrinking as in the last 15 minutes. Not "
            "draining: as many runs arrive as start, or more; move runs to another class, or ask "
            "Nextmv for more concurrency.",
            promql.time_to_empty(),
            "s",
        )
        .mappings(TIME_TO_EMPTY)
        .no_value("no exporter")
        .thresholds(levels((OLDEST_QUEUED_SECONDS, ORANGE)))
        .span(4),
        number(
            "Exporter up",
            "Whether the last scrape read the account's queue. Unreadable: see the errors by "
            "reason below. No exporter: Prometheus can't scrape it.",
            promql.UP,
            "short",
        )
        .mappings([*READABLE, UNREADABLE])
        .thresholds(levels((1, GREEN), base=RED))
        .span(4),
    ]
