"""The local stack: its files exist, and name each other rightly."""

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

each_service = pytest.mark.parametrize("name", SERVICES)


@each_service
def test_services_can_write_only_to_their_own_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(source.endswith(":ro") for source in service.get("volumes", []) if source[0] == ".")


@each_service
def test_services_are_shown_to_this_machine_only(name: str) -> None:
    assert SERVICES[name]["ports"] == [f"127.0.0.1:{PORTS[name]}:{PORTS[name]}"]


@each_service
def test_images_are_pinned_to_a_version(name: str) -> None:
    if name != "exporter":
        assert SERVICES[name]["image"].rpartition(":")[2].lstrip("v")[0].isdigit()


@each_service
def test_every_mounted_file_exists(name: str) -> None:
    for inside, outside in mounts(name).items():
        assert outside.exists(), f"{inside} is mounted from {outside}"


def test_the_exporter_runs_the_demo() -> None:
    assert SERVICES["exporter"]["command"] == ["--demo"]
    assert SERVICES["exporter"]["build"] == "."


def test_prometheus_scrapes_the_exporter_and_alerts_the_alertmanager() -> None:
    config = prometheus()
    scraped = {
        target
        for job in config["scrape_configs"]
        for group in job.get("static_configs", [])
        for target in group["targets"]
    }
    discovered = {
        urlsplit(discovery["url"]).netloc
        for job in config["scrape_configs"]
        for discovery in job.get("http_sd_configs", [])
    }
    assert "exporter:10057" in scraped | discovered
    alerted = [
        target
        for each in config["alerting"]["alertmanagers"]
        for group in each["static_configs"]
        for target in group["targets"]
    ]
    assert alerted == ["alertmanager:9093"]


def test_prometheus_finds_its_rules() -> None:
    directory = PurePosixPath(option("prometheus", "--config.file")).parent
    for pattern in prometheus()["rule_files"]:
        inside = directory / pattern
        assert list(seen_as("prometheus", inside.parent).glob(inside.name))


def test_alertmanager_finds_its_configuration() -> None:
    inside = PurePosixPath(option("alertmanager", "--config.file"))
    assert "receivers" in yaml.safe_load(seen_as("alertmanager", inside).read_text())


def test_grafana_asks_services_of_this_stack() -> None:
    [sources] = provisioned("datasources")
    urls = [urlsplit(source["url"]) for source in sources["datasources"]]
    assert "prometheus" in {url.hostname for url in urls}
    assert all(url.hostname and url.port == PORTS[url.hostname] for url in urls)


def test_grafana_finds_its_dashboards() -> None:
    [providers] = provisioned("dashboards")
    for provider in providers["providers"]:
        inside = PurePosixPath(provider["options"]["path"])
        assert list(seen_as("grafana", inside).glob("*.json"))


def test_grafana_opens_on_a_dashboard() -> None:
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert seen_as("grafana", PurePosixPath(home)).exists()


def provisioned(kind: str) -> list[Any]:
    """What Grafana is provisioned with, file by file."""
    directory = seen_as("grafana", PurePosixPath("/etc/grafana/provisioning"))
    return [yaml.safe_load(path.read_text()) for path in directory.glob(f"{kind}/*.y*ml")]


def prometheus() -> Any:
    """The configuration that Prometheus is started with."""
    inside = PurePosixPath(option("prometheus", "--config.file"))
    return yaml.safe_load(seen_as("prometheus", inside).read_text())


def option(name: str, flag: str) -> str:
    """The value of a flag on a service's command line."""
    [value] = [
        word.partition("=")[2]
        for word in SERVICES[name]["command"]
        if word.partition("=")[0] == flag
    ]
    return str(value)


def mounts(name: str) -> dict[PurePosixPath, Path]:
    """What a service sees of the repository: paths in it, and here."""
    volumes = [
        volume.split(":") for volume in SERVICES[name].get("volumes", []) if volume[0] == "."
    ]
    return {PurePosixPath(inside): ROOT / outside for outside, inside, _ in volumes}


def seen_as(name: str, inside: PurePosixPath) -> Path:
    """Where a path in a service's container is in the repository."""
    [(mounted, outside)] = [each for each in mounts(name).items() if inside.is_relative_to(each[0])]
    return outside / inside.relative_to(mounted)
