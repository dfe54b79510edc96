"""The chart, rendered by real Helm."""

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

Manifest = dict[str, Any]


def render(values: dict[str, Any]) -> list[Manifest]:
    """Every manifest that the chart makes of some values, without the notes."""
    rendered = Chart.load(CHART).render(values, name=RELEASE, namespace=NAMESPACE)
    return [
        manifest
        for path, text in rendered.items()
        if not path.endswith("NOTES.txt")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def notes(values: dict[str, Any]) -> str:
    """What Helm tells after an installation."""
    rendered = Chart.load(CHART).render(values, name=RELEASE, namespace=NAMESPACE)
    return rendered["nextmv-exporter/templates/NOTES.txt"]


def render_kind(kind: str, values: dict[str, Any]) -> Manifest:
    """The one manifest of a kind."""
    [manifest] = [each for each in render(values) if each["kind"] == kind]
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
