"""The chart, rendered by real Helm."""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

Values = dict[str, Any] | str
Manifest = dict[str, Any]

CHART = Path(__file__).parents[2] / "helm" / "nextmv-exporter"
FULLNAME = "queue-nextmv-exporter"
DEMO = {"demo": True}
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
CI_VALUES: dict[str, dict[str, Any]] = {
    path.stem.removesuffix("-values"): yaml.safe_load(path.read_text())
    for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
assert len(CI_VALUES) == 6
# Every resource that the chart can make.
EVERYTHING: dict[str, Any] = {"nextmv": {"apiKey": "not-a-real-key"}} | {
    section: {"enabled": True}
    for section, values in DEFAULTS.items()
    if isinstance(values, dict) and values.get("enabled") is False
}


class StrictLoader(yaml.CSafeLoader):
    """Rejects duplicate keys, as strict appliers and kustomize do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if duplicates := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"duplicate keys {duplicates}{node.start_mark}")
        return super().construct_mapping(node, deep)


def taken(values: Values) -> dict[str, Any]:
    """Values, which a test may write as YAML without the outer braces."""
    parsed: dict[str, Any] = yaml.safe_load(f"{{{values}}}") if isinstance(values, str) else values
    return parsed


def rendered(values: Values, release: str = "queue", chart: Path = CHART) -> dict[str, str]:
    """The text of every template, by its name."""
    texts = Chart.load(chart).render(taken(values), name=release, namespace="metrics")
    return {path.removeprefix("nextmv-exporter/templates/"): text for path, text in texts.items()}


def render(values: Values, release: str = "queue", chart: Path = CHART) -> list[Manifest]:
    """Every manifest that the chart makes of some values, without the notes; at least one."""
    texts = rendered(values, release, chart)
    del texts["NOTES.txt"]
    manifests = [each for text in texts.values() for each in yaml.load_all(text, StrictLoader)]
    assert any(manifests)
    return [each for each in manifests if each]


def notes(values: Values) -> str:
    """What Helm prints after an installation, with single spaces."""
    return " ".join(rendered(values)["NOTES.txt"].split())


def one(kind: str, manifests: list[Manifest]) -> Manifest:
    """The one manifest of a kind."""
    [manifest] = [each for each in manifests if each["kind"] == kind]
    return manifest


def spec(kind: str, values: Values) -> Manifest:
    """The specification of the one manifest of a kind, of the demo with some values."""
    found: Manifest = one(kind, render({**DEMO, **taken(values)}))["spec"]
    return found


def leaves(values: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The paths of all values that are not mappings with values in them."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, *above, name)
        else:
            yield (*above, name)


def merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Values and others over them, mapping by mapping."""
    both = {
        name: merged(value, others[name])
        for name, value in values.items()
        if isinstance(value, dict) and isinstance(others.get(name), dict)
    }
    return {**values, **others, **both}


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """A value in mappings of these names."""
    for name in reversed(path):
        value = {name: value}
    return dict(value)
