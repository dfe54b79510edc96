"""What can be said of the dashboard from its JSON; `test_dashboard_values` runs its queries."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_file import ANNOTATION, DASHBOARD, PANELS, QUERIES, ROWS, TEXT, VARIABLES
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql_units import unit_of

from nextmv_exporter.scrape.metrics import METRICS

RULES = Path(__file__).parents[2] / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
ENVIRONMENT = {"cluster", "namespace", "job"}
OF_TARGETS = ENVIRONMENT | {"instance", "pod"}
OTHERS = {
    "process_resident_memory_bytes": set[str](),
    "ALERTS": {"alertname", "alertstate", "account"},
}
# These need neither a panel nor a rule.
UNUSED = {"nextmv_account_queue_oldest_queued_run_created_timestamp_seconds"}

# Links, screenshots and embedded panels refer to the ids: one that has been given to a panel stays
# with it, and is not given to another after it is gone.
IDS = {
    1: "Runs queued",
    2: "Runs running",
    3: "Oldest queued run",
    4: "Wait so far, 90th percentile",
    5: "Time to drain",
    6: "Account readable",
    7: "Account readable over time",
    10: "Queue",
    11: "Queued by execution class",
    12: "Queued by application",
    13: "Running by execution class",
    14: "Oldest queued run by execution class",
    15: "Wait so far of the queued runs",
    16: "Oldest running run by group",
    17: "Oldest queued run against its bound",
    20: "Flow over $window",
    21: "Arrivals and starts by execution class",
    22: "Runs that left by last status",
    23: "Wait at start",
    24: "Time to drain by execution class",
    25: "Time since a run started by execution class",
    30: "Groups",
    31: "Worst groups",
    40: "Exporter",
    41: "Errors by reason",
    42: "Scrape duration",
    43: "API latency",
    44: "API responses by code",
    45: "Malformed runs and folded groups",
    46: "Memory",
    47: "Source of the queue",
    48: "Version",
    49: "Clock offset",
}


def test_ids_of_panels_are_unique_and_stay_as_they_are() -> None:
    assert sorted((panel["id"], panel["title"]) for panel in ROWS + PANELS) == list(IDS.items())


def test_each_panel_says_what_to_do_and_when_there_is_no_data() -> None:
    for panel in PANELS:
        assert len(panel["description"]) > 40, panel["title"]
        assert "noValue" in panel["fieldConfig"]["defaults"], panel["title"]


def units(panel: dict[str, Any]) -> dict[str, str]:
    """The unit of each of a panel's queries; a column of a table may have its own."""
    own = {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in properties}
        for override in panel["fieldConfig"]["overrides"]
        if (properties := override["properties"])
    }
    columns: dict[str, str] = {}
    for transformation in panel.get("transformations", []):
        columns |= transformation["options"].get("renameByName", {})
    default: str = panel["fieldConfig"]["defaults"]["unit"]
    return {
        target["refId"]: own.get(columns.get(f"Value #{target['refId']}", ""), {}).get(
            "unit", default
        )
        for target in panel["targets"]
    }


def test_the_unit_of_a_panel_is_that_of_what_its_queries_calculate() -> None:
    found: set[str] = set()
    for panel in PANELS:
        given = units(panel)
        assert given == {target["refId"]: unit_of(target["expr"]) for target in panel["targets"]}, (
            panel["title"]
        )
        found |= set(given.values())
    assert found == {"bytes", "percentunit", "reqps", "s", "short", "suffix: runs/min"}


def test_all_is_queried_from_the_data_source_that_the_variable_names() -> None:
    targets = [target for panel in PANELS for target in panel["targets"]]
    queried = [each for each in VARIABLES.values() if each["type"] == "query"]
    for each in [*targets, *queried, *PANELS, ANNOTATION]:
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    # Provisioning fills no inputs in, and the import dialog needs none.
    assert "__inputs" not in DASHBOARD
    assert "${DS_" not in TEXT
    assert VARIABLES["datasource"]["type"] == "datasource"


@pytest.mark.parametrize(
    "name", ["cluster", "namespace", "job", "account", "execution_class", "application"]
)
def test_every_value_of_a_variable_can_be_chosen_singly_or_all(name: str) -> None:
    variable = VARIABLES[name]
    assert variable["multi"]
    assert variable["includeAll"]
    # Matches also series that lack the label.
    assert variable["allValue"] == ".*"
    assert variable["current"]["value"] == "$__all"
    assert f'=~"${name}"' in "".join(QUERIES.values())


def test_a_window_of_the_flow_can_be_chosen() -> None:
    assert "$window" in QUERIES["Wait at start A"]
    assert VARIABLES["window"]["current"]["value"] in VARIABLES["window"]["query"].split(",")


