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

PROMETHEUS_CONFIGS = ["prometheus.yml", "prometheus-sd.yml"]

each_service = pytest.mark.parametrize("name", PORTS)
each_prometheus_config = pytest.mark.parametrize("config", PROMETHEUS_CONFIGS)


def test_the_stack_has_these_services() -> None:
    assert set(SERVICES) == set(PORTS)


@each_service
def test_services_can_write_only_to_their_own_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    volumes = service.get("volumes", [])
    assert bool(volumes) == (name != "exporter")
    assert all(volume.endswith(":ro") for volume in volumes if volume[0] == ".")


@each_service
def test_services_are_shown_to_this_machine_only(name: str) -> None:
    assert SERVICES[name]["ports"] == [f"127.0.0.1:{PORTS[name]}:{PORTS[name]}"]


@pytest.mark.parametrize("name", [name for name in PORTS if name != "exporter"])
def test_images_are_pinned_to_a_release(name: str) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", [name for name in PORTS if name != "exporter"])
def test_every_mounted_file_exists(name: str) -> None:
    mounted = mounts(name)
    assert mounted
    for inside, outside in mounted.items():
        assert outside.exists(), f"{inside} is mounted from {outside}"


def test_links_in_alerts_and_pages_can_be_opened_on_this_machine() -> None:
    urls = {
        "prometheus": option("prometheus", "--web.external-url"),
        "alertmanager": option("alertmanager", "--web.external-url"),
        "grafana": SERVICES["grafana"]["environment"]["GF_SERVER_ROOT_URL"],
    }
    assert urls == {name: f"http://localhost:{PORTS[name]}" for name in urls}


def test_grafana_downloads_no_plugin() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert environment["GF_PLUGINS_PREINSTALL_AUTO_UPDATE"] == "false"
    assert not {"GF_INSTALL_PLUGINS", "GF_PLUGINS_PREINSTALL"} & set(environment)


def test_the_exporter_runs_the_demo() -> None:
    assert SERVICES["exporter"]["command"] == ["--demo"]
    assert SERVICES["exporter"]["build"] == "."


def test_prometheus_is_started_with_one_of_two_configurations() -> None:
    path = PurePosixPath(option("prometheus", "--config.file"))
    chosen = re.fullmatch(r"\$\{PROMETHEUS_CONFIG:-(.*)\}", path.name)
    assert chosen
    assert chosen[1] == PROMETHEUS_CONFIGS[0]
    assert all(seen_as("prometheus", path.parent / each).is_file() for each in PROMETHEUS_CONFIGS)


@each_prometheus_config
def test_prometheus_scrapes_the_exporter_and_sends_alerts_to_the_alertmanager(config: str) -> None:
    content = prometheus(config)
    scraped = [
        target
        for job in content["scrape_configs"]
        for group in job.get("static_configs", [])
        for target in group["targets"]
    ]
    discovered = [
        urlsplit(discovery["url"]).netloc
        for job in content["scrape_configs"]
        for discovery in job.get("http_sd_configs", [])
    ]
    assert scraped == ["exporter:10057"]
    assert discovered == (["exporter:10057"] if config == "prometheus-sd.yml" else [])
    alerted = [
        target
        for each in content["alerting"]["alertmanagers"]
        for group in each["static_configs"]
        for target in group["targets"]
    ]
    assert alerted == ["alertmanager:9093"]


@each_prometheus_config
def test_prometheus_finds_its_rules(config: str) -> None:
    directory = PurePosixPath(option("prometheus", "--config.file")).parent
    (pattern,) = prometheus(config)["rule_files"]
    inside = directory / pattern
    (rules,) = seen_as("prometheus", inside.parent).glob(inside.name)
    assert yaml.safe_load(rules.read_text())["groups"]


def test_alertmanager_finds_its_configuration() -> None:
    inside = PurePosixPath(option("alertmanager", "--config.file"))
    assert "receivers" in yaml.safe_load(seen_as("alertmanager", inside).read_text())


def test_grafana_asks_services_of_this_stack() -> None:
    [sources] = provisioned("datasources")
    urls = [urlsplit(source["url"]) for source in sources["datasources"]]
    assert {url.hostname for url in urls} == {"prometheus", "alertmanager"}
    assert all(url.hostname and url.port == PORTS[url.hostname] for url in urls)


def test_grafana_finds_its_dashboards() -> None:
    [providers] = provisioned("dashboards")
    [provider] = providers["providers"]
    inside = PurePosixPath(provider["options"]["path"])
    assert [path.name for path in seen_as("grafana", inside).glob("*.json")] == [
        "account-queue.json"
    ]


def test_grafana_opens_on_a_dashboard() -> None:
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert seen_as("grafana", PurePosixPath(home)).exists()


def provisioned(kind: str) -> list[Any]:
    """What Grafana is provisioned with, file by file."""
    directory = seen_as("grafana", PurePosixPath("/etc/grafana/provisioning"))
    return [yaml.safe_load(path.read_text()) for path in directory.glob(f"{kind}/*.y*ml")]


def prometheus(config: str) -> Any:
    """A configuration that Prometheus can be started with."""
    inside = PurePosixPath(option("prometheus", "--config.file")).with_name(config)
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
    [found] = [
        outside / inside.relative_to(mounted)
        for mounted, outside in mounts(name).items()
        if inside.is_relative_to(mounted)
    ]
    return found
