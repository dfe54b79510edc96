"""What the chart makes of wrong values, and how its schema and its defaults fit together."""

import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml
from helm_python import Chart, HelmRenderError, HelmValuesError

from nextmv_exporter.settings import OPTIONS

from .chart import CHART, DEMO, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
README = (CHART / "README.md").read_text()
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

# Allowed without being a value: see their descriptions in the schema.
OPEN = {"enabled"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"nextmvv": {}}, "nextmvv"),
        ({"nextmv": {"apikey": "k"}}, "apikey"),
        ({"nextmv": {"profiles": "staging"}}, "profiles"),
        ({"nextmv": {"timeout": 10}}, "timeout"),
        ({"nextmv": {"timeout": "10 seconds"}}, "timeout"),
        ({"nextmv": {"source": "queue"}}, "source"),
        ({"nextmv": {"maxResponseBytes": "lots"}}, "maxResponseBytes"),
        ({"queue": {"maxGroups": 0}}, "maxGroups"),
        ({"queue": {"waitBuckets": ["soon"]}}, "waitBuckets"),
        ({"web": {"telemetryPath": "metrics"}}, "telemetryPath"),
        ({"webConfig": {"content": {"basic_auth_user": {}}}}, "basic_auth_user"),
        ({"log": {"level": "trace"}}, "level"),
        ({"image": {"repository": ""}}, "repository"),
        ({"image": {"repository": "registry.example.com/exporter:1.0"}}, "repository"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"replicas": "two"}, "replicas"),
        ({"containerPort": 70000}, "containerPort"),
        ({"extraArgs": ["web.timeout-offset=1s"]}, "extraArgs"),
        ({"extraEnv": {"HTTPS_PROXY": "x"}}, "extraEnv"),
        ({"resources": {"limit": {}}}, "limit"),
        ({"service": {"type": "ExternalName"}}, "type"),
        ({"serviceMonitor": {"scrapeTimout": "10s"}}, "scrapeTimout"),
        ({"podMonitor": {"enabled": "yes"}}, "enabled"),
        ({"scrapeConfig": {"refreshInterval": ""}}, "refreshInterval"),
        ({"prometheusRule": {"thresholds": {"noSuchThreshold": 1}}}, "noSuchThreshold"),
        ({"dashboards": {"enable": True}}, "enable"),
        ({"networkPolicy": {"egress": {"ports": ["https"]}}}, "ports"),
        ({"podDisruptionBudget": {"minAvailable": "half"}}, "minAvailable"),
        ({"verticalPodAutoscaler": {"recommenders": [{}, {}]}}, "recommenders"),
        ({"ingress": {"hosts": ["example.com"]}}, "hosts"),
        ({"httpRoute": {"hostnames": "example.com"}}, "hostnames"),
    ],
)
def test_the_schema_rejects_and_names(values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmValuesError, match=named):
        Chart.load(CHART).validate_schema(DEMO | values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "nextmv.existingSecret"),
        ({"demo": True, "nextmv": {"apiKey": "k"}}, "remove nextmv.apiKey, or demo"),
        (
            {"nextmv": {"apiKey": "k", "existingSecret": "s"}},
            "keep one of nextmv.apiKey, nextmv.existingSecret",
        ),
        (
            DEMO | {"webConfig": {"content": {"http_server_config": {}}, "existingSecret": "s"}},
            "keep one of webConfig.content, webConfig.existingSecret",
        ),
        (
            DEMO
            | {"podDisruptionBudget": {"enabled": True, "minAvailable": 0, "maxUnavailable": 1}},
            "takes one of",
        ),
        (DEMO | {"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_cannot_work_are_refused_with_what_to_do(
    values: dict[str, Any], told: str
) -> None:
    with pytest.raises(HelmRenderError) as refusal:
        render(values)
    assert told in str(refusal.value)


def test_the_schema_and_the_defaults_know_the_same_values() -> None:
    assert set(closed_paths(SCHEMA)) == set(value_paths(DEFAULTS, SCHEMA))


@pytest.mark.parametrize(
    ("path", "flag"),
    [
        (("nextmv", "source"), "--nextmv.source"),
        (("log", "level"), "--log.level"),
        (("log", "format"), "--log.format"),
    ],
)
def test_the_schema_offers_the_choices_of_the_exporter(path: tuple[str, str], flag: str) -> None:
    section, name = path
    offered = SCHEMA["properties"][section]["properties"][name]["enum"]
    choices = option(flag).type
    assert isinstance(choices, click.Choice)
    assert set(offered) - {""} == set(choices.choices)


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("nextmv.timeout", "--nextmv.timeout"),
        ("nextmv.source", "--nextmv.source"),
        ("nextmv.runLookback", "--nextmv.run-lookback"),
        ("nextmv.maxResponseBytes", "--nextmv.max-response-bytes"),
        ("queue.zeroRetention", "--queue.zero-retention"),
        ("queue.maxGroups", "--queue.max-groups"),
        ("web.timeoutOffset", "--web.timeout-offset"),
        ("web.telemetryPath", "--web.telemetry-path"),
        ("log.level", "--log.level"),
        ("log.format", "--log.format"),
    ],
)
def test_the_readme_tells_the_defaults_of_the_exporter(key: str, flag: str) -> None:
    [row] = [line for line in README.splitlines() if line.startswith(f"| `{key}` |")]
    assert row.split(" | ")[2].strip('`"') == option(flag).default


def option(flag: str) -> click.Option:
    """The exporter's option of a flag."""
    [found] = [each for each in OPTIONS if flag in each.opts]
    return found


def test_a_parent_chart_may_send_its_condition_and_its_globals() -> None:
    assert render(DEMO | {"enabled": True, "global": {"storageClass": "fast"}}) == render(DEMO)


def closed_paths(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all properties of the objects that take no others."""
    for name, below in schema.get("properties", {}).items():
        if path or name not in OPEN:
            yield f"{path}.{name}"
            if "properties" in below and f"{path}.{name}" != ".webConfig.content":
                yield from closed_paths(below, f"{path}.{name}")


def value_paths(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all values, down to where the schema says no more."""
    for name, value in values.items():
        yield f"{path}.{name}"
        below = schema.get("properties", {}).get(name, {})
        if isinstance(value, dict) and "properties" in below:
            yield from value_paths(value, below, f"{path}.{name}")
