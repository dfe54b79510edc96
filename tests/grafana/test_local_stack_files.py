"""The configuration of the local stack, as far as it can be checked without containers."""

import pytest
import yaml
from dashboard_file import FILE, VARIABLES
from support.programs import ROOT, run

GRAFANA = ROOT / "grafana"
SOURCES = GRAFANA / "provisioning" / "datasources" / "prometheus.yaml"
CONFIGS = ["prometheus.yml", "prometheus-sd.yml"]


@pytest.mark.system
@pytest.mark.parametrize("config", CONFIGS)
def test_prometheus_accepts_its_configuration_and_the_rules_beside_it(config: str) -> None:
    run("promtool", "check", "config", "--lint=all", GRAFANA / config)


@pytest.mark.system
def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", GRAFANA / "alertmanager.yml")


def test_grafana_finds_prometheus_where_the_dashboard_looks_for_it() -> None:
    provisioned = yaml.safe_load(SOURCES.read_text())
    prometheus = provisioned["datasources"][0]
    assert prometheus["type"] == VARIABLES["datasource"]["query"] == "prometheus"
    assert prometheus["isDefault"]
    for config in CONFIGS:
        interval = yaml.safe_load((GRAFANA / config).read_text())["global"]["scrape_interval"]
        assert prometheus["jsonData"]["timeInterval"] == interval


def test_there_is_one_file_of_the_dashboard() -> None:
    assert [*GRAFANA.rglob("*.json"), *(ROOT / "helm").rglob("account-queue*")] == [FILE]
