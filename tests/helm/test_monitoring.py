"""How Prometheus and Grafana find what the chart makes for them, and who reaches the exporter."""

import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from support.programs import run

from .chart import CHART, DEMO, FULLNAME, merged, notes, one, render, rendered, spec, taken

pytestmark = pytest.mark.system

README = (CHART / "README.md").read_text()


def test_a_pod_monitor_has_the_settings_of_the_service_monitor_but_for_its_own() -> None:
    manifests = render("""
        demo: true, webConfig: {existingSecret: web, tls: true},
        serviceMonitor: {
          enabled: true, labels: {release: prometheus}, scrapeTimeout: 15s, sampleLimit: 9,
          relabelings: [{replacement: "{{ .Release.Name }}"}], targetLabels: [team]
        },
        podMonitor: {enabled: true, scrapeTimeout: 20s, labels: {team: a}}
    """)
    service_monitor, pod_monitor = one("ServiceMonitor", manifests), one("PodMonitor", manifests)
    labels = pod_monitor["metadata"]["labels"]
    assert (labels["release"], labels["team"]) == ("prometheus", "a")
    [of_service] = service_monitor["spec"].pop("endpoints")
    [of_pod] = pod_monitor["spec"].pop("podMetricsEndpoints")
    assert of_pod == of_service | {"scrapeTimeout": "20s"}
    assert (of_pod["scheme"], of_pod["port"], of_pod["path"]) == ("https", "http", "/metrics")
    assert of_pod["relabelings"] == [{"replacement": "queue"}]
    assert service_monitor["spec"].pop("targetLabels") == ["team"]
    assert service_monitor["spec"] == pod_monitor["spec"]
    assert one("Service", manifests)["spec"]["ports"][0]["appProtocol"] == "https"


def test_helm_test_asks_the_service_or_the_pods_of_a_headless_service() -> None:
    for cluster_ip, port in (("", 80), ("None", 10057)):
        service = {"port": 80, "clusterIP": cluster_ip}
        values = {"service": service, "webConfig": {"existingSecret": "s", "tls": True}}
        assert f"https://{FULLNAME}.metrics.svc:{port}" in str(spec("Pod", values))


@pytest.mark.parametrize(
    "case",
    """
podMonitor: {enabled: true} | twice as often | podMonitor: {enabled: false}
replicas: 2 | every replica is scraped | replicas: 1
replicas: 2, serviceMonitor: null, service: {clusterIP: None} | a replica for each | service: null
webConfig: {existingSecret: s, tls: true} | set serviceMonitor.tlsConfig | webConfig: {tls: false}
serviceMonitor: null, webConfig: {existingSecret: s, basicAuth: true} | Add basic_auth | webConfig: null
ingress: {enabled: true} | need no password | webConfig: {existingSecret: s, basicAuth: true}, serviceMonitor: null
ingress: {enabled: true}, networkPolicy: {enabled: true} | set networkPolicy.ingress.controllers | ingress: null
image: null | no registry has the image | image: {registry: a.io}
""".strip().splitlines(),  # noqa: E501
)
def test_the_notes_warn_until_the_values_are_better(case: str) -> None:
    values, told, better = case.split(" | ")
    given = taken("demo: true, image: {registry: a.io}, serviceMonitor: {enabled: true}")
    for change, warned in ((values, True), (better, False)):
        given = {name: value for name, value in merged(given, taken(change)).items() if value}
        assert (told in notes(given)) is warned


def test_the_rules_look_at_the_job_of_the_monitors_and_link_to_the_runbooks() -> None:
    rules = str(spec("PrometheusRule", "prometheusRule: {enabled: true}"))
    assert f'absent(up{{job=~"(.+/)?{FULLNAME}"}})' in rules
    assert "runbook_url" not in rules
    linked = "prometheusRule: {enabled: true, runbookBaseUrl: 'https://runbooks.example.com/'}"
    assert "https://runbooks.example.com/docs/runbooks.md#" in str(spec("PrometheusRule", linked))


@pytest.mark.parametrize("source", ["README", "notes"])
def test_prometheus_accepts_the_scrape_configuration_of_the(source: str, tmp_path: Path) -> None:
    text = README if source == "README" else rendered(DEMO)["NOTES.txt"]
    snippet = re.search(r"^( *)scrape_configs:\n(\1 +.*\n)+", text, re.MULTILINE)
    assert snippet
    assert ".svc:10057/sd" in snippet[0]
    file = tmp_path / "prometheus.yml"
    file.write_text(textwrap.dedent(snippet[0]))
    run("promtool", "check", "config", file)


def test_the_chart_takes_the_values_of_its_readme() -> None:
    snippets = map(yaml.safe_load, re.findall(r"(?s)```yaml\n(.*?)```", README))
    values = [each for each in snippets if "scrape_configs" not in each]
    key = {"extraEnv": [{"name": "NEXTMV_API_KEY"}]}
    kinds = {manifest["kind"] for each in values for manifest in render(key | each)}
    assert {"ScrapeConfig", "HTTPRoute", "VerticalPodAutoscaler", "ServiceMonitor"} <= kinds


def test_the_dashboards_come_as_they_are_and_fit_in_a_config_map() -> None:
    config_map = one("ConfigMap", render(DEMO | {"dashboards": {"enabled": True}}))
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = {path.name: json.loads(path.read_text()) for path in CHART.glob("dashboards/*.json")}
    assert files
    assert {name: json.loads(text) for name, text in config_map["data"].items()} == files
    assert len(str(config_map)) < 1_000_000
