"""The dashboard of the queue: from the numbers of an incident to its cause."""

import json
from collections.abc import Iterator

from grafana_foundation_sdk.builders import dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana import panels
from grafana import queries as promql
from grafana.panels import GREEN, ORANGE, RED, graph, lines, names, number, stacked

_CONSOLE = "https://cloud.nextmv.io"
_CLASS = "execution_class"
_BY_BOUND = panels.levels(GREEN, (0.5, ORANGE), (1, RED))


def account_queue() -> str:
    """Make the dashboard.

    Returns:
        JSON that Grafana provisions and imports alike: a variable holds the data source.
    """
    built = json.dumps(_dashboard().build(), cls=JSONEncoder, sort_keys=True)
    return _written(json.loads(built)) + "\n"


def _written(value: object, margin: str = "") -> str:
    """Write JSON with as much on a line as fits, so that a review sees what has changed."""
    width = 240
    line = json.dumps(value)
    if len(margin) + len(line) <= width or not isinstance(value, dict | list):
        return line
    inner = margin + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {_written(each, inner)}" for key, each in value.items()]
    else:
        items = [_written(each, inner) for each in value]
    packed = items[:1]
    for item in items[1:]:
        joined = f"{packed[-1]}, {item}"
        if "\n" not in joined and len(inner) + len(joined) < width:
            packed[-1] = joined
        else:
            packed.append(item)
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(packed) + f"\n{margin}{last}"


