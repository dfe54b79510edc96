"""The manifests: accepted by their readers, restricted pods, names, and when pods are replaced."""

import re
import shutil
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1, v1alpha1
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from .chart import (
    CHART,
    CI_VALUES,
    EVERYTHING,
    Values,
    merged,
    notes,
    one,
    render,
    spec,
    taken,
)

pytestmark = pytest.mark.system

OPERATOR_MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (v1.PodMonitor, v1.PrometheusRule, v1alpha1.ScrapeConfig, v1.ServiceMonitor)
}
EXTRA = {"ExternalSecret", "ScrapeConfig"}  # made by `extraManifests`
VERSIONS = ("1.27", kubernetes_validate.latest_version())  # the oldest is kubeVersion in Chart.yaml
SELECTED = {"app.kubernetes.io/name": "nextmv-exporter", "app.kubernetes.io/instance": "queue"}

each_ci_file = pytest.mark.parametrize("values", CI_VALUES.values(), ids=CI_VALUES)


@each_ci_file
def test_helm_kubernetes_and_the_operator_have_no_complaint(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, values, strict=True)
    assert [m for m in report["messages"] if m["error"] != "icon is recommended"] == []
    manifests = render(values)
    for manifest in manifests:
        if model := OPERATOR_MODELS.get(manifest["kind"]):
            known = model.model_validate(manifest)  # which drops what it does not know
            assert known.model_dump(mode="json", by_alias=True, exclude_unset=True) == manifest
        elif manifest["kind"] not in EXTRA:
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
    names = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    assert len(names) == len(manifests)
    assert "helm test queue --namespace metrics" in notes(values)


def test_every_kind_is_rendered_by_some_ci_file() -> None:
    kinds = {manifest["kind"] for values in CI_VALUES.values() for manifest in render(values)}
    assert kinds == {each["kind"] for each in render(EVERYTHING)} | EXTRA
    assert len(kinds) == 14


@each_ci_file
def test_pods_meet_the_restricted_standard_and_hold_no_secret_and_no_token(values: Values) -> None:
    every = [each["spec"] for each in render(values) if each["kind"] in {"Deployment", "Pod"}]
    for pod in (each["template"]["spec"] if "template" in each else each for each in every):
        assert "not-a-real-key" not in str(pod)
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC"))
        assert all("hostPath" not in volume for volume in pod.get("volumes", []))
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
        for each in pod["containers"] + pod.get("initContainers", []):
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert all("subPath" not in mount for mount in each.get("volumeMounts", []))


@each_ci_file
def test_a_new_version_of_the_chart_alone_replaces_no_pod(
    values: dict[str, Any], tmp_path: Path
) -> None:
    newer = Path(shutil.copytree(CHART, tmp_path / "chart"))
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text())
    changed = facts | {"version": "9.9.9", "appVersion": "9.9.9"}
    (newer / "Chart.yaml").write_text(yaml.safe_dump(changed))
    pinned = merged(values, {"image": {"tag": "0.1.0"}})
    before, after = (one("Deployment", render(pinned, chart=each)) for each in (CHART, newer))
    assert before["metadata"]["labels"] != after["metadata"]["labels"]
    assert before["spec"] == after["spec"]


def test_pods_are_replaced_if_the_charts_own_secret_changes_and_not_its_annotations() -> None:
    template, noted, rotated = (
        one("Deployment", render(f"nextmv: {{apiKey: {key}}}, {others}"))["spec"]["template"]
        for key, others in (("a", ""), ("a", "secret: {annotations: {b: c}}"), ("d", ""))
    )
    assert template == noted
    assert template != rotated


QUICK = {name: EVERYTHING[name] for name in EVERYTHING.keys() - {"dashboards", "prometheusRule"}}
names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]{1,9}){0,2}", fullmatch=True)
texts = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,80}[A-Za-z0-9])?)?", fullmatch=True)
label = st.sampled_from([*SELECTED, "app.kubernetes.io/version", "helm.sh/chart", "team"])
short = texts.filter(lambda text: len(text) < 64)
scalars = short | st.booleans() | st.integers(0, 10**12) | st.none()
label_maps = st.dictionaries(label, scalars, max_size=4)


