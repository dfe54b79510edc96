"""What the chart does with invalid values, and that schema, defaults and templates agree."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml
from helm_python import Chart, HelmRenderError, HelmValuesError

from nextmv_exporter.settings import OPTIONS

from .chart import CHART, DEMO, EVERYTHING, StrictLoader, render, rendered

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
README = (CHART / "README.md").read_text()
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

# Allowed without being a value: see their descriptions in the schema.
OPEN = {"enabled"}


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


def nulls(node: Any, path: str = "") -> Iterator[str]:
    """The paths of all nulls in a manifest."""
    if node is None:
        yield path
    elif isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from nulls(value, f"{path}.{key}")


def leaves(values: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The paths of all values that hold no others."""
    paths = list(value_paths(values, schema))
    return [path for path in paths if not any(each.startswith(f"{path}.") for each in paths)]


KEY_IN_ENVIRONMENT = {
    "nextmv": {"apiKey": ""},
    "extraEnv": [{"name": "NEXTMV_API_KEY", "value": "k"}],
}
NO_MONITORS = {
    each: {"enabled": False} for each in ("serviceMonitor", "podMonitor", "scrapeConfig")
}
# One of these is a valid value wherever the schema allows any.
CANDIDATES: tuple[Any, ...] = (
    True,
    False,
    7,
    0.9,
    "other",
    "7m",
    "7MiB",
    "/other",
    "Never",
    "debug",
    "json",
    "account-queue",
    "IfHealthyBudget",
    "RequestsOnly",
    "NodePort",
    "RequireDualStack",
    "None",
    "key: other",
    "https://other.example/",
    "sha256:" + "0" * 64,
    ["other"],
    ["7m"],
    ["cpu"],
    ["IPv6"],
    ["--other"],
    ["OpenMetricsText1.0.0"],
    [7],
    [{"name": "other"}],
    [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}],
    [{"host": "other", "paths": [{"path": "/", "pathType": "Exact"}]}],
    {"other": "other"},
    {"other": ["other"]},
    {"node": True},
    {"from": []},
    {"enabled": False},
    {"limits": {"memory": "1Gi"}},
    {"http_server_config": {"headers": {}}},
    {"other": 7},
    {"other": "7m"},
    {"other": 0.9},
)


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
        ({"queue": {"waitBuckets": ["0s"]}}, "waitBuckets"),
        ({"nextmv": {"timeout": "0s"}}, "timeout"),
        ({"nextmv": {"maxResponseBytes": "0"}}, "maxResponseBytes"),
        ({"nextmv": {"accountName": 7}}, "accountName"),
        ({"web": {"telemetryPath": "metrics"}}, "telemetryPath"),
        ({"webConfig": {"content": {"basic_auth_user": {}}}}, "basic_auth_user"),
        ({"log": {"level": "trace"}}, "level"),
        ({"image": {"repository": ""}}, "repository"),
        ({"image": {"repository": "registry.example.com/exporter:1.0"}}, "repository"),
        ({"image": {"repository": "registry.example.com//exporter"}}, "repository"),
        ({"image": {"repository": "registry.example.com/Exporter"}}, "repository"),
        ({"image": {"registry": "ghcr.io/"}}, "registry"),
        ({"global": {"imageRegistry": "https://ghcr.io"}}, "imageRegistry"),
        ({"image": {"tag": 1.1}}, "tag"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"replicas": "two"}, "replicas"),
        ({"containerPort": 70000}, "containerPort"),
        ({"extraArgs": ["web.timeout-offset=1s"]}, "extraArgs"),
        ({"extraEnv": {"HTTPS_PROXY": "x"}}, "extraEnv"),
        ({"extraEnv": [{"name": True, "value": "x"}]}, "extraEnv"),
        ({"resources": {"limit": {}}}, "limit"),
        ({"service": {"type": "ExternalName"}}, "type"),
        ({"service": {"sessionAffinity": "Cookie"}}, "sessionAffinity"),
        ({"networkPolicy": {"ingress": {"controllers": "nginx"}}}, "controllers"),
        ({"lifecycle": "sleep"}, "lifecycle"),
        ({"serviceMonitor": {"scrapeTimout": "10s"}}, "scrapeTimout"),
        ({"serviceMonitor": {"scrapeProtocols": ["OpenMetrics"]}}, "scrapeProtocols"),
        ({"podMonitor": {"attachMetadata": {"pod": True}}}, "attachMetadata"),
        ({"commonLabels": {"team": ["a"]}}, "commonLabels"),
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


PASSWORD = {"basic_auth_users": {"prometheus": "hash"}}
TLS = {"tls_server_config": {"cert_file": "a", "key_file": "b"}}
MUTUAL_TLS = {"tls_server_config": {"client_auth_type": "RequireAndVerifyClientCert"}}


