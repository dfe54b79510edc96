"""The local stack: its files exist, and refer to each other correctly."""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())[
    "services"
]
PORTS = {"exporter": 10057, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}


def seen_as(name: str, inside: str | PurePosixPath) -> Path:
    """Where a path in a service's container is in the repository."""
    given: list[str] = SERVICES[name].get("volumes", [])
    volumes = [each.split(":") for each in given if each[0] == "."]
    [found] = [
        ROOT / outside / PurePosixPath(inside).relative_to(mounted)
        for outside, mounted, _ in volumes
        if PurePosixPath(inside).is_relative_to(mounted)
    ]
    return found


def option(name: str, flag: str) -> str:
    """The value of a flag on a service's command line."""
    [value] = [
        each.partition("=")[2] for each in SERVICES[name]["command"] if each.startswith(f"{flag}=")
    ]
    return str(value)


def test_services_are_confined_pinned_and_shown_to_this_machine_only() -> None:
    assert SERVICES.keys() == PORTS.keys()
    for name, service in SERVICES.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["ports"] == [f"127.0.0.1:{PORTS[name]}:{PORTS[name]}"]
        mounts = [each for each in service.get("volumes", []) if each[0] == "."]
        assert all(each.endswith(":ro") for each in mounts)
        assert all((ROOT / each.split(":")[0]).exists() for each in mounts)
        if name != "exporter":
            assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
    assert SERVICES["exporter"]["command"] == ["--demo"]
    # CI takes its promtool from this image.
    assert SERVICES["prometheus"]["image"].startswith("prom/prometheus:v3.")


@pytest.mark.parametrize("config", ["prometheus.yml", "prometheus-sd.yml"])
def test_prometheus_scrapes_the_exporter_loads_the_rules_and_sends_alerts(config: str) -> None:
    inside = PurePosixPath(option("prometheus", "--config.file"))
    assert inside.name == "${PROMETHEUS_CONFIG:-prometheus.yml}"
    content = yaml.safe_load(seen_as("prometheus", inside.with_name(config)).read_text())
    jobs = content["scrape_configs"]
    scraped = {t for job in jobs for g in job.get("static_configs", []) for t in g["targets"]}
    discovered = {urlsplit(d["url"]).netloc for job in jobs for d in job.get("http_sd_configs", [])}
    assert scraped == {"exporter:10057"}
    assert discovered == ({"exporter:10057"} if config == "prometheus-sd.yml" else set())
    [alertmanager] = content["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    [pattern] = content["rule_files"]
    rules = seen_as("prometheus", inside.parent / pattern)
    [file] = rules.parent.glob(rules.name)
    assert yaml.safe_load(file.read_text())["groups"]


def test_alertmanager_and_grafana_find_their_files_and_each_other() -> None:
    config = seen_as("alertmanager", option("alertmanager", "--config.file"))
    assert "receivers" in yaml.safe_load(config.read_text())
    provisioning = seen_as("grafana", "/etc/grafana/provisioning")
    [sources] = [yaml.safe_load(each.read_text()) for each in provisioning.glob("datasources/*")]
    urls = [urlsplit(source["url"]) for source in sources["datasources"]]
    assert {url.netloc for url in urls} == {"prometheus:9090", "alertmanager:9093"}
    [providers] = [yaml.safe_load(each.read_text()) for each in provisioning.glob("dashboards/*")]
    [provider] = providers["providers"]
    dashboards = seen_as("grafana", provider["options"]["path"])
    assert [path.name for path in dashboards.glob("*.json")] == ["account-queue.json"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert seen_as("grafana", home).exists()
