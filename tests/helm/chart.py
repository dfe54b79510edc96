"""The chart, rendered by real Helm."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "nextmv-exporter"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))

RELEASE = "queue"
NAMESPACE = "metrics"
FULLNAME = "queue-nextmv-exporter"

DEMO = {"demo": True}
KEY = {"nextmv": {"apiKey": "not-a-real-key"}}
# Every resource that the chart can make.
EVERYTHING: dict[str, Any] = {
    "nextmv": {"apiKey": "not-a-real-key"},
    "serviceMonitor": {"enabled": True},
    "podMonitor": {"enabled": True},
    "scrapeConfig": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "verticalPodAutoscaler": {"enabled": True},
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
}

Manifest = dict[str, Any]


class StrictLoader(yaml.CSafeLoader):
    """Rejects duplicate keys, as strict appliers and kustomize do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if duplicates := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"duplicate keys {duplicates}{node.start_mark}")
        return super().construct_mapping(node, deep)


def rendered(
    values: dict[str, Any], release: str = RELEASE, namespace: str = NAMESPACE
) -> dict[str, str]:
    """The text of every template, by its path in the chart."""
    return Chart.load(CHART).render(values, name=release, namespace=namespace)


def render(
    values: dict[str, Any], release: str = RELEASE, namespace: str = NAMESPACE
) -> list[Manifest]:
    """Every manifest that the chart makes of some values, without the notes; at least one."""
    manifests = [
        manifest
        for path, text in rendered(values, release, namespace).items()
        if not path.endswith("NOTES.txt")
        for manifest in yaml.load_all(text, StrictLoader)
        if manifest
    ]
    assert manifests
    return manifests


def notes(values: dict[str, Any]) -> str:
    """What Helm prints after an installation."""
    return rendered(values)["nextmv-exporter/templates/NOTES.txt"]


def render_kind(kind: str, values: dict[str, Any], suffix: str = "") -> Manifest:
    """The one manifest of a kind, or the one whose name ends in a suffix."""
    [manifest] = [
        each
        for each in render(values)
        if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)
    ]
    return manifest


def pod_template(values: dict[str, Any]) -> Manifest:
    """The pod that the Deployment makes."""
    template: Manifest = render_kind("Deployment", values)["spec"]["template"]
    return template


def container(values: dict[str, Any]) -> Manifest:
    """The exporter's own container."""
    first: Manifest = pod_template(values)["spec"]["containers"][0]
    return first


def ci_values(path: Path) -> dict[str, Any]:
    """The values of one file in `ci/`."""
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values
