"""What can be said of the dashboard from its JSON; `test_dashboard_values` runs its queries."""

import json
import re
from typing import Any

import yaml
from dashboard_file import ANNOTATION, DASHBOARD, PANELS, QUERIES, ROWS, TEXT, VARIABLES
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql_units import unit_of
from support.programs import ROOT

from nextmv_exporter.scrape.metrics import METRICS

RULES = (ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml").read_text()
ENVIRONMENT = {"cluster", "namespace", "job"}
QUERIED = {name: each for name, each in VARIABLES.items() if each["type"] == "query"}
# These need neither a panel nor a rule.
UNUSED = {"nextmv_account_queue_oldest_queued_run_created_timestamp_seconds"}

# Links, screenshots and embedded panels refer to the ids: one that has been given to a panel stays
# with it, and is not given to another after it is gone.
IDS = """
1 Runs queued | 2 Runs running | 3 Oldest queued run | 4 Wait so far, 90th percentile
5 Time to drain | 6 Account readable | 7 Account readable over time
10 Queue | 11 Queued by execution class | 12 Queued by application | 13 Running by execution class
14 Oldest queued run by execution class | 15 Wait so far of the queued runs
16 Oldest running run by group | 17 Oldest queued run against its bound
20 Flow over $window | 21 Arrivals and starts by execution class | 22 Runs that left by last status
23 Wait at start | 24 Time to drain by execution class
25 Time since a run started by execution class
30 Groups | 31 Worst groups
40 Exporter | 41 Errors by reason | 42 Scrape duration | 43 API latency | 44 API responses by code
45 Malformed runs and folded groups | 46 Memory | 47 Source of the queue | 48 Version
49 Clock offset
"""


def test_ids_of_panels_are_unique_and_stay_as_they_are() -> None:
    found = sorted((panel["id"], panel["title"]) for panel in ROWS + PANELS)
    assert [f"{number} {title}" for number, title in found] == re.split(r"\n| \| ", IDS.strip())


def test_each_panel_says_what_to_do_and_when_there_is_no_data() -> None:
    for panel in PANELS:
        assert len(panel["description"]) > 40, panel["title"]
        assert "noValue" in panel["fieldConfig"]["defaults"], panel["title"]


def test_the_unit_of_a_panel_is_that_of_what_its_queries_calculate() -> None:
    found: set[str] = set()
    columns = {"age": "Oldest queued run", "bound": "Of its bound"}
    for panel in PANELS:
        defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
        own = {
            override["matcher"]["options"]: each["value"]
            for override in overrides
            for each in override["properties"]
            if each["id"] == "unit"
        }
        for target in panel["targets"]:
            unit = own.get(columns.get(target["refId"], ""), defaults["unit"])
            assert unit == unit_of(target["expr"]), panel["title"]
            found.add(unit)
    assert found == {"bytes", "percentunit", "reqps", "s", "short", "suffix: runs/min"}


def test_all_is_queried_from_the_data_source_that_a_variable_names() -> None:
    targets = [target for panel in PANELS for target in panel["targets"]]
    assert len(targets) > len(PANELS)
    for each in [*targets, *QUERIED.values(), *PANELS, ANNOTATION]:
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    # Provisioning fills no inputs in, and the import by hand needs none.
    assert "__inputs" not in DASHBOARD
    assert "${DS_" not in TEXT
    assert '"url": "https://cloud.nextmv.io/app/${__value.raw:percentencode}"' in TEXT


def test_every_value_of_a_variable_can_be_chosen_singly_or_all() -> None:
    assert QUERIED.keys() == ENVIRONMENT | {"account", "execution_class", "application"}
    for name, variable in QUERIED.items():
        assert variable["multi"]
        assert variable["includeAll"]
        # Matches also series that lack the label.
        assert variable["allValue"] == ".*"
        assert variable["current"]["value"] == "$__all"
        assert f'=~"${name}"' in "".join(QUERIES.values())
    assert VARIABLES["window"]["current"]["value"] in VARIABLES["window"]["query"].split(",")


def test_queries_name_only_series_and_labels_that_exist() -> None:
    own = {series: set(metric.labels) for metric in METRICS for series in metric.series}
    # Native histograms have one series, of the metric's own name.
    own |= {metric.name: set(metric.labels) for metric in METRICS}
    rules = [rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"]]
    own |= {rule.get("record", ""): {"account", "execution_class"} for rule in rules}
    own["process_resident_memory_bytes"] = set()
    own["ALERTS"] = {"alertname", "alertstate", "account"}
    queries = [each["query"]["query"] for each in QUERIED.values()]
    for query in [*QUERIES.values(), ANNOTATION["expr"], *queries]:
        selectors = re.findall(r"\b(\w*:?(?:nextmv|process)_[\w:]+|ALERTS)\b(?:{([^}]*)})?", query)
        assert selectors
        for name, matchers in selectors:
            assert set(re.findall(r"(\w+)=~?\"", matchers)) <= own[name] | ENVIRONMENT, name


def test_environments_and_accounts_are_never_added_up() -> None:
    known = {label for metric in METRICS for label in metric.labels} | ENVIRONMENT
    for panel, query in QUERIES.items():
        identity = ENVIRONMENT | ({"account"} - {"account" if panel == "Version A" else ""})
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
        assert grouped, panel
        for listed in grouped:
            labels = set(listed.split(", "))
            # The exporter's own metrics have no account.
            assert identity <= labels or panel == "Memory A", panel
            assert labels <= known | {"le", "instance", "pod"}, panel
        assert "without" not in query, panel


def test_no_two_series_of_a_graph_have_the_same_legend() -> None:
    graphs = [panel for panel in PANELS if panel["type"] == "timeseries"]
    assert len(graphs) > 15
    for panel in graphs:
        assert len({target["legendFormat"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            cut = re.search(r"\band on \(([^)]*)\) topk", target["expr"])
            assert cut
            assert all(f"{{{{{each}}}}}" in target["legendFormat"] for each in cut[1].split(", "))
        # A line has gaps where nothing is known.
        assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


def test_each_metric_is_used_by_a_panel_or_a_rule() -> None:
    used = set(re.findall(r"nextmv_\w+", " ".join(QUERIES.values()) + RULES))
    unused = {metric.name for metric in METRICS if not used.intersection(metric.series)}
    assert unused == UNUSED, "add a panel in grafana/queue_panels.py, or the name to UNUSED here"


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


def unknown_fields(ours: Any, decoded: Any, path: str = "") -> list[str]:
    """Return the paths of what decoding has lost or changed."""
    if isinstance(ours, dict) and isinstance(decoded, dict):
        pairs = [(f"{path}.{key}", value, decoded.get(key)) for key, value in ours.items()]
    elif isinstance(ours, list) and isinstance(decoded, list) and len(ours) == len(decoded):
        pairs = [(path, *pair) for pair in zip(ours, decoded, strict=True)]
    else:
        return [] if ours == decoded else [path]
    return [each for where, mine, theirs in pairs for each in unknown_fields(mine, theirs, where)]


def test_grafanas_schema_knows_every_field() -> None:
    register_default_plugins()
    decoded = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    assert unknown_fields(DASHBOARD, decoded) == []
    assert unknown_fields({**DASHBOARD, "refrehs": "1m"}, decoded) == [".refrehs"]
