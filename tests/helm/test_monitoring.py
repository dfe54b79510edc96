"""How Prometheus and Grafana find what the chart makes for them."""

import json
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.alerts.render import JOB_REGEX

from .chart import (
    CHART,
    DEMO,
    EVERYTHING,
    FULLNAME,
    ci_values,
    notes,
    pod_template,
    render,
    render_kind,
)

TLS = {"webConfig": {"existingSecret": "web", "tls": True}}
MONITORS = ("serviceMonitor", "podMonitor", "scrapeConfig")
SCRAPE_CONFIG = {"scrapeConfig": {"enabled": True}}
OWN_METRICS = "-own-metrics"


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
    values = DEMO | SCRAPE_CONFIG | {"service": {"port": 80}}
    spec = render_kind("ScrapeConfig", values, FULLNAME)["spec"]
    assert spec["httpSDConfigs"] == [
        {"url": f"http://{FULLNAME}.metrics.svc:80/sd", "refreshInterval": "1m"}
    ]
    assert spec["metricsPath"] == "/metrics"
    assert spec["jobName"] == FULLNAME


def test_a_headless_service_is_asked_at_the_port_of_the_pods() -> None:
    values = DEMO | SCRAPE_CONFIG | {"service": {"port": 80, "clusterIP": "None"}}
    spec = render_kind("ScrapeConfig", values, FULLNAME)["spec"]
    assert spec["httpSDConfigs"][0]["url"] == f"http://{FULLNAME}.metrics.svc:10057/sd"
    assert f"http://{FULLNAME}.metrics.svc:10057" in str(render_kind("Pod", values))


def test_a_scrape_config_uses_the_same_password_for_discovery_accounts_and_own_metrics() -> None:
    values = ci_values(CHART / "ci" / "scrape-config-values.yaml")
    spec = render_kind("ScrapeConfig", values, FULLNAME)["spec"]
    assert spec["basicAuth"] == values["scrapeConfig"]["basicAuth"]
    assert spec["basicAuth"] == spec["httpSDConfigs"][0]["basicAuth"]
    assert (
        spec["basicAuth"] == render_kind("ScrapeConfig", values, OWN_METRICS)["spec"]["basicAuth"]
    )


def test_a_second_scrape_config_asks_each_pod_for_the_metrics_that_are_not_an_accounts() -> None:
    values = ci_values(CHART / "ci" / "scrape-config-values.yaml")
    accounts = render_kind("ScrapeConfig", values, FULLNAME)
    own = render_kind("ScrapeConfig", values, OWN_METRICS)
    pod = pod_template(values)
    [discovery] = own["spec"]["kubernetesSDConfigs"]
    assert discovery["namespaces"] == {"names": ["metrics"]}
    [selector] = discovery["selectors"]
    wanted = dict(pair.split("=") for pair in selector["label"].split(","))
    assert wanted.items() <= pod["metadata"]["labels"].items()
    [exporter] = pod["spec"]["containers"]
    keep = own["spec"]["relabelings"][0]
    assert keep["action"] == "keep"
    assert keep["regex"] == f"Running;{exporter['name']};{exporter['ports'][0]['name']}"
    # What concerns the accounts' targets alone is not applied to the pods.
    assert "cluster" not in {each.get("targetLabel") for each in own["spec"]["relabelings"]}
    [readme] = re.findall(r"(?s)    params:\n.*?python_info\n", (CHART / "README.md").read_text())
    assert yaml.safe_load(readme)["params"] == own["spec"]["params"]
    for same in ("jobName", "metricsPath", "scheme", "scrapeInterval", "scrapeTimeout"):
        assert own["spec"][same] == accounts["spec"][same]
    for same in ("metricRelabelings", "sampleLimit", "targetLimit", "scrapeProtocols"):
        assert own["spec"][same] == accounts["spec"][same] == values["scrapeConfig"][same]
    assert own["metadata"]["labels"] == accounts["metadata"]["labels"]


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor"])
def test_limits_formats_and_metadata_reach_the_monitors(monitor: str) -> None:
    given = {
        "sampleLimit": 1000,
        "targetLimit": 10,
        "scrapeProtocols": ["OpenMetricsText1.0.0", "PrometheusText0.0.4"],
        "attachMetadata": {"node": True},
    }
    kind = monitor[0].upper() + monitor[1:]
    spec = render_kind(kind, DEMO | {monitor: {"enabled": True, **given}})["spec"]
    assert spec.items() >= given.items()


