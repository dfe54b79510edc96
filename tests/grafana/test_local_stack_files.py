"""The configuration of the local stack, as far as it can be checked without containers."""

from typing import Any

import pytest
import yaml
from dashboard_file import FILE, VARIABLES
from support.programs import ROOT, run

GRAFANA = ROOT / "grafana"
CONFIGS = ["prometheus.yml", "prometheus-sd.yml"]


def provisioned(path: str) -> Any:
    return yaml.safe_load((GRAFANA / "provisioning" / path).read_text())


@pytest.mark.system
@pytest.mark.parametrize("config", CONFIGS)
def test_prometheus_accepts_its_configuration_and_the_rules_beside_it(config: str) -> None:
    run("promtool", "check", "config", "--lint=all", GRAFANA / config)


@pytest.mark.system
def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", GRAFANA / "alertmanager.yml")


def test_grafana_finds_prometheus_where_the_dashboard_looks_for_it() -> None:
    prometheus = provisioned("datasources/prometheus.yaml")["datasources"][0]
    assert prometheus["type"] == VARIABLES["datasource"]["query"] == "prometheus"
    assert prometheus["isDefault"]
    for config in CONFIGS:
        interval = yaml.safe_load((GRAFANA / config).read_text())["global"]["scrape_interval"]
        assert prometheus["jsonData"]["timeInterval"] == interval


def test_grafana_provisions_the_one_file_of_the_dashboard() -> None:
    (provider,) = provisioned("dashboards/nextmv-exporter.yaml")["providers"]
    assert provider["type"] == "file"
    grafana = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    folder = f"./{FILE.parent.relative_to(ROOT)}:{provider['options']['path']}:ro"
    assert folder in grafana["volumes"]
    dashboards = [path for path in ROOT.rglob("account-queue.json") if ".venv" not in path.parts]
    assert dashboards == [FILE]
