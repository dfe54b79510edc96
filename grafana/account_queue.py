"""The dashboard of the queue: from the numbers of an incident to its cause."""

import json
from collections.abc import Iterator

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana import exporter_panels, panels, queue_panels
from grafana import queries as promql


def account_queue() -> str:
    """Make the dashboard.

    Returns:
        JSON that Grafana provisions and imports alike: a variable holds the data source.
    """
    built = json.dumps(_dashboard().build(), cls=JSONEncoder, sort_keys=True)
    return _written(json.loads(built)) + "\n"


def _written(value: object, margin: str = "") -> str:
    """Write JSON with as much on a line as fits, so that a review sees what has changed."""
    width = 320
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
        .link(console.url(queue_panels.CONSOLE).target_blank(target_blank=True))
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
    for number_panel in queue_panels.numbers():
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
    for panel in queue_panels.queue():
        board = board.with_panel(panel)
    board = board.with_row(dashboard.Row("Flow over $window").id(20))
    for panel in queue_panels.flow():
        board = board.with_panel(panel)
    exporter_row = dashboard.Row("Exporter").id(40).collapsed(collapsed=True)
    for each in exporter_panels.exporter():
        exporter_row = exporter_row.with_panel(each)
    groups = dashboard.Row("Groups").id(30)
    return board.with_row(groups).with_panel(queue_panels.worst_groups()).with_row(exporter_row)


def _alerts() -> dashboard.AnnotationQuery:
    # Alerts on the exporter itself have no account, and may have no job.
    expr = (
        'ALERTS{alertname=~"Nextmv.*", alertstate="firing", cluster=~"$cluster|", '
        'namespace=~"$namespace|", job=~"$job|", account=~"$account|"}'
    )
    alerts = dashboard.AnnotationQuery().name("Alerts").datasource(panels.DATASOURCE)
    return alerts.enable(enable=True).icon_color(panels.RED).expr(expr)


def _variables() -> Iterator[dashboard.QueryVariable]:
    length = "nextmv_account_queue_length"
    for name, label, title, series in (
        ("cluster", "cluster", "Cluster", "nextmv_up"),
        ("namespace", "namespace", "Namespace", 'nextmv_up{cluster=~"$cluster"}'),
        ("job", "job", "Job", 'nextmv_up{cluster=~"$cluster", namespace=~"$namespace"}'),
        ("account", "account", "Account", f"nextmv_up{{{promql.JOB}}}"),
        ("execution_class", "execution_class", "Execution class", f"{length}{{{promql.ACCOUNT}}}"),
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