def test_prometheus_uses_tls_where_the_exporter_does() -> None:
    values = DEMO | TLS | {each: {"enabled": True} for each in MONITORS}
    assert render_kind("ServiceMonitor", values)["spec"]["endpoints"][0]["scheme"] == "https"
    assert render_kind("PodMonitor", values)["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"
    spec = render_kind("ScrapeConfig", values, FULLNAME)["spec"]
    assert spec["scheme"] == "HTTPS"
    assert spec["httpSDConfigs"][0]["url"].startswith("https://")
    assert render_kind("ScrapeConfig", values, OWN_METRICS)["spec"]["scheme"] == "HTTPS"


def test_the_port_of_the_service_says_what_it_serves() -> None:
    assert render_kind("Service", DEMO)["spec"]["ports"][0]["appProtocol"] == "http"
    assert render_kind("Service", DEMO | TLS)["spec"]["ports"][0]["appProtocol"] == "https"


def test_a_service_that_has_no_node_port_is_given_none() -> None:
    """Kubernetes rejects a node port of a ClusterIP."""
    given = {"nodePort": 30057}
    assert "nodePort" not in render_kind("Service", DEMO | {"service": given})["spec"]["ports"][0]
    node_port = given | {"type": "NodePort"}
    assert render_kind("Service", DEMO | {"service": node_port})["spec"]["ports"][0].items() >= (
        given.items()
    )


@pytest.mark.parametrize(
    ("values", "affinity"),
    [
        ({}, None),
        ({"replicas": 0}, None),
        ({"replicas": 2}, "ClientIP"),
        ({"replicas": None}, "ClientIP"),
        ({"replicas": 2, "service": {"sessionAffinity": "None"}}, "None"),
        ({"service": {"sessionAffinity": "ClientIP"}}, "ClientIP"),
        ({"replicas": 2, "service": {"type": "LoadBalancer"}}, None),
        ({"replicas": 2, "service": {"clusterIP": "None"}}, None),
        (
            {"replicas": 2, "service": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}},
            "ClientIP",
        ),
    ],
)
def test_scrapes_through_the_service_stay_with_one_of_several_replicas(
    values: dict[str, Any], affinity: str | None
) -> None:
    """As docs/scaling.md wants it: else flow counters of two replicas alternate."""
    assert render_kind("Service", DEMO | values)["spec"].get("sessionAffinity") == affinity


@pytest.mark.parametrize("replicas", [1, 2, None])
@pytest.mark.parametrize("monitors", [{}, SCRAPE_CONFIG, {"serviceMonitor": {"enabled": True}}])
@pytest.mark.parametrize(
    ("service", "affine"),
    [({}, True), ({"sessionAffinity": "None"}, False), ({"clusterIP": "None"}, False)],
)
def test_the_notes_say_how_several_replicas_are_scraped(
    replicas: int | None, monitors: dict[str, Any], service: dict[str, Any], affine: bool
) -> None:
    text = notes(DEMO | monitors | {"replicas": replicas, "service": service})
    every = "serviceMonitor" in monitors
    assert ("every replica is scraped for every account" in text) is (every and replicas != 1)
    assert ("session affinity keeps it at" in " ".join(text.split())) is (
        every and affine and replicas != 1
    )
    assert ("The counters of an account alternate" in text) is (
        replicas != 1 and not every and not affine
    )
    assert ("a headless one has no session affinity" in text) is (
        replicas != 1 and not every and "clusterIP" in service
    )


def test_the_notes_warn_of_scraping_twice() -> None:
    twice = DEMO | {"serviceMonitor": {"enabled": True}, "scrapeConfig": {"enabled": True}}
    assert "scraped more than once" in notes(twice)
    assert "scraped more than once" not in notes(DEMO | {"serviceMonitor": {"enabled": True}})


@pytest.mark.parametrize(
    ("values", "published"),
    [
        ({}, False),
        ({"image": {"tag": "edge"}}, False),
        ({"image": {"registry": "registry.example.com"}}, True),
        ({"image": {"repository": "registry.example.com/nextmv-exporter"}}, True),
        ({"global": {"imageRegistry": "mirror.example.com"}}, True),
    ],
)
def test_the_notes_say_that_the_default_image_is_in_no_registry(
    values: dict[str, Any], published: bool
) -> None:
    text = notes(DEMO | values)
    assert ("no registry has the image nextmv-exporter:" in text) is not published
    assert ("--set image.repository=" in text) is not published


def test_the_notes_warn_of_a_certificate_that_prometheus_may_not_trust() -> None:
    values = DEMO | TLS | {"serviceMonitor": {"enabled": True}}
    trusted = {"serviceMonitor": {"enabled": True, "tlsConfig": {"caFile": "/etc/ca.crt"}}}
    assert "set serviceMonitor.tlsConfig" in notes(values)
    assert "set serviceMonitor.tlsConfig" not in notes(values | trusted)


