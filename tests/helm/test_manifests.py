"""Every manifest of every `ci/` file, against the schemas of its readers."""

from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
from cloudcoil.models.prometheus_operator import v1, v1alpha1
from pydantic import BaseModel

from .chart import CHART, CI_VALUES, DEMO, Manifest, ci_values, notes, render, render_kind

OLDEST_KUBERNETES = "1.27"  # kubeVersion in Chart.yaml
NEWEST_KUBERNETES = kubernetes_validate.latest_version()

OPERATOR_MODELS: dict[str, type[BaseModel]] = {
    "PodMonitor": v1.PodMonitor,
    "PrometheusRule": v1.PrometheusRule,
    "ScrapeConfig": v1alpha1.ScrapeConfig,
    "ServiceMonitor": v1.ServiceMonitor,
}
# No package has a schema of these: their shape is asserted below.
WITHOUT_SCHEMA = {"ExternalSecret", "HTTPRoute", "VerticalPodAutoscaler"}

each_ci_file = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)


@each_ci_file
def test_lint_has_no_complaint(path: Path) -> None:
    report = helm_python.lint(CHART, ci_values(path), strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["error"] != "icon is recommended"] == []


@each_ci_file
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_kubernetes_accepts_the_manifests(path: Path, version: str) -> None:
    manifests = render(ci_values(path))
    known = [m for m in manifests if m["kind"] not in WITHOUT_SCHEMA | OPERATOR_MODELS.keys()]
    assert known
    for manifest in known:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("kind", OPERATOR_MODELS)
def test_the_prometheus_operator_accepts_the_manifests(kind: str) -> None:
    manifests = [m for path in CI_VALUES for m in render(ci_values(path)) if m["kind"] == kind]
    assert manifests
    assert [unknown_to(OPERATOR_MODELS[kind], manifest) for manifest in manifests] == [
        [] for _ in manifests
    ]


@each_ci_file
def test_no_two_manifests_are_the_same_object(path: Path) -> None:
    manifests = render(ci_values(path))
    names = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))


@each_ci_file
def test_the_notes_are_plain_text_without_holes(path: Path) -> None:
    text = notes(ci_values(path))
    assert "helm test queue --namespace metrics" in text
    assert "<no value>" not in text
    assert "%!" not in text


def test_every_kind_is_rendered_by_some_ci_file() -> None:
    rendered = {m["kind"] for path in CI_VALUES for m in render(ci_values(path))}
    assert rendered == {
        "ConfigMap",
        "Deployment",
        "ExternalSecret",
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


def test_a_field_that_the_operator_does_not_know_is_noticed() -> None:
    monitor = render_kind("ServiceMonitor", DEMO | {"serviceMonitor": {"enabled": True}})
    monitor["spec"]["endpoints"][0]["scrapeTimout"] = "10s"
    assert unknown_to(v1.ServiceMonitor, monitor) == [".spec.endpoints[0].scrapeTimout"]


def test_a_vertical_pod_autoscaler_aims_at_the_deployment_and_its_container() -> None:
    values = ci_values(CHART / "ci" / "availability-values.yaml")
    deployment = render_kind("Deployment", values)
    autoscaler = render_kind("VerticalPodAutoscaler", values)
    assert autoscaler["apiVersion"] == "autoscaling.k8s.io/v1"
    assert autoscaler["spec"] == {
        "targetRef": {
            "apiVersion": deployment["apiVersion"],
            "kind": deployment["kind"],
            "name": deployment["metadata"]["name"],
        },
        "recommenders": [{"name": "custom"}],
        "updatePolicy": {"updateMode": "Recreate"},
        "resourcePolicy": {
            "containerPolicies": [
                {
                    "containerName": deployment["spec"]["template"]["spec"]["containers"][0][
                        "name"
                    ],
                    "controlledResources": ["memory"],
                    "controlledValues": "RequestsOnly",
                    "minAllowed": {"memory": "64Mi"},
                    "maxAllowed": {"memory": "1Gi"},
                }
            ]
        },
    }


def test_an_http_route_leads_to_the_service() -> None:
    values = ci_values(CHART / "ci" / "http-route-values.yaml")
    service = render_kind("Service", values)
    route = render_kind("HTTPRoute", values)
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["parentRefs"] == values["httpRoute"]["parentRefs"]
    assert route["spec"]["hostnames"] == ["queue.example.com"]
    [rule] = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["filters"] == values["httpRoute"]["filters"]
    assert rule["backendRefs"] == [
        {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    ]


def test_an_http_route_can_redirect_to_https_in_place_of_serving() -> None:
    values = ci_values(CHART / "ci" / "http-route-values.yaml")
    values["httpRoute"] |= {"httpsRedirect": True}
    [rule] = render_kind("HTTPRoute", values)["spec"]["rules"]
    assert rule["filters"] == [
        {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    ]
    assert "backendRefs" not in rule


def unknown_to(model: type[BaseModel], manifest: Manifest) -> list[str]:
    """The paths of fields that a model would drop without a word; raises on what it rejects."""
    known = model.model_validate(manifest).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    return list(missing(manifest, known))


def missing(wanted: Any, found: Any, path: str = "") -> list[str]:
    """The paths of what is in one document and not in the other."""
    if isinstance(wanted, dict):
        return [
            each
            for key, value in wanted.items()
            for each in (
                missing(value, found[key], f"{path}.{key}") if key in found else [f"{path}.{key}"]
            )
        ]
    if isinstance(wanted, list):
        return [
            each
            for index, value in enumerate(wanted)
            for each in missing(value, found[index], f"{path}[{index}]")
        ]
    return []
