"""The panels of the queue: the numbers of an incident, and what to see its cause by."""

from collections.abc import Iterator

from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.models import dashboard as models

from grafana import panels
from grafana import queries as promql
from grafana.panels import GREEN, ORANGE, RED, graph, lines, number, stacked

CONSOLE = "https://cloud.nextmv.io"
_CLASS = "execution_class"
_BY_BOUND = panels.levels(GREEN, (0.5, ORANGE), (1, RED))


def numbers() -> Iterator[stat.Panel]:
    """Make the numbers at the top: how bad is it."""
    yield number(
        1,
        "Runs queued",
        "Runs that wait to start. If the number grows, find the execution class and the "
        "application below, and whether runs still start.",
        "short",
        promql.or_unreadable(promql.counts(promql.QUEUED)),
    )
    yield number(
        2,
        "Runs running",
        "Runs that execute now. 0 while runs are queued means that Nextmv starts none.",
        "short",
        promql.or_unreadable(promql.counts(promql.RUNNING)),
    )
    oldest = number(
        3,
        "Oldest queued run",
        "Red: in some class the oldest queued run is older than the longest run of the class and a "
        "tenth more, an hour at least, as in the alert. Orange: older than half of that. Find it "
        "in the table of the worst groups.",
        "s",
        promql.or_unreadable(promql.OLDEST_WITHIN_BOUND),
    ).thresholds(panels.levels(GREEN))
    oldest = panels.in_color(oldest, ORANGE, promql.OLDEST_NEAR_BOUND)
    yield panels.in_color(oldest, RED, promql.OLDEST_OVER_BOUND)
    waiting = promql.or_nothing(promql.waiting(0.9), promql.QUEUED_IN_CLASS)
    yield number(
        4,
        "Wait so far, 90th percentile",
        "Nine in ten of the runs queued now have waited less than this, in any application. High "
        "while the oldest is not much older: the whole class is slow, not one run.",
        "s",
        promql.or_unreadable(waiting),
    )
    yield number(
        5,
        "Time to drain",
        "Queued runs by the rate of starts over the window, of the slowest execution class. None "
        "started: runs are queued, and none was seen to start in the window. No data: the exporter "
        "has not run long enough.",
        "s",
        promql.or_unreadable(promql.DRAIN),
    ).mappings([panels.UNREADABLE, panels.NONE_STARTED])
    yield (
        number(
            6,
            "Account readable",
            "Whether the last scrape read the account's queue. Unreadable: see the errors by "
            "reason in the exporter's row. No exporter: Prometheus cannot scrape it.",
            "short",
            f"bottomk({promql.MOST}, {promql.UP})",
        )
        .mappings([panels.READABLE])
        .no_value("no exporter")
        .thresholds(panels.levels(RED, (1, GREEN)))
    )


def queue() -> Iterator[timeseries.Panel]:
    """Make the graphs of the queue: which execution class, which application, and since when."""
    yield stacked(
        graph(
            11,
            "Queued by execution class",
            "Each class has a queue and a concurrency limit of its own. One that grows alone is at "
            "its limit: see what runs in it.",
            "short",
            lines({"": promql.counts(promql.QUEUED, _CLASS, "nothing queued")}, _CLASS),
        )
    )
    applications = promql.counts(promql.QUEUED, "application_id", "nothing queued")
    yield stacked(
        graph(
            12,
            "Queued by application",
            "Which applications fill the queue. A sudden step is a batch; talk to its owner before "
            "cancelling runs.",
            "short",
            lines({"": applications}, "application_id"),
        )
    )
    yield stacked(
        graph(
            13,
            "Running by execution class",
            "A class that is flat at its top is at its concurrency limit. One that falls while its "
            "queue grows has stopped starting runs.",
            "short",
            lines({"": promql.counts(promql.RUNNING, _CLASS, "nothing running")}, _CLASS),
        )
    )
    nothing = promql.nothing(promql.QUEUED)
    oldest = promql.or_named(promql.OLDEST_IN_CLASS, nothing, _CLASS, "nothing queued")
    yield graph(
        14,
        "Oldest queued run by execution class",
        "A line that climbs with the clock is a run that does not start; a saw-tooth is a queue "
        "that drains.",
        "s",
        lines({"": oldest}, _CLASS),
    )
    yield panels.with_levels_drawn(
        graph(
            17,
            "Oldest queued run against its bound",
            "Age by what the class may take: its longest run and a tenth more, an hour at least. "
            "Above 100 % see what runs in the class, and when a run started last.",
            "percentunit",
            lines({"": promql.AGAINST_BOUND}, _CLASS),
        ),
        _BY_BOUND,
    )
    yield graph(
        15,
        "Wait so far of the queued runs",
        "Of the runs queued at the time: 90th percentile and median (dashed), in any application. "
        "A median that climbs is a batch that does not start.",
        "s",
        lines({"p90": promql.waiting(0.9, _CLASS), "median": promql.waiting(0.5, _CLASS)}, _CLASS),
    )
    idle = promql.nothing(promql.RUNNING)
    running = promql.or_named(promql.OLDEST_RUNNING, idle, "application_id", "nothing running")
    yield graph(
        16,
        "Oldest running run by group",
        "Age, from its creation, of the oldest running run in each application and class. One far "
        "above the duration of its class has probably hung.",
        "s",
        lines({"": running}, "application_id", _CLASS),
    )