def test_the_notes_tell_plain_prometheus_of_the_password() -> None:
    protected = DEMO | {"webConfig": {"content": {"basic_auth_users": {"prometheus": "hash"}}}}
    assert "add basic_auth to the job" in notes(protected)
    assert "add basic_auth to the job" not in notes(DEMO)


def test_the_notes_warn_of_metrics_that_everybody_can_read() -> None:
    shown = DEMO | {"ingress": {"enabled": True}}
    protected = shown | {"webConfig": {"content": {"basic_auth_users": {"prometheus": "hash"}}}}
    assert "need no password" in notes(shown)
    assert "need no password" not in notes(protected)


def test_the_rules_are_the_projects_own_at_their_own_thresholds() -> None:
    plain = yaml.safe_load(
        (CHART.parents[1] / "grafana/alerts/nextmv-exporter.rules.yaml").read_text()
    )
    values = {"enabled": True, "jobRegex": JOB_REGEX}
    assert rules(values) == plain["groups"]


def test_runbooks_are_linked_where_the_values_say() -> None:
    given = rules({"enabled": True, "runbookBaseUrl": "https://runbooks.example.com/"})
    assert "https://runbooks.example.com/docs/runbooks.md#" in str(given)
    assert "runbook_url" not in str(rules({"enabled": True}))


def test_a_threshold_reaches_its_rule() -> None:
    text = str(rules({"enabled": True, "thresholds": {"oldestQueuedFor": "47m"}}))
    assert "'for': '47m'" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stalledFor", "ten minutes"),
        ("stalledFor", ""),
        ("gapTolerance", "0s"),
        ("serviceLevelShare", 95),
        ("serviceLevelShare", 0.5),
        ("notStartingSecondsByClass", {"c": "1h"}),
        ("oldestQueuedSecondsByClass", {"16c60gb12h": "2h"}),
    ],
)
def test_a_threshold_that_prometheus_could_not_use_is_rejected(name: str, value: Any) -> None:
    with pytest.raises(Exception, match=name):
        rules({"enabled": True, "thresholds": {name: value}})


def test_a_class_that_would_be_a_pattern_is_rejected() -> None:
    with pytest.raises(Exception, match="propertyName"):
        rules({"enabled": True, "thresholds": {"notStartingSecondsByClass": {".*": 3600}}})


@pytest.mark.parametrize("name", ["runbookBaseUrl", "dashboardUrl"])
def test_a_link_that_is_not_absolute_is_rejected(name: str) -> None:
    with pytest.raises(Exception, match=name):
        rules({"enabled": True, name: "grafana/"})


