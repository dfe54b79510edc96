"""The queue over time: which class, which application, and is it getting worse."""

from grafana_foundation_sdk.builders import heatmap, timeseries

from grafana.dashboards import queries as promql
from grafana.dashboards.panels import buckets, lines, query, stacked, with_levels_drawn
from grafana.dashboards.values import WAIT_LEVELS


def queue_over_time() -> list[timeseries.Panel]:
    """Make the panels that show which class and application it is.

    Returns:
        The panels in order.
    """
    by_class = promql.per_label(
        f"sum by (execution_class) ({promql.QUEUED})", "execution_class", "nothing queued"
    )
    by_application = promql.per_label(
        f"topk(15, sum by (application_id) ({promql.QUEUED}))", "application_id", "nothing queued"
    )
    running = promql.per_label(
        f"sum by (execution_class) ({promql.RUNNING})", "execution_class", "nothing running"
    )
    age = promql.per_label(
        f"max by (execution_class) ({promql.AGE})", "execution_class", "nothing queued"
    )
    return [
        stacked(
            lines(
                "Queued by execution class",
                "Each class has a queue and a concurrency limit of its own. One that grows alone "
                "is at its limit: look at what runs in it.",
                "short",
                query(by_class, "{{execution_class}}"),
            )
        ),
        stacked(
            lines(
                "Queued by application",
                "Who fills the queue: the 15 longest. A sudden step is a batch; talk to its owner "
                "before cancelling.",
                "short",
                query(by_application, "{{application_id}}"),
            )
        ),
        with_levels_drawn(
            lines(
                "Oldest queued run by execution class",
                "A line that climbs as steeply as the clock is one run that never starts; a saw "
                "is a queue that drains. The red line is where NextmvOldestQueuedRunTooOld fires "
                "by default.",
                "s",
                query(age, "{{execution_class}}"),
            ),
            WAIT_LEVELS,
        ),
        stacked(
            lines(
                "Running by execution class",
                "A class that is flat at its top is at its concurrency limit. One that falls while "
                "its queue grows has stopped starting runs.",
                "short",
                query(running, "{{execution_class}}"),
            )
        ),
    ]


def waits() -> heatmap.Panel:
    """Make the heatmap of how long the queued runs have waited.

    Returns:
        The panel.
    """
    return buckets(
        "Waits of the queued runs",
        "How many queued runs have waited for how long so far, whatever the application. "
        "A dark band that climbs is a batch that does not start.",
        promql.per_label(f"sum by (le) ({promql.WAITS})", "le", "+Inf"),
    )


def growth() -> timeseries.Panel:
    """Make the panel that shows whether the backlog grows.

    Returns:
        The panel.
    """
    queued = promql.per_label(
        f"sum by (execution_class) ({promql.QUEUED})", "execution_class", "nothing queued"
    )
    return lines(
        "Arrival against drain",
        "Runs per minute that arrive less those that start, over 15 minutes. Above 0 the backlog "
        "grows, below 0 it drains. Nextmv tells how many runs wait, not how many came and went, so "
        "only the difference is known.",
        "suffix: runs/min",
        query(f"60 * {promql.growth(queued)}", "{{execution_class}}"),
    ).axis_centered_zero(True)
