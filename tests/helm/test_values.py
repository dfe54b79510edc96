"""What the chart does with values that it can't use; schema, defaults and templates agree."""

import functools
import json
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from helm_python import HelmRenderError, HelmValuesError

from nextmv_exporter.settings import OPTIONS

from .chart import (
    CHART,
    CI_VALUES,
    DEFAULTS,
    DEMO,
    EVERYTHING,
    StrictLoader,
    leaves,
    merged,
    nested,
    notes,
    render,
    rendered,
)

pytestmark = pytest.mark.system

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
RENAMED = yaml.safe_load((CHART / "files" / "renamed.yaml").read_text())
OTHER_CHARTS = yaml.safe_load(Path(__file__).with_name("other_charts.yaml").read_text())


@pytest.mark.parametrize(
    "case",
    """
nextmvv: {} | nextmvv
nextmv: {apikey: k} | apikey
nextmv: {timeout: 0s} | timeout
nextmv: {maxResponseBytes: "0"} | maxResponseBytes
web: {telemetryPath: /sd} | telemetryPath
web: {telemetryPath: /-/ready} | telemetryPath
webConfig: {content: {basic_auth_user: {}}} | basic_auth_user
image: {repository: registry.example.com/exporter:1.0} | repository
global: {imageRegistry: "https://ghcr.io"} | imageRegistry
extraArgs: [web.timeout-offset=1s] | extraArgs
extraArgs: [--web.telemetry-path=/m] | extraArgs
resources: {limit: {}} | limit
serviceMonitor: {scrapeTimout: 10s} | scrapeTimout
podMonitor: {attachMetadata: {pod: true}} | attachMetadata
podDisruptionBudget: {minAvailable: half} | minAvailable
ingress: {hosts: []} | hosts
prometheusRule: {thresholds: {noSuchThreshold: 1}} | noSuchThreshold
 | set nextmv.existingSecret
demo: true, nextmv: {apiKey: k} | remove nextmv.apiKey, or demo
nextmv: {apiKey: k, configFile: "a: b"} | keep one of nextmv.apiKey, nextmv.configFile
nextmv: {existingSecret: s, profiles: [staging]} | set nextmv.existingConfigSecret
demo: true, nextmv: {profiles: [staging]} | set nextmv.existingConfigSecret
nextmv: {profiles: ["*"]}, extraEnv: [{name: A}] | set nextmv.existingConfigSecret
nextmv: {configFile: /root/.nextmv/config.yaml} | --set-file nextmv.configFile
demo: true, webConfig: {existingSecret: s, content: {tls_server_config: {a: b}}} | keep one of webConfig.content,
demo: true, webConfig: {tls: true, content: {basic_auth_users: {a: b}}} | set webConfig.content.tls_server_config
demo: true, webConfig: {tlsSecret: s} | set webConfig.content.tls_server_config
demo: true, webConfig: {clientCertificate: true} | set webConfig.content.tls_server_config
demo: true, webConfig: {basicAuth: true, content: {tls_server_config: {a: b}}} | set webConfig.content.basic_auth_users
demo: true, webConfig: {content: {basic_auth_users: {a: b}}}, podMonitor: {enabled: true} | set podMonitor.basicAuth
demo: true, webConfig: {existingSecret: s, clientCertificate: true}, serviceMonitor: {enabled: true} | set serviceMonitor.tlsConfig.cert
""".strip("\n").splitlines(),  # noqa: E501
)
def test_values_that_cannot_work_are_refused_with_what_to_do(case: str) -> None:
    values, message = case.split(" | ")
    with pytest.raises((HelmValuesError, HelmRenderError), match=re.escape(message)):
        render(values)


@pytest.mark.parametrize("other", OTHER_CHARTS.values(), ids=OTHER_CHARTS)
def test_users_of_another_chart_are_told_the_names_of_this_one(other: dict[str, Any]) -> None:
    assert len(OTHER_CHARTS) == 12
    with pytest.raises(HelmRenderError) as refusal:
        render(DEMO | other["values"])
    assert set(other["names"]) <= set(re.findall(r"[\w.]+\w", str(refusal.value)))


@pytest.mark.parametrize(("name", "advice"), RENAMED["foreign"].items())
def test_each_name_of_another_chart_is_refused_for_one_of_this_chart(
    name: str, advice: str
) -> None:
    given: tuple[Any, ...] = (["a"], {}, False)
    for value in given:
        with pytest.raises(HelmRenderError, match=re.escape(f"- {name}: {advice}")):
            render(merged(DEMO, nested(name.split("."), value)))
    if own := re.match(r"use ([\w.]+)", advice):
        name = re.sub(r"(podSecurityContext|webConfig\.content)\..*", r"\1", own[1])
        assert name in {".".join(path) for path in known(SCHEMA)}