@pytest.mark.parametrize("name", ["Error", "error"])
def test_a_profile_may_have_the_name_of_helms_own_error(name: str) -> None:
    file = yaml.safe_dump({name: {"apikey": "k", "endpoint": "api.cloud.nextmv.io"}})
    values = {"nextmv": {"configFile": file, "profiles": [name]}}
    assert render(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "set nextmv.existingSecret"),
        ({"demo": True, "nextmv": {"apiKey": "k"}}, "remove nextmv.apiKey, or demo"),
        (
            {"nextmv": {"apiKey": "k", "existingSecret": "s"}},
            "keep one of nextmv.apiKey, nextmv.existingSecret",
        ),
        (
            {"nextmv": {"existingSecret": "s", "profiles": ["staging"]}},
            "nextmv.existingSecret is not one: set nextmv.existingConfigSecret",
        ),
        ({"nextmv": {"apiKey": "k", "profiles": ["*"]}}, "nextmv.apiKey is not one"),
        (DEMO | {"nextmv": {"profiles": ["staging"]}}, "demo: true is not one"),
        (
            {
                "nextmv": {"profiles": ["staging"]},
                "extraEnv": [{"name": "NEXTMV_API_KEY", "value": "k"}],
            },
            "the environment is not one",
        ),
        ({"nextmv": {"configFile": "/root/.nextmv/config.yaml"}}, "--set-file nextmv.configFile"),
        (
            DEMO | {"image": {"registry": "ghcr.io", "repository": "ghcr.io/o/exporter"}},
            "remove the registry from image.repository",
        ),
        (
            DEMO
            | {
                "global": {"imageRegistry": "mirror.example.com"},
                "image": {"repository": "localhost:5000/exporter"},
            },
            "names the registry localhost:5000, and mirror.example.com is put before it",
        ),
        (DEMO | {"web": {"telemetryPath": "/sd"}}, "web.telemetryPath"),
        (DEMO | {"web": {"telemetryPath": "/-/ready"}}, "web.telemetryPath"),
        *(
            (DEMO | {"extraArgs": [given]}, "set web.telemetryPath in its place")
            for given in (
                "--web.telemetry-path=/m",
                "--web.telemetry-path",
                '--web.telemetry-{{ "path" }}=/m',
            )
        ),
        (
            DEMO | {"webConfig": {"content": TLS, "existingSecret": "s"}},
            "keep one of webConfig.content, webConfig.existingSecret",
        ),
        (DEMO | {"webConfig": {"tls": True}}, "set webConfig.content.tls_server_config"),
        (
            DEMO | {"webConfig": {"tls": True, "content": PASSWORD}},
            "set webConfig.content.tls_server_config",
        ),
        (
            DEMO | {"webConfig": {"basicAuth": True, "content": TLS}},
            "set webConfig.content.basic_auth_users",
        ),
        (
            DEMO | {"webConfig": {"clientCertificate": True}},
            "set webConfig.content.tls_server_config",
        ),
        (
            DEMO | {"webConfig": {"clientCertificate": True, "existingSecret": "s"}},
            "set webConfig.tls too",
        ),
        (DEMO | {"webConfig": {"tlsSecret": "s"}}, "webConfig.tlsSecret is only mounted"),
        *(
            (DEMO | {"webConfig": {"content": PASSWORD}, monitor: {"enabled": True}}, told)
            for monitor in ("serviceMonitor", "podMonitor", "scrapeConfig")
            for told in [f"set {monitor}.basicAuth"]
        ),
        *(
            (DEMO | {"webConfig": {"content": MUTUAL_TLS}, monitor: {"enabled": True}}, told)
            for monitor in ("serviceMonitor", "podMonitor", "scrapeConfig")
            for told in [f"set {monitor}.tlsConfig.cert"]
        ),
        (
            DEMO
            | {"podDisruptionBudget": {"enabled": True, "minAvailable": 0, "maxUnavailable": 1}},
            "takes one of",
        ),
        (DEMO | {"ingress": {"enabled": True, "hosts": []}}, "ingress.hosts"),
        (DEMO | {"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_cannot_work_are_rejected_with_what_to_do(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(HelmRenderError) as rejection:
        render(values)
    assert message in str(rejection.value)


@pytest.mark.parametrize(
    "values",
    [
        {"webConfig": {"tls": True}, "extraArgs": ["--web.config.file=/own/web.yml"]},
        {"webConfig": {"content": PASSWORD}, "serviceMonitor": {"enabled": False}},
        {
            "webConfig": {"content": PASSWORD},
            "serviceMonitor": {
                "enabled": True,
                "authorization": {"type": "Basic", "credentials": {"name": "s", "key": "k"}},
            },
        },
        {"image": {"registry": "ghcr.io", "repository": "owner/exporter"}},
        {"image": {"registry": "ghcr.io/owner", "repository": "exporter"}},
        {"image": {"repository": "localhost:5000/exporter"}},
    ],
)
def test_values_that_work_are_not_rejected(values: dict[str, Any]) -> None:
    assert render(DEMO | values)


def test_the_schema_and_the_defaults_know_the_same_values() -> None:
    assert set(closed_paths(SCHEMA)) == set(value_paths(DEFAULTS, SCHEMA))


@pytest.mark.parametrize("path", sorted(value_paths(DEFAULTS, SCHEMA)))
def test_every_value_may_be_null_or_is_named_when_it_may_not(path: str) -> None:
    """Helm removes a default that is set to null, so that templates see nothing there."""
    names = path.removeprefix(".").split(".")
    try:
        texts = rendered(merged(base(path), nested(names, None)))
    except (HelmValuesError, HelmRenderError) as rejection:
        message = str(rejection)
        assert names[-1] in message
        assert "nil pointer" not in message
        return
    for template, text in texts.items():
        assert "<no value>" not in text
        assert "%!" not in text
        if not template.endswith("NOTES.txt"):
            assert not list(nulls(list(yaml.load_all(text, StrictLoader))))


# Where EVERYTHING has no use for a value.
CONTEXTS: dict[str, dict[str, Any]] = {
    ".demo": KEY_IN_ENVIRONMENT,
    ".nextmv.configFile": KEY_IN_ENVIRONMENT,
    ".nextmv.existingSecret": KEY_IN_ENVIRONMENT,
    ".nextmv.existingConfigSecret": KEY_IN_ENVIRONMENT,
    ".nextmv.existingSecretKey": {"nextmv": {"apiKey": "", "existingSecret": "s"}},
    ".nextmv.existingConfigSecretKey": {"nextmv": {"apiKey": "", "existingConfigSecret": "s"}},
    ".nextmv.profiles": {"nextmv": {"apiKey": "", "existingConfigSecret": "s"}},
    ".service.nodePort": {"service": {"type": "NodePort"}},
    ".webConfig.basicAuth": {"webConfig": {"existingSecret": "s"}, **NO_MONITORS},
    ".webConfig.clientCertificate": {
        "webConfig": {"existingSecret": "s", "tls": True},
        **NO_MONITORS,
    },
    ".webConfig.content": NO_MONITORS,
    ".webConfig.existingSecretKey": {"webConfig": {"existingSecret": "s"}},
    ".webConfig.tls": {"webConfig": {"existingSecret": "s"}},
    ".webConfig.tlsSecret": {"webConfig": {"existingSecret": "s"}},
}


@pytest.mark.parametrize("path", sorted(leaves(DEFAULTS, SCHEMA)))
def test_every_value_has_an_effect(path: str) -> None:
    context = merged(base(path), CONTEXTS.get(path, {}))
    before = rendered(context)
    names = path.removeprefix(".").split(".")
    default = functools.reduce(lambda values, name: values[name], names, DEFAULTS)
    assert any(
        rendered_or_none(merged(context, nested(names, value))) not in (before, None)
        for value in CANDIDATES
        if default is None or isinstance(value, type(default))
    )


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
    [row] = [line for line in README.splitlines() if line.startswith(f"| {key} |")]
    assert row.split(" | ")[2].strip('`"') == option(flag).default


def option(flag: str) -> click.Option:
    """The exporter's option of a flag."""
    [found] = [each for each in OPTIONS if flag in each.opts]
    return found


def test_a_parent_chart_may_send_its_condition_and_its_globals() -> None:
    assert render(DEMO | {"enabled": True, "global": {"storageClass": "fast"}}) == render(DEMO)


def base(path: str) -> dict[str, Any]:
    """Values that make every resource; those that are long only when a path is about them."""
    long = {"dashboards", "prometheusRule"} - set(path.split("."))
    return {name: value for name, value in EVERYTHING.items() if name not in long}


def nested(names: list[str], value: Any) -> dict[str, Any]:
    """A value in mappings of these names."""
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Values and others over them, mapping by mapping."""
    both = {
        name: merged(value, others[name])
        for name, value in values.items()
        if isinstance(value, dict) and isinstance(others.get(name), dict)
    }
    return {**values, **others, **both}


def rendered_or_none(values: dict[str, Any]) -> dict[str, str] | None:
    """What the chart renders, or nothing where it rejects the values."""
    try:
        return rendered(values)
    except (HelmValuesError, HelmRenderError):
        return None
