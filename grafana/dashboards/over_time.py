"""The queue over time: which execution class, which application, and since when."""

from grafana_foundation_sdk.builders import timeseries

from grafana.dashboards import queries as promql
from grafana.dashboards.panels import (
    ACCOUNT,
    dashed,
    lines,
    query,
    stacked,
    with_levels_drawn,
)
from grafana.dashboards.values import WAIT_LEVELS

_CLASS = f"{{{{execution_class}}}} {ACCOUNT}"
_APPLICATION = f"{{{{application_id}}}} {ACCOUNT}"


def queue_over_time() -> list[timeseries.Panel]:
    """Make the panels that show which class and application it is.

    Returns:
        The panels in order.
    """
    return [
        stacked(
            lines(
                11,
                "Queued by execution class",
                "Each class of an account has a queue and a concurrency limit of its own. One that "
                "grows alone is at its limit: see what runs in it.",
                "short",
                query(_count(promql.QUEUED, "execution_class", "nothing queued"), _CLASS),
            )
        ),
        stacked(
            lines(
                12,
                "Queued by application",
                "Which applications fill the queue: the 15 longest. A sudden step is a batch; talk "
                "to its owner before cancelling runs.",
                "short",
                query(
                    _count(promql.QUEUED, "application_id", "nothing queued", longest="topk(15, "),
                    _APPLICATION,
                ),
            )
        ),
        stacked(
            lines(
                13,
                "Running by execution class",
                "A class that is flat at its top is at its concurrency limit. One that falls while "
                "its queue grows has stopped starting runs.",
                "short",
                query(_count(promql.RUNNING, "execution_class", "nothing running"), _CLASS),
            )
        ),
        with_levels_drawn(
            lines(
                14,
                "Oldest queued run by execution class",
                "A line that climbs with the clock is a run that does not start; a saw-tooth is a "
                "queue that drains. The upper line is the default threshold of the alert on age.",
                "s",
                query(
                    promql.or_named(
                        promql.oldest(promql.QUEUED_AGE, promql.QUEUED, "execution_class"),
                        promql.none_queued(promql.QUEUED),
                        "execution_class",
                        "nothing queued",
                    ),
                    _CLASS,
                ),
            ),
            WAIT_LEVELS,
        ),
        dashed(
            lines(
                15,
                "Wait so far of the queued runs",
                "How long the runs queued at the time had waited: median (dashed) and 90th "
                "percentile, in any application. A median that climbs is a batch that does not "
                "start.",
                "s",
                query(promql.waiting(0.9, "execution_class"), f"p90 {_CLASS}"),
                query(promql.waiting(0.5, "execution_class"), f"median {_CLASS}", "B"),
            ),
            "B",
        ),
        lines(
            16,
            "Oldest running run by group",
            "Age, from its creation, of the oldest run that is running in each application and "
            "class: the 15 oldest. One far above the duration of its class has probably hung.",
            "s",
            query(
                f"topk(15,\n{promql.RUNNING_AGE}\n)",
                f"{{{{application_id}}}} {_CLASS}",
            ),
        ),
    ]


def flow() -> list[timeseries.Panel]:
    """Make the panels that show how fast runs arrive, start and leave.

    Returns:
        The panels in order.
    """
    started = "nextmv_account_queue_start_wait_seconds"
    return [
        dashed(
            lines(
                21,
                "Arrivals and starts by execution class",
                "Runs per minute that entered the queue, and runs that started (dashed), over the "
                "chosen window. The queue grows while arrivals are above starts. Runs that come "
                "and go between two scrapes are not seen.",
                "suffix: runs/min",
                query(f"60 * {promql.flow('entered', promql.GROUP)}", f"arrived {_CLASS}"),
                query(f"60 * {promql.flow('started', promql.GROUP)}", f"started {_CLASS}", "B"),
            ),
            "B",
        ),
        lines(
            22,
            "Runs that left by last status",
            "Runs per minute that are no longer in the queue, by the status that they were last "
            "seen with. From running they ended; from queued they were cancelled, or started and "
            "ended between two scrapes.",
            "suffix: runs/min",
            query(
                f"60 * {promql.flow('left', promql.GROUP, 'status_v2')}",
                f"{{{{status_v2}}}} {_CLASS}",
            ),
        ),
        dashed(
            lines(
                23,
                "Wait at start",
                "How long runs had waited when they started: median (dashed) and 95th percentile "
                "over the chosen window, in any application. A gap: none started.",
                "s",
                *(
                    query(
                        promql.known(
                            promql.quantile(
                                share, started, promql.CLASS, "execution_class", over="$window"
                            )
                        ),
                        f"{name} {_CLASS}",
                        ref_id,
                    )
                    for share, name, ref_id in ((0.95, "p95", "A"), (0.5, "median", "B"))
                ),
            ),
            "B",
        ),
        lines(
            24,
            "Time to drain by execution class",
            "Queued runs divided by the rate of starts over the chosen window, in any application. "
            "A gap while runs are queued: none started in the window.",
            "s",
            query(promql.DRAIN_BY_CLASS, _CLASS),
        ),
    ]


def _count(runs: str, label: str, nothing: str, longest: str = "(") -> str:
    counts = f"sum by ({promql.by(label)}) ({runs})"
    return promql.or_named(f"{longest}{counts})", promql.EMPTY, label, nothing)