def test_the_schema_knows_the_defaults_and_names_that_a_template_refuses_or_reports() -> None:
    retired = {name.removesuffix(".enabled") for name in RENAMED["retired"]}
    names = map(".".join, known(SCHEMA, foreign=True))
    foreign = {name for name in names if not name.startswith("podMonitor.")}
    assert {"replicaCount", "image.pullSecrets", "serviceMonitor.timeout"} <= foreign
    assert foreign <= RENAMED["foreign"].keys() | retired
    above = {path[:depth] for path in leaves(DEFAULTS) for depth in range(1, len(path) + 1)}
    undescribed = {path[0] for path in known(SCHEMA) if path not in above}
    assert undescribed == {"enabled", "podMonitor", "webConfig"}


@pytest.mark.parametrize("path", list(leaves(DEFAULTS)), ids=".".join)
def test_every_value_may_be_null_or_is_named_if_it_may_not(path: tuple[str, ...]) -> None:
    """Helm removes a default that is set to null, so that templates see nothing there."""
    slow = {"dashboards", "prometheusRule"} - set(path)
    everything = {name: value for name, value in EVERYTHING.items() if name not in slow}
    texts = outcome(merged(everything, nested(path, None)))
    if isinstance(texts, str):
        assert path[-1] in texts
        assert "nil pointer" not in texts
    else:
        assert "<no value>" not in str(texts)
        assert "%!" not in texts.pop("NOTES.txt")
        assert not any(nulls(list(yaml.load_all(text, StrictLoader))) for text in texts.values())


@pytest.mark.parametrize("values", CI_VALUES.values(), ids=CI_VALUES)
def test_each_value_of_the_ci_files_has_an_effect(values: dict[str, Any]) -> None:
    for path in leaves(values):
        value: Any = functools.reduce(operator.getitem, path, values)
        if value is not None and value is not False:  # to which null is equal
            assert outcome(merged(values, nested(path, None))) != rendered(values), path


def test_the_ci_files_cover_nearly_all_values() -> None:
    given = [path for values in CI_VALUES.values() for path in leaves(values)]
    covered = {path[:depth] for path in given for depth in (1, 2)}
    missing = {".".join(path[:2]) for path in known(SCHEMA) if path[:2] not in covered}
    assert {name for name in missing if not name.startswith("podMonitor.")} == {
        "enabled", "hostNetwork", "podSecurityContext", "securityContext", "dashboards.labels",
        "nextmv.existingSecretKey", "podDisruptionBudget.maxUnavailable", "service.clusterIP",
        "terminationGracePeriodSeconds", "webConfig.tls",
    }  # fmt: skip


def test_an_upgrade_with_reused_values_ignores_and_reports_what_earlier_versions_had() -> None:
    given = DEMO | {"prometheusRule": {"enabled": True}}
    earlier = [nested(name.split("."), each["was"]) for name, each in RENAMED["retired"].items()]
    reused = functools.reduce(merged, earlier, merged(DEFAULTS, given))
    reused["podMonitor"] = DEFAULTS["serviceMonitor"]
    assert {"scrapeConfig", "httpRoute", "verticalPodAutoscaler"} <= reused.keys()
    assert rendered(reused) == rendered(given)
    used = merged(reused, {"httpRoute": {"enabled": True}})
    assert render(used) == render(given)
    assert "httpRoute.enabled: the chart makes no HTTPRoute" in notes(used)
    assert "scrapeConfig" not in notes(used)
    assert "--reset-then-reuse-values" in notes(used)


def test_the_chart_tells_the_defaults_and_choices_of_the_exporter() -> None:
    text = (CHART / "values.yaml").read_text()
    seen = set()
    for option in OPTIONS:
        section, _, flag = option.opts[0].removeprefix("--").partition(".")
        name = re.sub(r"-(\w)", lambda match: match[1].upper(), flag)
        found = re.search(rf"(?ms)^{section}:\n.*?^((?:  #[^\n]*\n)*)  {name}: (\S*)", text)
        if found and isinstance(option.default, str) and flag != "wait-buckets":
            seen.add(name)
            assert option.default in {*re.findall(r"`(\S+)`\.", found[1]), found[2]}
            if isinstance(option.type, click.Choice):
                offered = SCHEMA["properties"][section]["properties"][name]["enum"]
                assert set(offered) - {""} == set(option.type.choices)
    assert {"timeout", "source", "maxGroups", "telemetryPath", "level", "format"} <= seen


def known(schema: dict[str, Any], *above: str, foreign: bool = False) -> Iterator[tuple[str, ...]]:
    """The paths of all properties in the schema: the chart's own, or those that are only `true`."""
    for name, below in schema.get("properties", {}).items():
        if (below is True) is foreign:
            yield (*above, name)
        if below is not True and name not in {"resources", "attachMetadata"}:
            reference = below.get("$ref", "").rpartition("/")[2]
            yield from known(SCHEMA["$defs"].get(reference, below), *above, name, foreign=foreign)


def outcome(values: dict[str, Any]) -> dict[str, str] | str:
    """What the chart renders, or why it refuses the values."""
    try:
        return rendered(values)
    except (HelmValuesError, HelmRenderError) as refusal:
        return str(refusal)


def nulls(node: Any) -> bool:
    """Whether there is a null in a manifest's mappings and lists."""
    if isinstance(node, dict | list):
        return any(map(nulls, node.values() if isinstance(node, dict) else filter(None, node)))
    return node is None