@settings(max_examples=20, deadline=None)
@given(release=names, name=texts, full=texts, common=label_maps, pod=label_maps)
def test_kubernetes_accepts_all_names_and_labels_and_selectors_find_their_pods(
    release: str, name: str, full: str, common: dict[str, Any], pod: dict[str, Any]
) -> None:
    overrides = {"nameOverride": name, "fullnameOverride": full}
    labels = {"commonLabels": common, "podLabels": pod, "releaseLabel": True}
    manifests = render(QUICK | overrides | labels, release=release)
    for manifest in manifests:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
        for each in manifest["metadata"]["labels"].values():
            assert re.fullmatch(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", each)
    exporter = one("Deployment", manifests)["spec"]["template"]["metadata"]["labels"]
    for key, value in (common | pod).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert key in SELECTED or exporter.get(key) == (None if value is None else text)
    service = one("Service", manifests)
    for selector in (
        one("Deployment", manifests)["spec"]["selector"]["matchLabels"],
        one("PodMonitor", manifests)["spec"]["selector"]["matchLabels"],
        one("NetworkPolicy", manifests)["spec"]["podSelector"]["matchLabels"],
        service["spec"]["selector"],
    ):
        assert selector.items() <= exporter.items()
        assert not selector.items() <= one("Pod", manifests)["metadata"]["labels"].items()
    monitor = one("ServiceMonitor", manifests)["spec"]["selector"]["matchLabels"]
    assert monitor.items() <= service["metadata"]["labels"].items()


def test_two_releases_in_one_namespace_share_no_name() -> None:
    first, second = (render(EVERYTHING, "a" * 51 + end) for end in "bc")
    identities = {(each["kind"], each["metadata"]["name"]) for each in first + second}
    assert len(identities) == len(first) + len(second)


@pytest.mark.parametrize(
    "case",
    """
Deployment | replicas: null | replicas: null
Deployment | replicas: 0 | replicas: 0
Deployment | strategy: {type: Recreate} | strategy: {type: Recreate, rollingUpdate: null}
Deployment | | dnsPolicy: null
Deployment | hostNetwork: true | dnsPolicy: ClusterFirstWithHostNet
Deployment | hostNetwork: true, dnsPolicy: Default | dnsPolicy: Default
Deployment | | lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
Deployment | lifecycle: {preStop: {sleep: {seconds: 9}}} | lifecycle: {preStop: {exec: null}}
Deployment | lifecycle: {preStop: {exec: null}} | lifecycle: null
Deployment | terminationGracePeriodSeconds: 10000000 | terminationGracePeriodSeconds: 10000000
Deployment | priorityClassName: "null" | priorityClassName: "null"
Deployment | nodeSelector: {disk: 1, ssd: true} | nodeSelector: {disk: "1", ssd: "true"}
Deployment | extraEnv: [{name: A, value: 1}] | env: [{name: A, value: "1"}]
Pod | imagePullSecrets: ["1"], global: {imagePullSecrets: [b]} | imagePullSecrets: [{name: b}, {name: "1"}]
ServiceMonitor | serviceMonitor: {enabled: true, sampleLimit: 100000000} | sampleLimit: 100000000
Deployment | | image: "nextmv-exporter:0.1.0"
Deployment | image: {registry: a.io, tag: edge} | image: "a.io/nextmv-exporter:edge"
Deployment | global: {imageRegistry: b.io}, image: {registry: a.io, tag: a} | image: b.io/nextmv-exporter:a
Deployment | | readinessProbe: {httpGet: {path: /-/ready, port: http, scheme: HTTP}}
Deployment | webConfig: {existingSecret: s, tls: true} | livenessProbe: {httpGet: {scheme: HTTPS}}
Deployment | webConfig: {existingSecret: s, clientCertificate: true} | livenessProbe: {tcpSocket: {port: http}, httpGet: null}
Deployment | livenessProbe: {exec: {command: [a]}} | livenessProbe: {httpGet: null, exec: {command: [a]}}
Deployment | livenessProbe: null | livenessProbe: null
Deployment | webConfig: {tls: true}, extraArgs: [--web.config.file=/own/web.yml] | livenessProbe: {httpGet: {scheme: HTTPS}}
Deployment | enabled: true, global: {storageClass: fast} | replicas: 1
Service | webConfig: {existingSecret: s, tls: true} | ports: [{name: http, appProtocol: https}]
Service | service: {port: 80, nodePort: 30057} | ports: [{port: 80, nodePort: null}]
Service | service: {nodePort: 30057, type: NodePort} | ports: [{nodePort: 30057}]
Service | replicas: 1 | sessionAffinity: null
Service | replicas: 2 | sessionAffinity: ClientIP
Service | replicas: null | sessionAffinity: ClientIP
Service | replicas: 2, service: {sessionAffinity: None} | sessionAffinity: None
Service | replicas: 2, service: {type: LoadBalancer} | sessionAffinity: null
Service | replicas: 2, service: {clusterIP: None} | sessionAffinity: null
PodDisruptionBudget | podDisruptionBudget: {enabled: true} | maxUnavailable: 1
PodDisruptionBudget | podDisruptionBudget: {enabled: true, minAvailable: 0} | minAvailable: 0, maxUnavailable: null
PodDisruptionBudget | podDisruptionBudget: {enabled: true, maxUnavailable: 50%} | maxUnavailable: 50%
NetworkPolicy | networkPolicy: {enabled: true} | egress: [{ports: [{port: 53}, {port: 53}]}]
NetworkPolicy | networkPolicy: {enabled: true, ingress: {from: []}} | ingress: [{from: [{podSelector: {matchLabels: {app.kubernetes.io/name: nextmv-exporter-test}}}]}]
NetworkPolicy | networkPolicy: {enabled: true, ingress: {from: []}, egress: {dns: []}}, test: {enabled: false} | ingress: [], egress: []
NetworkPolicy | networkPolicy: {enabled: true, ingress: {from: [], controllers: [{a: "{{ .Release.Name }}"}]}}, test: {enabled: false} | ingress: [{from: [{a: queue}]}]
NetworkPolicy | networkPolicy: {enabled: true, extraIngress: [{a: b}], extraEgress: [{c: d}]} | ingress: [{from: [{}, {}]}, {a: b}], egress: [{}, {c: d}]
NetworkPolicy | demo: false, extraEnv: [{name: A}], networkPolicy: {enabled: true} | egress: [{}, {ports: [{port: 443}], to: null}]
""".strip().splitlines(),  # noqa: E501
)
def test_a_kind_has_with_some_values(case: str) -> None:
    """Null stands for what is absent."""
    kind, values, expected = case.split("|")
    found = spec(kind.strip(), values)
    pod = found.get("template", {}).get("spec", {})
    assert_in({**found, **pod, **pod.get("containers", [{}])[0]}, taken(expected))


def assert_in(found: Any, expected: Any) -> None:
    """Assert that all that is expected stands in what was found."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_in(found.get(name), value)
    elif isinstance(expected, list):
        for each, value in zip(found, expected, strict=True):
            assert_in(each, value)
    else:
        assert found == expected
