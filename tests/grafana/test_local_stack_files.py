"""The configuration of the local stack, as far as it can be checked without containers."""

from typing import Any

import pytest
import yaml
from dashboard_file import DASHBOARD
from support.programs import ROOT, run

GRAFANA = ROOT / "grafana"


def provisioned(path: str) -> Any:
    return yaml.safe_load((GRAFANA / "provisioning" / path).read_text())


@pytest.mark.parametrize("config", ["prometheus.yml", "prometheus-sd.yml"])
def test_prometheus_accepts_its_configuration_and_the_rules_beside_it(config: str) -> None:
    run("promtool", "check", "config", "--lint=all", GRAFANA / config)


def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", GRAFANA / "alertmanager.yml")


def test_grafana_finds_prometheus_where_the_dashboard_looks_for_it() -> None:
    prometheus = provisioned("datasources/prometheus.yaml")["datasources"][0]
    assert prometheus["type"] == DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    assert prometheus["isDefault"]
    configs = [yaml.safe_load(file.read_text()) for file in GRAFANA.glob("prometheus*.yml")]
    assert len(configs) == 2
    intervals = {config["global"]["scrape_interval"] for config in configs}
    assert intervals == {prometheus["jsonData"]["timeInterval"]}


def test_grafana_provisions_dashboards_from_files() -> None:
    (provider,) = provisioned("dashboards/nextmv-exporter.yaml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"]


def test_no_dashboard_that_waits_for_inputs_lies_where_dashboards_are_provisioned_from() -> None:
    (file,) = (GRAFANA / "dashboards").rglob("*.json")
    assert "__inputs" not in file.read_text()
