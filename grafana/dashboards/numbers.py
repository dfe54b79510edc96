"""The numbers at the top: how bad is it."""

from grafana_foundation_sdk.builders import stat

from grafana.alerts.settings import OLDEST_QUEUED_SECONDS
from grafana.dashboards import queries as promql
from grafana.dashboards.panels import number
from grafana.dashboards.values import (
    BLUE,
    DRAIN,
    GREEN,
    ORANGE,
    READABLE,
    RED,
    WAIT_LEVELS,
    levels,
)


def numbers() -> list[stat.Panel]:
    """Make the numbers at the top.

    Returns:
        The panels from left to right.
    """
    queued = promql.or_empty(f"sum by ({promql.by()}) ({promql.QUEUED})")
    running = promql.or_empty(f"sum by ({promql.by()}) ({promql.RUNNING})")
    nothing = promql.none_queued(promql.QUEUED)
    oldest = f"{promql.oldest(promql.QUEUED_AGE, promql.QUEUED)}\nor {nothing}"
    waiting = f"{promql.waiting(0.9)}\nor {promql.none_queued(promql.QUEUED_IN_CLASS)}"
    return [
        number(
            1,
            "Runs queued",
            "Runs that wait to start. If the number grows, find the execution class and the "
            "application below, and whether runs still start.",
            promql.or_unreadable(queued),
            "short",
        ).thresholds(levels(base=BLUE)),
        number(
            2,
            "Runs running",
            "Runs that execute now. 0 while runs are queued means that Nextmv starts none.",
            promql.or_unreadable(running),
            "short",
        ).thresholds(levels(base=BLUE)),
        number(
            3,
            "Oldest queued run",
            "How long the oldest queued run has waited. Find its application in the table of the "
            "worst groups, and the run itself with nextmv-queue.",
            promql.or_unreadable(oldest),
            "s",
        ).thresholds(WAIT_LEVELS),
        number(
            4,
            "Wait so far, 90th percentile",
            "Nine in ten of the runs queued now have waited less than this, in any application. "
            "High while the oldest is not much older: the whole class is slow, not one run.",
            promql.or_unreadable(waiting),
            "s",
        ).thresholds(WAIT_LEVELS),
        number(
            5,
            "Time to drain",
            "Time until the runs queued now have started, at the rate of starts over the chosen "
            "window; of the slowest execution class. None started: runs are queued, and none was "
            "seen to start in the window. No data: the exporter has not run long enough.",
            promql.DRAIN,
            "s",
        )
        .mappings(DRAIN)
        .thresholds(levels((OLDEST_QUEUED_SECONDS, ORANGE))),
        number(
            6,
            "Account readable",
            "Whether the last scrape read the account's queue. Unreadable: see the errors by "
            "reason in the exporter's row. No exporter: Prometheus cannot scrape it.",
            promql.UP,
            "short",
        )
        .mappings(READABLE)
        .no_value("no exporter")
        .thresholds(levels((1, GREEN), base=RED)),
    ]
