"""What can be said of the dashboard from its JSON; `test_dashboard_queries` runs its queries."""

import re
from typing import Any

import pytest
from dashboard_file import ANNOTATION, DASHBOARD, IMPORTABLE, PANELS, ROW, TEXT, VARIABLES

from nextmv_exporter.scrape.metrics import METRICS

# Labels that Prometheus adds, and that label_replace or PromQL itself knows.
NOT_THE_EXPORTERS = {"job", "instance", "pod", "alertname", "alertstate"}
METRICS_OF_OTHERS = {"process_resident_memory_bytes", "ALERTS"}


EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_has_a_title_a_unit_and_says_what_to_do(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 40
    assert "noValue" in panel["fieldConfig"]["defaults"]


def test_no_two_panels_have_the_same_title() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_everything_is_asked_of_the_data_source_that_the_variable_names() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    of_targets = [target["datasource"] for panel in PANELS for target in panel["targets"]]
    of_variables = [each["datasource"] for each in VARIABLES.values() if each["type"] == "query"]
    for datasource in [*of_targets, *of_variables, ANNOTATION["datasource"]]:
        assert datasource == chosen
    assert all(panel["datasource"] == chosen for panel in PANELS)


@pytest.mark.parametrize("name", ["account", "execution_class", "application"])
def test_accounts_classes_and_applications_can_be_chosen_singly_or_all(name: str) -> None:
    assert VARIABLES[name]["multi"]
    assert VARIABLES[name]["includeAll"]
    assert VARIABLES[name]["allValue"] == ".*"
    assert VARIABLES[name]["current"]["value"] == "$__all"


def test_queries_name_only_metrics_and_labels_that_the_exporter_has() -> None:
    labels = {series: set(metric.labels) for metric in METRICS for series in metric.series}
    queries = [*EXPRESSIONS, ANNOTATION["expr"]]
    queries += [each["query"]["query"] for each in VARIABLES.values() if each["type"] == "query"]
    selectors = [
        found
        for query in queries
        for found in re.findall(r"\b((?:nextmv|process)_\w+|ALERTS)\b(?:\{([^}]*)\})?", query)
    ]
    assert len(selectors) > len(queries)
    for name, matchers in selectors:
        used = set(re.findall(r"(\w+)=~?\"", matchers))
        if name in METRICS_OF_OTHERS:
            assert used <= NOT_THE_EXPORTERS | {"account"}
        else:
            assert used <= labels[name], name


def test_queries_group_only_by_labels_that_exist() -> None:
    known = {label for metric in METRICS for label in metric.labels} | NOT_THE_EXPORTERS | {"le"}
    for expression in EXPRESSIONS:
        for grouped in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression):
            assert {each.strip() for each in grouped.split(",") if each.strip()} <= known


def test_every_metric_of_the_queue_and_of_the_exporter_is_shown() -> None:
    shown = " ".join(EXPRESSIONS)
    unseen = {metric.name for metric in METRICS if metric.name not in shown}
    # The totals by status leave out class and application, which the variables choose by; the
    # timestamp is for alerts.
    assert unseen == {
        "nextmv_account_queue_runs",
        "nextmv_account_queue_oldest_queued_run_created_timestamp_seconds",
    }


def test_an_unreadable_account_is_called_that_wherever_a_number_would_stand() -> None:
    numbers = [panel for panel in PANELS if panel["type"] == "stat"]
    assert len(numbers) == 6
    for panel in numbers:
        of_nan = [
            mapping["options"]["result"]["text"]
            for mapping in panel["fieldConfig"]["defaults"]["mappings"]
            if mapping["type"] == "special" and mapping["options"]["match"] == "nan"
        ]
        assert of_nan == ["can't tell" if panel["title"] == "Time to empty" else "unreadable"]
        assert panel["fieldConfig"]["defaults"]["noValue"] == "no exporter"


def test_numbers_never_reach_back_to_the_last_good_value() -> None:
    for panel in PANELS:
        if panel["type"] == "stat":
            assert panel["options"]["reduceOptions"]["calcs"] == ["last"]
            assert all(target["instant"] for target in panel["targets"])
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


def test_the_exporters_own_row_is_collapsed() -> None:
    assert ROW["collapsed"]
    assert ROW is DASHBOARD["panels"][-1]


def test_an_application_links_to_its_page_in_the_console() -> None:
    (table,) = (panel for panel in PANELS if panel["title"] == "Worst groups")
    (override,) = (
        each
        for each in table["fieldConfig"]["overrides"]
        if each["matcher"]["options"] == "Application"
    )
    (link,) = override["properties"][0]["value"]
    assert link["url"] == "https://cloud.nextmv.io/app/${__value.raw:percentencode}"


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