def _dashboard() -> dashboard.Dashboard:
    console = dashboard.DashboardLink("Nextmv console").type(models.DashboardLinkType.LINK)
    board = (
        dashboard.Dashboard("Nextmv account queue")
        .uid("nextmv-account-queue")
        .description("The run queue of Nextmv Cloud accounts, as nextmv-exporter sees it.")
        .tags(["nextmv", "nextmv-exporter"])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(console.url(_CONSOLE).target_blank(target_blank=True))
        .annotation(_alerts())
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for variable in _variables():
        board = board.with_variable(variable)
    board = board.with_variable(
        dashboard.IntervalVariable("window")
        .label("Window of the flow")
        .description("Longer than the time between two starts of the slowest class.")
        .values("5m,15m,1h,6h,1d")
        .current(models.VariableOption(selected=True, text="15m", value="15m"))
    )
    for number_panel in _numbers():
        board = board.with_panel(number_panel)
    board = board.with_panel(
        panels.states(
            7,
            "Account readable over time",
            "Where this is red, nothing below is known: graphs have gaps. See the errors by reason "
            "in the exporter's row. Shows 20 accounts, those with failures first.",
            promql.largest(promql.UP, f"1 - {promql.UP}"),
        )
    ).with_row(dashboard.Row("Queue").id(10))
    for panel in _queue():
        board = board.with_panel(panel)
    board = board.with_row(dashboard.Row("Flow over $window").id(20))
    for panel in _flow():
        board = board.with_panel(panel)
    exporter = dashboard.Row("Exporter").id(40).collapsed(collapsed=True)
    for each in _exporter():
        exporter = exporter.with_panel(each)
    groups = dashboard.Row("Groups").id(30)
    return board.with_row(groups).with_panel(_worst_groups()).with_row(exporter)


def _alerts() -> dashboard.AnnotationQuery:
    # Alerts on the exporter itself have no account, and may have no job.
    expr = (
        'ALERTS{alertname=~"Nextmv.*", alertstate="firing", cluster=~"$cluster|", '
        'namespace=~"$namespace|", job=~"$job|", account=~"$account|"}'
    )
    alerts = dashboard.AnnotationQuery().name("Alerts").datasource(panels.DATASOURCE)
    return alerts.enable(enable=True).icon_color(RED).expr(expr)


def _variables() -> Iterator[dashboard.QueryVariable]:
    length = "nextmv_account_queue_length"
    for name, label, title, series in (
        ("cluster", "cluster", "Cluster", "nextmv_up"),
        ("namespace", "namespace", "Namespace", 'nextmv_up{cluster=~"$cluster"}'),
        ("job", "job", "Job", 'nextmv_up{cluster=~"$cluster", namespace=~"$namespace"}'),
        ("account", "account", "Account", f"nextmv_up{{{promql.JOB}}}"),
        (_CLASS, _CLASS, "Execution class", f"{length}{{{promql.ACCOUNT}}}"),
        ("application", "application_id", "Application", f"{length}{{{promql.CLASS}}}"),
    ):
        yield (
            dashboard.QueryVariable(name)
            .label(title)
            .datasource(panels.DATASOURCE)
            .query({"query": f"label_values({series}, {label})", "refId": f"Variable-{label}"})
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )


def _numbers() -> Iterator[stat.Panel]:
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


def _queue() -> Iterator[timeseries.Panel]:
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
    oldest = promql.or_nothing(promql.OLDEST_IN_CLASS, promql.QUEUED, _CLASS, "nothing queued")
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
    running = promql.or_nothing(
        promql.RUNNING_AGE, promql.RUNNING, "application_id", "nothing running"
    )
    yield graph(
        16,
        "Oldest running run by group",
        "Age, from its creation, of the oldest running run in each application and class. One far "
        "above the duration of its class has probably hung.",
        "s",
        lines({"": running}, "application_id", _CLASS),
    )


def _flow() -> Iterator[timeseries.Panel]:
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


def _worst_groups() -> table.Panel:
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
    url = f"{_CONSOLE}/app/${{__value.raw:percentencode}}"
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


def _exporter() -> Iterator[timeseries.Panel | stat.Panel]:
    account = promql.ACCOUNT
    errors = promql.rate("nextmv_scrape_errors_total", "increase", "reason")
    yield stacked(
        graph(
            41,
            "Errors by reason",
            "Failed scrapes of accounts. auth: replace the key. rate_limited: scrape less often. "
            "timeout, connection, tls, server_error: check the network, then Nextmv's status page.",
            "short",
            lines({"": errors}, "reason"),
        )
    )
    yield graph(
        42,
        "Scrape duration",
        "Time to fetch, parse and summarise a queue. Near Prometheus's scrape_timeout or "
        "--nextmv.timeout, raise these, or scrape each account as a target of its own.",
        "s",
        lines({"": promql.once("nextmv_scrape_duration_seconds", account)}),
    )
    latency = ("nextmv_api_request_duration_seconds", account, "$__rate_interval", promql.UP)
    yield graph(
        43,
        "API latency",
        "Time that the Nextmv API takes to respond: 95th percentile and median (dashed). If it is "
        "slow and the network is not, contact Nextmv.",
        "s",
        lines(promql.quantiles(*latency, "path"), "path"),
    )
    requests = promql.rate("nextmv_api_requests_total", "rate", "code", "path")
    yield stacked(
        graph(
            44,
            "API responses by code",
            "Requests per second by HTTP status. 401 and 403: the key. 429: too many requests. "
            "5xx: Nextmv. error: no response came.",
            "reqps",
            lines({"": requests}, "code", "path"),
        )
    )
    malformed = promql.once("nextmv_account_queue_malformed_runs", account)
    folded = promql.once("nextmv_account_queue_folded_groups", account)
    both = {"malformed runs": malformed, "folded groups": folded}
    yield graph(
        45,
        "Malformed runs and folded groups",
        "Malformed runs lack a field, or it is invalid: report them to Nextmv. Folded groups "
        "(dashed) are counted under __other__: raise --queue.max-groups to see them.",
        "short",
        lines(both, rank=f"{malformed} + {folded}"),
    )
    yield graph(
        46,
        "Memory",
        "Resident memory of each exporter. It follows the length of the queue; if it climbs while "
        "the queue does not, restart the exporter and report a bug. Empty where Prometheus scrapes "
        "only the targets of /sd.",
        "bytes",
        lines({"": promql.MEMORY}, "instance", "pod"),
    )
    offset = promql.once("nextmv_api_clock_offset_seconds", account, "instance")
    yield graph(
        49,
        "Clock offset",
        "The API's clock less the exporter's, to within a second. Half a minute or more: correct "
        "the clock of the exporter's machine, since all ages and waits are wrong by as much.",
        "s",
        lines({"": offset}, "instance", rank=f"abs({offset})"),
    )
    yield names(
        47,
        "Source of the queue",
        "application-runs in place of account-queue: Nextmv no longer serves the account's queue, "
        "and it is put together from the runs of each application.",
        promql.once("nextmv_source_info", account, "source"),
        panels.legend("source"),
    )
    yield names(
        48,
        "Version",
        "Several versions: a rollout is in progress or stuck. No exporter: it is gone, or "
        "Prometheus scrapes only the targets of /sd.",
        promql.VERSIONS,
        "{{version}} {{revision}} Python {{pythonversion}} {{job}} {{namespace}} {{cluster}}",
    )