def recorded() -> set[str]:
    """The series that the rules record by execution class."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    names = {rule.get("record", "") for group in groups for rule in group["rules"]}
    return {name for name in names if name.startswith("execution_class:")}


def test_queries_name_only_metrics_and_labels_that_exist() -> None:
    own = {series: set(metric.labels) for metric in METRICS for series in metric.series} | OTHERS
    # Native histograms have one series, of the metric's own name.
    own |= {metric.name: set(metric.labels) for metric in METRICS}
    own |= dict.fromkeys(recorded(), own["nextmv_execution_class_max_run_seconds"])
    queries = [*QUERIES.values(), ANNOTATION["expr"]]
    queries += [each["query"]["query"] for each in VARIABLES.values() if each["type"] == "query"]
    for query in queries:
        selectors = re.findall(
            r"\b((?:\w+:)?(?:nextmv|process)_[\w:]+|ALERTS)\b(?:\{([^}]*)\})?", query
        )
        assert selectors
        for name, matchers in selectors:
            assert set(re.findall(r"(\w+)=~?\"", matchers)) <= own[name] | ENVIRONMENT, name


def test_environments_and_accounts_are_never_added_up() -> None:
    known = {label for metric in METRICS for label in metric.labels} | OF_TARGETS | {"le", ""}
    for panel, query in QUERIES.items():
        account = set() if panel in {"Memory A", "Version A"} else {"account"}
        # `max_over_time` and the sort of a table take no labels.
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
        assert grouped or panel == "Version A", panel
        for listed in grouped:
            labels = set(listed.split(", "))
            assert ENVIRONMENT | account <= labels <= known, panel
        assert "without" not in query, panel


def test_no_two_series_of_a_panel_have_the_same_legend() -> None:
    for panel in PANELS:
        legends = [target.get("legendFormat") for target in panel["targets"]]
        if panel["type"] == "timeseries":
            assert len(set(legends)) == len(legends), panel["title"]
        for target, legend in zip(panel["targets"], legends, strict=True):
            if panel["type"] == "table":
                continue
            outermost = re.search(r"\band on \(([^)]*)\) topk", target["expr"])
            labels = outermost[1].split(", ") if outermost else ["account", "job"]
            shown = {label for label in labels if f"{{{{{label}}}}}" in legend}
            assert shown == set(labels) or panel["title"] == "Version"


def test_each_metric_is_used_by_a_panel_or_a_rule() -> None:
    used = " ".join(QUERIES.values()) + RULES.read_text()
    unused = {metric.name for metric in METRICS if not re.search(rf"\b{metric.name}\b", used)}
    assert "nextmv_up" in used
    assert unused == UNUSED, "add a panel in grafana/account_queue.py, or the name to UNUSED here"


def test_an_unreadable_account_is_called_that_wherever_a_number_would_stand() -> None:
    numbers = [panel for panel in PANELS if panel["gridPos"]["w"] == 4]
    assert len(numbers) == 6
    for panel in numbers:
        mappings = panel["fieldConfig"]["defaults"]["mappings"]
        kind = "value" if panel["title"] == "Account readable" else "special"
        assert "unreadable" in json.dumps([each for each in mappings if each["type"] == kind])
        # Nothing reaches back to the last good value.
        assert panel["options"]["reduceOptions"]["calcs"] == ["last"]
        assert all(target["instant"] for target in panel["targets"])


def test_lines_have_gaps_where_nothing_is_known() -> None:
    lines = [panel for panel in PANELS if panel["type"] == "timeseries"]
    assert len(lines) > 15
    for panel in lines:
        assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


def test_links_are_absolute_and_lead_to_the_application() -> None:
    links = re.findall(r'"url": "([^"]*)"', TEXT)
    assert all(link.startswith("https://") for link in links)
    assert "https://cloud.nextmv.io/app/${__value.raw:percentencode}" in links


def unknown_fields(ours: Any, decoded: Any, path: str = "") -> list[str]:
    """Return the paths of what decoding has lost or changed."""
    if isinstance(ours, dict) and isinstance(decoded, dict):
        pairs = [(f"{path}.{key}", value, decoded.get(key)) for key, value in ours.items()]
    elif isinstance(ours, list) and isinstance(decoded, list) and len(ours) == len(decoded):
        pairs = [(f"{path}[]", *pair) for pair in zip(ours, decoded, strict=True)]
    else:
        return [] if ours == decoded else [path]
    return [found for where, *pair in pairs for found in unknown_fields(*pair, where)]


def test_grafanas_schema_knows_every_field() -> None:
    register_default_plugins()
    decoded = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    assert unknown_fields(DASHBOARD, decoded) == []
    assert unknown_fields({**DASHBOARD, "refrehs": "1m"}, decoded) == [".refrehs"]
