"""The dashboard of the queue: from the numbers of an incident to its cause."""

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.dashboards import queries as promql
from grafana.dashboards.exporter_row import exporter_row
from grafana.dashboards.numbers import numbers
from grafana.dashboards.over_time import flow, queue_over_time
from grafana.dashboards.panels import DATASOURCE, states
from grafana.dashboards.values import CONSOLE, RED
from grafana.dashboards.worst_groups import worst_groups


def account_queue() -> str:
    """Make the dashboard.

    Returns:
        Its JSON, with the data source left to a variable: for Grafana's provisioning and sidecar.
    """
    return json.dumps(_dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def importable(text: str) -> str:
    """Let Grafana ask for the data source when the dashboard is imported by hand.

    Provisioning does not fill inputs in, so only this copy has them.

    Args:
        text: JSON of the dashboard.

    Returns:
        JSON with `__inputs`; the chosen data source becomes the variable's first value.
    """
    content: dict[str, Any] = json.loads(text)
    variable = next(each for each in content["templating"]["list"] if each["name"] == "datasource")
    variable["current"] = {"text": "${DS_PROMETHEUS}", "value": "${DS_PROMETHEUS}"}
    content["__inputs"] = [
        {
            "name": "DS_PROMETHEUS",
            "label": "Prometheus",
            "description": "The Prometheus that scrapes nextmv-exporter",
            "type": "datasource",
            "pluginId": "prometheus",
            "pluginName": "Prometheus",
        }
    ]
    content["__requires"] = [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "11.6.0"},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
    ]
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _dashboard() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("Nextmv account queue")
        .uid("nextmv-account-queue")
        .description("The run queue of Nextmv Cloud accounts, as nextmv-exporter sees it.")
        .tags(["nextmv", "nextmv-exporter"])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Nextmv console")
            .type(DashboardLinkType.LINK)
            .url(CONSOLE)
            .target_blank(True)
        )
        .annotation(_alerts())
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_variable("cluster", "Cluster", "nextmv_up"))
        .with_variable(_variable("namespace", "Namespace", 'nextmv_up{cluster=~"$cluster"}'))
        .with_variable(
            _variable("job", "Job", 'nextmv_up{cluster=~"$cluster", namespace=~"$namespace"}')
        )
        .with_variable(_variable("account", "Account", f"nextmv_up{{{promql.JOB}}}"))
        .with_variable(
            _variable(
                "execution_class",
                "Execution class",
                f"nextmv_account_queue_length{{{promql.ACCOUNT}}}",
            )
        )
        .with_variable(
            _variable(
                "application_id",
                "Application",
                f"nextmv_account_queue_length{{{promql.CLASS}}}",
                name="application",
            )
        )
        .with_variable(
            dashboard.IntervalVariable("window")
            .label("Window of the flow")
            .description(
                "Over which time arrivals, starts and waits at start are taken. Longer than the "
                "time between two starts of the slowest class."
            )
            .values("5m,15m,1h,6h,1d")
            .current(VariableOption(selected=True, text="15m", value="15m"))
        )
    )
    for number_panel in numbers():
        board = board.with_panel(number_panel)
    board = board.with_panel(
        states(
            7,
            "Account readable over time",
            "Where this is red, nothing below is known: the graphs have gaps there. See the errors "
            "by reason in the exporter's row.",
            promql.UP,
        )
    ).with_row(dashboard.Row("Queue").id(10))
    for line_panel in queue_over_time():
        board = board.with_panel(line_panel)
    board = board.with_row(dashboard.Row("Flow over $window").id(20))
    for line_panel in flow():
        board = board.with_panel(line_panel)
    return (
        board.with_row(dashboard.Row("Groups").id(30))
        .with_panel(worst_groups())
        .with_row(exporter_row())
    )


def _alerts() -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(RED)
        # Alerts on the exporter itself have no account, and may have no job.
        .expr(
            'ALERTS{alertname=~"Nextmv.*", alertstate="firing", cluster=~"$cluster|", '
            'namespace=~"$namespace|", job=~"$job|", account=~"$account|"}'
        )
    )


def _variable(
    value_label: str, title: str, series: str, name: str | None = None
) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name or value_label)
        .label(title)
        .datasource(DATASOURCE)
        .query(
            {"query": f"label_values({series}, {value_label})", "refId": f"Variable-{value_label}"}
        )
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )
