"""How Prometheus and Grafana find what the chart makes for them."""

import json
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.alerts.settings import SETTINGS

from .chart import CHART, DEMO, FULLNAME, ci_values, notes, pod_template, render, render_kind

TLS = {"webConfig": {"existingSecret": "web", "tls": True}}
MONITORS = ("serviceMonitor", "podMonitor", "scrapeConfig")


def test_the_service_leads_to_the_exporters_pod_and_not_to_the_tests() -> None:
    selector = render_kind("Service", DEMO)["spec"]["selector"].items()
    assert selector <= pod_template(DEMO)["metadata"]["labels"].items()
    assert not selector <= render_kind("Pod", DEMO)["metadata"]["labels"].items()


def test_a_service_monitor_selects_the_service() -> None:
    values = DEMO | {"serviceMonitor": {"enabled": True}}
    service = render_kind("Service", values)
    spec = render_kind("ServiceMonitor", values)["spec"]
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert spec["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    assert spec["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_a_pod_monitor_selects_the_pod() -> None:
    values = DEMO | {"podMonitor": {"enabled": True}}
    pod = pod_template(values)
    spec = render_kind("PodMonitor", values)["spec"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert spec["podMetricsEndpoints"][0]["port"] in ports


def test_a_scrape_config_asks_the_service_for_the_accounts() -> None:
    values = DEMO | {"scrapeConfig": {"enabled": True}, "service": {"port": 80}}
    spec = render_kind("ScrapeConfig", values)["spec"]
    assert spec["httpSDConfigs"] == [
        {"url": f"http://{FULLNAME}.metrics.svc:80/sd", "refreshInterval": "1m"}
    ]
    assert spec["metricsPath"] == "/metrics"
    assert spec["jobName"] == FULLNAME


def test_a_scrape_config_shows_the_same_password_to_discovery_and_to_the_accounts() -> None:
    spec = render_kind("ScrapeConfig", ci_values(CHART / "ci" / "scrape-config-values.yaml"))[
        "spec"
    ]
    assert spec["basicAuth"] == spec["httpSDConfigs"][0]["basicAuth"]


def test_prometheus_speaks_tls_where_the_exporter_does() -> None:
    values = DEMO | TLS | {each: {"enabled": True} for each in MONITORS}
    assert render_kind("ServiceMonitor", values)["spec"]["endpoints"][0]["scheme"] == "https"
    assert render_kind("PodMonitor", values)["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"
    spec = render_kind("ScrapeConfig", values)["spec"]
    assert spec["scheme"] == "HTTPS"
    assert spec["httpSDConfigs"][0]["url"].startswith("https://")


def test_the_notes_warn_of_scraping_twice() -> None:
    twice = DEMO | {"serviceMonitor": {"enabled": True}, "scrapeConfig": {"enabled": True}}
    assert "WARNING" in notes(twice)
    assert "WARNING" not in notes(DEMO | {"serviceMonitor": {"enabled": True}})


def test_the_notes_warn_of_metrics_that_everybody_can_read() -> None:
    shown = DEMO | {"ingress": {"enabled": True}}
    protected = shown | {"webConfig": {"content": {"basic_auth_users": {"prometheus": "hash"}}}}
    assert "need no password" in notes(shown)
    assert "need no password" not in notes(protected)


def test_the_rules_are_the_projects_own_at_their_own_thresholds() -> None:
    plain = yaml.safe_load(
        (CHART.parents[1] / "grafana/alerts/nextmv-exporter.rules.yaml").read_text()
    )
    values = {"enabled": True, "jobRegex": default_of("jobRegex")}
    assert rules(values) == plain["groups"]


def test_the_charts_thresholds_are_those_of_the_rules() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]
    for setting in SETTINGS:
        section = defaults["thresholds"] if setting.section.endswith("thresholds") else defaults
        # The chart knows which job it makes.
        expected = "" if setting.name == "jobRegex" else setting.default
        assert section[setting.name] == expected
    assert set(defaults["thresholds"]) == {
        each.name for each in SETTINGS if each.section.endswith("thresholds")
    }


def test_a_threshold_reaches_its_rule() -> None:
    text = str(rules({"enabled": True, "thresholds": {"oldestQueuedFor": "47m"}}))
    assert "'for': '47m'" in text


def test_prometheus_accepts_the_rules_at_other_thresholds(tmp_path: Path) -> None:
    values = ci_values(CHART / "ci" / "prometheus-rule-values.yaml")["prometheusRule"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": rules(values)}))
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert "SUCCESS" in told
    assert "14400" in file.read_text()


@pytest.mark.parametrize("source", ["README.md", "the notes"])
def test_prometheus_accepts_the_scrape_configuration_in(source: str, tmp_path: Path) -> None:
    text = (CHART / "README.md").read_text() if source == "README.md" else notes(DEMO)
    snippet = re.search(r"^( *)scrape_configs:\n(\1 +.*\n)+", text, re.MULTILINE)
    assert snippet
    config = yaml.safe_load(textwrap.dedent(snippet[0]))
    assert config["scrape_configs"][0]["http_sd_configs"][0]["url"].endswith(".svc:10057/sd")
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    assert "SUCCESS" in promtool("check", "config", str(file))


@pytest.mark.parametrize("monitor", ["serviceMonitor", "scrapeConfig"])
def test_the_rules_look_at_the_job_that_the_monitors_make(monitor: str) -> None:
    values = DEMO | {"fullnameOverride": "own-name", monitor: {"enabled": True}}
    groups = rules({"enabled": True}, **values)
    assert 'up{job=~"(.+/)?own-name"} == 0' in str(groups)


def test_the_rules_look_at_the_job_that_a_scrape_config_names() -> None:
    groups = rules({"enabled": True}, scrapeConfig={"enabled": True, "jobName": "queues"})
    assert 'up{job=~"(.+/)?queues"} == 0' in str(groups)


def test_further_groups_stand_beside_the_projects_own() -> None:
    own = {"name": "own", "rules": [{"alert": "Own", "expr": "vector(1)"}]}
    assert rules({"enabled": True, "additionalGroups": [own]}) == [*rules({"enabled": True}), own]


def test_the_dashboards_come_as_they_are() -> None:
    config_map = render_kind("ConfigMap", DEMO | {"dashboards": {"enabled": True}})
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = {path.name: json.loads(path.read_text()) for path in CHART.glob("dashboards/*.json")}
    assert files
    assert {name: json.loads(text) for name, text in config_map["data"].items()} == files


def test_the_dashboards_fit_in_a_config_map() -> None:
    sizes = [path.stat().st_size for path in CHART.glob("dashboards/*.json")]
    assert sum(sizes) < 1_000_000


def test_only_prometheus_and_the_test_are_let_in_and_only_dns_and_https_out() -> None:
    values = {"nextmv": {"apiKey": "k"}, "networkPolicy": {"enabled": True}}
    policy = render_kind("NetworkPolicy", values)["spec"]
    assert (
        policy["podSelector"]["matchLabels"].items()
        <= pod_template(values)["metadata"]["labels"].items()
    )
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [incoming] = policy["ingress"]
    prometheus, test = incoming["from"]
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert (
        test["podSelector"]["matchLabels"].items()
        <= render_kind("Pod", values)["metadata"]["labels"].items()
    )
    dns, api = policy["egress"]
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert api == {"ports": [{"port": 443, "protocol": "TCP"}]}


def test_a_demo_is_let_out_to_nothing_but_dns() -> None:
    [dns] = render_kind("NetworkPolicy", DEMO | {"networkPolicy": {"enabled": True}})["spec"][
        "egress"
    ]
    assert {port["port"] for port in dns["ports"]} == {53}


def test_an_ingress_leads_to_the_service() -> None:
    values = DEMO | {"ingress": {"enabled": True}}
    [rule] = render_kind("Ingress", values)["spec"]["rules"]
    service = render_kind("Service", values)
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"minAvailable": 0}, {"minAvailable": 0}),
        ({"maxUnavailable": "50%"}, {"maxUnavailable": "50%"}),
    ],
)
def test_a_disruption_budget_keeps(given: dict[str, Any], kept: dict[str, Any]) -> None:
    budget = render_kind(
        "PodDisruptionBudget", DEMO | {"podDisruptionBudget": {"enabled": True} | given}
    )
    assert budget["spec"].items() >= kept.items()


def test_common_labels_and_annotations_reach_every_resource() -> None:
    values = ci_values(CHART / "ci" / "extras-values.yaml") | {
        each: {"enabled": True}
        for each in (*MONITORS, "prometheusRule", "dashboards", "networkPolicy")
    }
    for manifest in render(values):
        if manifest["metadata"]["name"].startswith(FULLNAME) and manifest["kind"] != "Pod":
            assert manifest["metadata"]["labels"]["cost-center"] == "42"
            assert manifest["metadata"]["annotations"]["example.com/owner"] == "operations"


def rules(values: dict[str, Any], **others: Any) -> Any:
    """The rule groups of the PrometheusRule."""
    return render_kind("PrometheusRule", {**DEMO, **others, "prometheusRule": values})["spec"][
        "groups"
    ]


def promtool(*arguments: str) -> str:
    """What Prometheus's own tool says, if it is content."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def default_of(name: str) -> Any:
    """The default of one of the rules' settings."""
    [setting] = [each for each in SETTINGS if each.name == name]
    return setting.default