def test_prometheus_accepts_the_rules_at_other_thresholds(tmp_path: Path) -> None:
    values = ci_values(CHART / "ci" / "prometheus-rule-values.yaml")["prometheusRule"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": rules(values)}))
    output = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert "SUCCESS" in output
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
    assert 'absent(up{job=~"(.+/)?own-name"})' in str(groups)


def test_the_rules_look_at_the_job_that_a_scrape_config_names() -> None:
    groups = rules({"enabled": True}, scrapeConfig={"enabled": True, "jobName": "queues"})
    assert 'absent(up{job=~"(.+/)?queues"})' in str(groups)


def test_a_job_with_special_characters_is_matched_as_it_is() -> None:
    name = r"nextmv (prod)+1.x ^\[$"
    groups = rules({"enabled": True}, scrapeConfig={"enabled": True, "jobName": name})
    text = "".join(rule["expr"] for group in groups for rule in group["rules"])
    pattern = re.search(r'absent\(up{job=~"(.+?)"}\)', text)
    assert pattern
    regex = json.loads(f'"{pattern[1]}"')  # PromQL escapes like JSON here
    assert re.fullmatch(regex, name)
    assert not re.fullmatch(regex, name.replace(".", "y"))


@pytest.mark.parametrize("pattern", [r"monitoring/queue\.exporter", 'a"b', "x: y", "a{2}"])
def test_prometheus_accepts_the_rules_with_any_pattern_of_jobs(
    pattern: str, tmp_path: Path
) -> None:
    file = tmp_path / "rules.yaml"
    groups = rules({"enabled": True, "jobRegex": pattern})
    file.write_text(yaml.safe_dump({"groups": groups}))
    assert "SUCCESS" in promtool("check", "rules", str(file))


def test_the_accounts_of_a_scrape_config_have_the_namespace_of_the_exporter() -> None:
    more = [{"targetLabel": "cluster", "replacement": "eu"}]
    values = DEMO | {"scrapeConfig": {"enabled": True, "relabelings": more}}
    spec = render_kind("ScrapeConfig", values, FULLNAME)["spec"]
    assert spec["relabelings"] == [{"targetLabel": "namespace", "replacement": "metrics"}, *more]


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


@pytest.mark.parametrize(
    ("test", "admitted"),
    [(True, ["nextmv-exporter-test"]), (False, [])],
)
def test_an_empty_list_of_peers_admits_nobody_but_who_is_named(
    test: bool, admitted: list[str]
) -> None:
    """A rule without peers admits everyone."""
    policy = {"enabled": True, "ingress": {"from": []}, "egress": {"dns": []}}
    spec = render_kind(
        "NetworkPolicy", DEMO | {"networkPolicy": policy, "test": {"enabled": test}}
    )["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["from"] for rule in spec["ingress"])
    peers = [
        peer["podSelector"]["matchLabels"] for rule in spec["ingress"] for peer in rule["from"]
    ]
    assert [labels["app.kubernetes.io/name"] for labels in peers] == admitted
    assert spec["egress"] == []


def test_extra_rules_stand_beside_an_empty_list_of_peers() -> None:
    gateway = {"from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}]}
    proxy = {"ports": [{"port": 3128, "protocol": "TCP"}]}
    policy = {
        "enabled": True,
        "ingress": {"from": []},
        "egress": {"dns": []},
        "extraIngress": [gateway],
        "extraEgress": [proxy],
    }
    spec = render_kind(
        "NetworkPolicy", DEMO | {"networkPolicy": policy, "test": {"enabled": False}}
    )["spec"]
    assert (spec["ingress"], spec["egress"]) == ([gateway], [proxy])


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
    kube_system, node_local = dns["to"]
    assert kube_system == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    }
    assert node_local == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    assert api == {"ports": [{"port": 443, "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("exposed", "admitted"),
    [
        ({"ingress": {"enabled": True}}, True),
        ({"httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]}}, True),
        ({}, False),
    ],
)
def test_the_controller_is_let_in_where_something_exposes_the_exporter(
    exposed: dict[str, Any], admitted: bool
) -> None:
    controller = {"namespaceSelector": {"matchLabels": {"name": "{{ .Release.Name }}"}}}
    expanded = {"namespaceSelector": {"matchLabels": {"name": "queue"}}}
    policy = {"enabled": True, "ingress": {"controllers": [controller]}}
    [rule] = render_kind("NetworkPolicy", DEMO | exposed | {"networkPolicy": policy})["spec"][
        "ingress"
    ]
    assert (expanded in rule["from"]) is admitted
    assert len(rule["from"]) == 2 + admitted  # Prometheus and the test, too
    alone = policy | {"ingress": {"from": [], "controllers": [controller]}}
    values = DEMO | exposed | {"networkPolicy": alone, "test": {"enabled": False}}
    rules = render_kind("NetworkPolicy", values)["spec"]["ingress"]
    assert [each["from"] for each in rules] == [[expanded]] * admitted


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"networkPolicy": {"enabled": True}}, True),
        (
            {"networkPolicy": {"enabled": True, "ingress": {"controllers": [{"ipBlock": {}}]}}},
            False,
        ),
        ({"networkPolicy": {"enabled": True, "extraIngress": [{"from": []}]}}, False),
        ({}, False),
    ],
)
def test_the_notes_warn_of_a_controller_that_the_network_policy_blocks(
    values: dict[str, Any], warned: bool
) -> None:
    shown = {"ingress": {"enabled": True}}
    assert ("set networkPolicy.ingress.controllers" in notes(DEMO | shown | values)) is warned
    assert "networkPolicy.ingress.controllers" not in notes(DEMO | values)


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
    manifests = render(
        EVERYTHING
        | {
            "commonLabels": {"cost-center": "42"},
            "commonAnnotations": {"example.com/owner": "{{ .Release.Name }}"},
            "releaseLabel": True,
        }
    )
    assert {each["kind"] for each in manifests} == {
        "ConfigMap",
        "Deployment",
        "HTTPRoute",
        "Ingress",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "PodMonitor",
        "PrometheusRule",
        "ScrapeConfig",
        "Secret",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
        "VerticalPodAutoscaler",
    }
    [template] = [each["spec"]["template"] for each in manifests if each["kind"] == "Deployment"]
    for metadata in [*(each["metadata"] for each in manifests), template["metadata"]]:
        assert metadata["labels"]["cost-center"] == "42"
        assert metadata["labels"]["release"] == "queue"
        assert metadata["annotations"]["example.com/owner"] == "queue"


def test_the_release_is_no_label_unless_asked_for() -> None:
    manifests = render(EVERYTHING)
    assert manifests
    assert all("release" not in each["metadata"]["labels"] for each in manifests)


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
