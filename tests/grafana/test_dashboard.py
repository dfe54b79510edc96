"""What can be said of the dashboard from its JSON; `test_dashboard_queries` runs its queries."""

import json
import re
from typing import Any

import pytest
from dashboard_file import (
    ANNOTATION,
    DASHBOARD,
    EXPORTER_ROW,
    IMPORTABLE,
    OVERVIEW,
    PANELS,
    QUERIES,
    ROWS,
    TEXT,
    VARIABLES,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from nextmv_exporter.scrape.metrics import METRICS

IDENTITY = {"cluster", "namespace", "job", "account"}
# Labels that Prometheus adds, or the Prometheus operator.
OF_TARGETS = {"cluster", "namespace", "job", "instance", "exported_endpoint"}
OF_ALERTS = {"alertname", "alertstate", "account"}
METRICS_OF_OTHERS = {"process_resident_memory_bytes", "ALERTS"}
STATS = [panel for panel in OVERVIEW if panel["type"] == "stat"]

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
    20: "Flow over $window",
    21: "Arrivals and starts by execution class",
    22: "Runs that left by last status",
    23: "Wait at start",
    24: "Time to drain by execution class",
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
}


def test_ids_of_panels_are_unique_and_stay_as_they_are() -> None:
    everything = ROWS + PANELS
    assert {panel["id"]: panel["title"] for panel in everything} == IDS
    assert len(everything) == len(IDS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_has_a_title_a_unit_and_says_what_to_do(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 40
    assert "noValue" in panel["fieldConfig"]["defaults"]


def test_no_two_panels_have_the_same_title() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_everything_is_queried_from_the_data_source_that_the_variable_names() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    targets = [target for panel in PANELS for target in panel["targets"]]
    queried = [each for each in VARIABLES.values() if each["type"] == "query"]
    assert len(targets) > len(PANELS)
    assert len(queried) == 6
    for each in [*targets, *queried, *PANELS, ANNOTATION]:
        assert each["datasource"] == chosen


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
    assert f'=~"${name}"' in TEXT.replace('\\"', '"')


def test_a_window_of_the_flow_can_be_chosen() -> None:
    assert "$window" in QUERIES["Wait at start A"]
    assert VARIABLES["window"]["current"]["value"] in VARIABLES["window"]["query"].split(",")


def test_queries_name_only_metrics_and_labels_that_exist() -> None:
    labels = {series: set(metric.labels) for metric in METRICS for series in metric.series}
    # Native histograms have one series, of the metric's own name.
    labels |= {metric.name: set(metric.labels) for metric in METRICS}
    queries = [*QUERIES.values(), ANNOTATION["expr"]]
    queries += [each["query"]["query"] for each in VARIABLES.values() if each["type"] == "query"]
    selectors = [
        found
        for query in queries
        for found in re.findall(r"\b((?:nextmv|process)_\w+|ALERTS)\b(?:\{([^}]*)\})?", query)
    ]
    assert len(selectors) > len(queries)
    for name, matchers in selectors:
        used = set(re.findall(r"(\w+)=~?\"", matchers))
        own = OF_ALERTS if name in METRICS_OF_OTHERS else labels[name]
        assert used <= own | OF_TARGETS, name


def groupings(keyword: str) -> list[tuple[str, set[str]]]:
    """Return the panel and labels of each list of labels that follows a keyword of PromQL."""
    found = [
        (panel, {label.strip() for label in listed.split(",")})
        for panel, query in QUERIES.items()
        for listed in re.findall(rf"\b{keyword} \(([^)]*)\)", query)
    ]
    assert found
    return found


def test_histograms_are_queried_in_both_forms() -> None:
    classic = [
        (panel, name)
        for panel, query in QUERIES.items()
        for name in re.findall(r"\b(nextmv_\w+)_bucket\{", query)
    ]
    assert len(classic) > 6
    for panel, name in classic:
        assert f"{name}{{" in QUERIES[panel], panel


def test_queries_group_only_by_labels_that_exist() -> None:
    known = {label for metric in METRICS for label in metric.labels} | OF_TARGETS | {"le"}
    for panel, labels in groupings("by") + groupings("on"):
        assert labels <= known, panel


def test_environments_and_accounts_are_never_added_up() -> None:
    for panel, labels in groupings("by") + groupings("on"):
        of_the_exporter = panel in {"Memory A", "Version A"}
        assert labels >= (IDENTITY - {"account"} if of_the_exporter else IDENTITY), panel
    assert not any("without" in query for query in QUERIES.values())


@pytest.mark.parametrize(
    "panel", [each for each in PANELS if each["type"] != "table"], ids=lambda panel: panel["title"]
)
def test_no_two_series_of_a_panel_have_the_same_legend(panel: dict[str, Any]) -> None:
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert len(set(legends)) == len(legends)
    for target, legend in zip(panel["targets"], legends, strict=True):
        outermost = re.search(r"\bby \(([^)]*)\)", target["expr"])
        labels = outermost[1].split(", ") if outermost else ["instance"]
        shown = {label for label in labels if f"{{{{{label}}}}}" in legend}
        assert set(labels) - shown <= {"le"}


def test_every_metric_of_the_queue_and_of_the_exporter_is_shown() -> None:
    shown = " ".join(QUERIES.values())
    unseen = {metric.name for metric in METRICS if metric.name not in shown}
    # The timestamp is for alerts.
    assert unseen == {"nextmv_account_queue_oldest_queued_run_created_timestamp_seconds"}


def test_an_unreadable_account_is_called_that_wherever_a_number_would_stand() -> None:
    assert len(STATS) == 6
    for panel in STATS:
        texts = {
            json.dumps(mapping["options"].get("match", "value")): json.dumps(mapping["options"])
            for mapping in panel["fieldConfig"]["defaults"]["mappings"]
        }
        kind = '"value"' if panel["title"] == "Account readable" else '"nan"'
        assert '"unreadable"' in texts[kind]


def test_numbers_never_reach_back_to_the_last_good_value() -> None:
    assert STATS
    for panel in STATS:
        assert panel["options"]["reduceOptions"]["calcs"] == ["last"]
        assert [target["instant"] for target in panel["targets"]] == [True]


def test_lines_have_gaps_where_nothing_is_known() -> None:
    lines = [panel for panel in PANELS if panel["type"] == "timeseries"]
    assert len(lines) > 10
    for panel in lines:
        assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


def test_only_the_table_that_joins_queries_needs_transformations() -> None:
    assert [panel["title"] for panel in PANELS if panel.get("transformations")] == ["Worst groups"]


@pytest.mark.parametrize("title", ["Source of the queue", "Version"])
def test_labels_are_shown_and_not_the_1_that_carries_them(title: str) -> None:
    (panel,) = (panel for panel in PANELS if panel["title"] == title)
    assert panel["options"]["textMode"] == "name"


def test_links_are_absolute() -> None:
    links = re.findall(r'"url": "([^"]*)"', TEXT)
    assert links
    assert all(link.startswith("https://") for link in links)


def test_the_exporters_own_row_is_collapsed() -> None:
    assert EXPORTER_ROW["collapsed"]
    assert EXPORTER_ROW is DASHBOARD["panels"][-1]
    assert [row["title"] for row in ROWS if row["collapsed"]] == ["Exporter"]


def test_an_application_links_to_its_page_in_the_console() -> None:
    (table,) = (panel for panel in PANELS if panel["title"] == "Worst groups")
    (override,) = (
        each
        for each in table["fieldConfig"]["overrides"]
        if each["matcher"]["options"] == "Application"
    )
    (link,) = override["properties"][0]["value"]
    assert link["url"] == "https://cloud.nextmv.io/app/${__value.raw:percentencode}"


def unknown_fields(ours: Any, decoded: Any, path: str = "") -> list[str]:
    """Return the paths of what decoding has lost or changed."""
    if isinstance(ours, dict) and isinstance(decoded, dict):
        return [
            found
            for key, value in ours.items()
            for found in unknown_fields(value, decoded.get(key), f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(decoded, list) and len(ours) == len(decoded):
        return [
            found
            for index, pair in enumerate(zip(ours, decoded, strict=True))
            for found in unknown_fields(*pair, f"{path}[{index}]")
        ]
    return [] if ours == decoded else [path]


def test_grafanas_schema_knows_every_field() -> None:
    register_default_plugins()
    decoded = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    assert unknown_fields(DASHBOARD, decoded) == []
    misspelt = {**DASHBOARD, "refrehs": "1m"}
    assert unknown_fields(misspelt, decoded) == [".refrehs"]


def test_the_provisioned_dashboard_waits_for_no_input() -> None:
    assert "__inputs" not in DASHBOARD
    assert "${DS_" not in TEXT


def test_the_importable_dashboard_asks_for_its_data_source_and_is_otherwise_the_same() -> None:
    (asked,) = IMPORTABLE["__inputs"]
    assert (asked["type"], asked["pluginId"]) == ("datasource", "prometheus")
    changed = dict(IMPORTABLE)
    del changed["__inputs"], changed["__requires"]
    placeholder = f"${{{asked['name']}}}"
    variable = changed["templating"]["list"][0]
    assert variable.pop("current") == {"text": placeholder, "value": placeholder}
    assert changed == DASHBOARD