def flow() -> Iterator[timeseries.Panel]:
    """Make the graphs of the flow: how fast runs arrive, start and leave."""
    flows = {
        "arrived": f"60 * {promql.flow('entered', promql.GROUP)}",
        "started": f"60 * {promql.flow('started', promql.GROUP)}",
    }
    yield graph(
        21,
        "Arrivals and starts by execution class",
        "Runs per minute that entered the queue, and that started (dashed). The queue grows while "
        "arrivals are above starts. Runs that come and go between two scrapes are not seen.",
        "suffix: runs/min",
        lines(flows, _CLASS),
    )
    left = f"60 * {promql.flow('left', promql.GROUP, 'status_v2')}"
    yield graph(
        22,
        "Runs that left by last status",
        "Runs per minute that are no longer in the queue. From running they ended; from queued "
        "they were cancelled, or started and ended between two scrapes.",
        "suffix: runs/min",
        lines({"": left}, "status_v2", _CLASS),
    )
    waits = ("nextmv_account_queue_start_wait_seconds", promql.CLASS, "$window", promql.READABLE)
    yield graph(
        23,
        "Wait at start",
        "How long runs had waited when they started: 95th percentile and median (dashed), in any "
        "application. A gap: none started.",
        "s",
        lines(promql.quantiles(*waits, _CLASS), _CLASS),
    )
    yield graph(
        24,
        "Time to drain by execution class",
        "Queued runs by the rate of starts, in any application. A gap: nothing is queued, or none "
        "started in the window.",
        "s",
        lines({"": promql.DRAIN_BY_CLASS}, _CLASS),
    )
    yield graph(
        25,
        "Time since a run started by execution class",
        "In classes with queued runs. One that climbs beyond the longest run of its class is at a "
        "standstill: see what runs in it.",
        "s",
        lines({"": promql.SINCE_START}, _CLASS),
    )


def worst_groups() -> table.Panel:
    """Make the table of the groups to look at first."""
    titles = {
        "account": "Account",
        "application_id": "Application",
        "execution_class": "Execution class",
        "Value #age": "Oldest queued run",
        "Value #bound": "Of its bound",
        "Value #queued": "Queued",
        "Value #running": "Running",
        "job": "Job",
        "namespace": "Namespace",
        "cluster": "Cluster",
    }
    order = {name: index for index, name in enumerate(titles)}
    arranged = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": titles}
    oldest_first = {"sort": [{"field": "Oldest queued run", "desc": True}]}
    url = f"{CONSOLE}/app/${{__value.raw:percentencode}}"
    link = {"title": "Open in the Nextmv console", "url": url, "targetBlank": True}
    colored = {"thresholds": _BY_BOUND.build(), "custom.cellOptions": {"type": "color-text"}}
    return (
        panels.table(
            31,
            "Worst groups",
            "The 25 groups whose oldest queued run has waited longest. The link opens the "
            "application in the Nextmv console, where its runs can be cancelled. __other__ holds "
            "what --queue.max-groups folded. A row without application is an account with nothing "
            "queued, or that is unreadable.",
            promql.WORST,
        )
        .with_transformation(models.DataTransformerConfig(id_val="organize", options=arranged))
        .with_transformation(models.DataTransformerConfig(id_val="sortBy", options=oldest_first))
        .override_by_name("Application", panels.properties(links=[link]))
        .override_by_name("Oldest queued run", panels.properties(unit="s"))
        .override_by_name("Of its bound", panels.properties(unit="percentunit", **colored))
    )
