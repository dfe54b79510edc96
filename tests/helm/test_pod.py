"""The pods: their security, the flags of the exporter, and when they are replaced."""

from pathlib import Path
from typing import Any

import pytest

from nextmv_exporter.settings import OPTIONS

from .chart import (
    CHART,
    CI_VALUES,
    DEMO,
    KEY,
    ci_values,
    container,
    pod_template,
    render,
    render_kind,
)

FLAGS = {flag for option in OPTIONS for flag in option.opts}

each_ci_file = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)


@each_ci_file
def test_pods_meet_the_restricted_pod_security_standard(path: Path) -> None:
    for pod in pod_specs(ci_values(path)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC"))
        assert all("hostPath" not in volume for volume in pod.get("volumes", []))
        for each in pod["containers"] + pod.get("initContainers", []):
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in each["securityContext"]
            assert all("hostPort" not in port for port in each.get("ports", []))


@each_ci_file
def test_pods_hold_no_token_and_none_of_the_services_variables(path: Path) -> None:
    for pod in pod_specs(ci_values(path)):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


def test_the_service_account_brings_no_token_of_itself() -> None:
    assert render_kind("ServiceAccount", DEMO)["automountServiceAccountToken"] is False


@each_ci_file
def test_the_root_file_system_is_read_only(path: Path) -> None:
    for pod in pod_specs(ci_values(path)):
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


@each_ci_file
def test_every_flag_is_one_that_the_exporter_has(path: Path) -> None:
    flags = {argument.partition("=")[0] for argument in container(ci_values(path))["args"]}
    assert flags <= FLAGS


@each_ci_file
def test_no_secret_is_an_argument(path: Path) -> None:
    assert "not-a-real-key" not in str(pod_template(ci_values(path)))


def test_values_become_flags() -> None:
    assert container(ci_values(CHART / "ci" / "flags-values.yaml"))["args"] == [
        "--web.listen-address=:9000",
        "--web.telemetry-path=/queue/metrics",
        "--log.level=debug",
        "--log.format=json",
        "--nextmv.api-key-file=/etc/nextmv-exporter/key/api-key",
        "--nextmv.account-name=production",
        "--nextmv.endpoint=https://api.staging.example.com",
        "--nextmv.max-response-bytes=32MiB",
        "--nextmv.run-lookback=12h",
        "--nextmv.source=application-runs",
        "--nextmv.timeout=5s",
        "--queue.max-groups=500",
        "--queue.wait-buckets=30s,5m,1h",
        "--queue.zero-retention=1m30s",
        "--web.external-url=https://metrics.example.com/nextmv",
        "--web.timeout-offset=0.25s",
        "--web.timeout-offset=1s",
    ]


def test_profiles_become_flags() -> None:
    arguments = container(ci_values(CHART / "ci" / "config-file-values.yaml"))["args"]
    assert arguments[-3:] == [
        "--nextmv.config-file=/etc/nextmv-exporter/nextmv/config.yaml",
        "--nextmv.profile=default",
        "--nextmv.profile=staging",
    ]


@pytest.mark.parametrize(
    ("values", "secret", "key", "path"),
    [
        ({"nextmv": {"existingSecret": "own", "existingSecretKey": "k"}}, "own", "k", "api-key"),
        (
            {"nextmv": {"existingConfigSecret": "own", "existingConfigSecretKey": "k"}},
            "own",
            "k",
            "config.yaml",
        ),
        # The chart's own Secret has its own keys, whatever an existing one's would be called.
        (
            {"nextmv": {"apiKey": "key", "existingSecretKey": "k"}},
            "queue-nextmv-exporter",
            "api-key",
            "api-key",
        ),
    ],
)
def test_secrets_are_mounted_as_files(
    values: dict[str, Any], secret: str, key: str, path: str
) -> None:
    [volume] = pod_template(values)["spec"]["volumes"]
    assert volume["secret"] == {
        "secretName": secret,
        "defaultMode": 0o440,
        "items": [{"key": key, "path": path}],
    }


def test_all_of_the_secret_of_the_web_configuration_is_mounted() -> None:
    values = DEMO | {"webConfig": {"existingSecret": "own", "existingSecretKey": "web.yml"}}
    [volume] = pod_template(values)["spec"]["volumes"]
    assert volume["secret"] == {"secretName": "own", "defaultMode": 0o440}
    assert "--web.config.file=/etc/nextmv-exporter/web/web.yml" in container(values)["args"]


def test_the_charts_own_secret_is_mounted_in_part_beside_the_web_configuration() -> None:
    content = {"basic_auth_users": {"prometheus": "hash"}}
    _, web = pod_template(KEY | {"webConfig": {"content": content}})["spec"]["volumes"]
    assert web["secret"]["items"] == [{"key": "web-config.yml", "path": "web-config.yml"}]


@each_ci_file
def test_no_file_is_mounted_by_sub_path_which_would_hide_a_rotated_secret(path: Path) -> None:
    exporter = container(ci_values(path))
    files = {each for each in exporter["args"] if "=/etc/nextmv-exporter/" in each}
    mounts = exporter.get("volumeMounts", [])
    assert len(mounts) >= len(files)
    assert all("subPath" not in mount for mount in mounts)


@pytest.mark.parametrize(
    "change",
    [
        {"nextmv": {"apiKey": "another-key"}},
        {"webConfig": {"content": {"basic_auth_users": {"prometheus": "another-hash"}}}},
    ],
)
def test_pods_are_replaced_when_the_charts_own_secret_changes(change: dict[str, Any]) -> None:
    assert checksum(KEY) != checksum(KEY | change)


def test_pods_are_not_replaced_when_only_the_secrets_annotations_change() -> None:
    assert checksum(KEY) == checksum(KEY | {"secret": {"annotations": {"owner": "operations"}}})


def test_the_selector_stays_when_labels_and_versions_change() -> None:
    changed = render_kind("Deployment", DEMO | {"commonLabels": {"team": "a"}})
    assert changed["spec"]["selector"] == {
        "matchLabels": {
            "app.kubernetes.io/name": "nextmv-exporter",
            "app.kubernetes.io/instance": "queue",
        }
    }


@pytest.mark.parametrize(
    ("web_config", "scheme"),
    [
        ({}, "HTTP"),
        ({"content": {"basic_auth_users": {"prometheus": "hash"}}}, "HTTP"),
        ({"content": {"tls_server_config": {"cert_file": "a", "key_file": "b"}}}, "HTTPS"),
        ({"existingSecret": "own", "tls": True}, "HTTPS"),
    ],
)
def test_probes_speak_what_the_web_configuration_says(
    web_config: dict[str, Any], scheme: str
) -> None:
    exporter = container(DEMO | {"webConfig": web_config})
    assert exporter["livenessProbe"]["httpGet"] == {
        "path": "/-/healthy",
        "port": "http",
        "scheme": scheme,
    }
    assert exporter["readinessProbe"]["httpGet"] == {
        "path": "/-/ready",
        "port": "http",
        "scheme": scheme,
    }


@pytest.mark.parametrize(
    "web_config",
    [
        {
            "content": {
                "tls_server_config": {
                    "cert_file": "a",
                    "key_file": "b",
                    "client_ca_file": "c",
                    "client_auth_type": "RequireAndVerifyClientCert",
                }
            }
        },
        {"existingSecret": "own", "tls": True, "clientCertificate": True},
    ],
)
def test_probes_run_in_the_container_where_clients_need_a_certificate(
    web_config: dict[str, Any],
) -> None:
    """The kubelet has no certificate to show."""
    exporter = container(DEMO | {"webConfig": web_config, "containerPort": 9000})
    for probe in (exporter["livenessProbe"], exporter["readinessProbe"]):
        assert "httpGet" not in probe
        assert probe["exec"]["command"] == [
            "nextmv-exporter",
            "--web.healthcheck",
            "--web.listen-address=:9000",
            "--web.config.file=/etc/nextmv-exporter/web/web-config.yml",
        ]
        assert set(probe["exec"]["command"][2:]) <= set(exporter["args"])
        assert probe["timeoutSeconds"] == 5


def test_the_probe_uses_a_web_configuration_that_an_extra_flag_names() -> None:
    values = DEMO | {
        "webConfig": {"tls": True, "clientCertificate": True},
        "extraArgs": ["--web.config.file=/own/web.yml", "--web.timeout-offset=1s"],
    }
    assert container(values)["livenessProbe"]["exec"]["command"] == [
        "nextmv-exporter",
        "--web.healthcheck",
        "--web.listen-address=:10057",
        "--web.config.file=/own/web.yml",
    ]


def test_certificates_that_clients_may_leave_out_change_no_probe() -> None:
    tls = {"cert_file": "a", "key_file": "b", "client_auth_type": "VerifyClientCertIfGiven"}
    exporter = container(DEMO | {"webConfig": {"content": {"tls_server_config": tls}}})
    assert exporter["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.parametrize(
    "handler",
    [{"tcpSocket": {"port": "http"}}, {"exec": {"command": ["true"]}}, {"grpc": {"port": 1}}],
)
def test_a_probe_of_another_kind_replaces_the_request(handler: dict[str, Any]) -> None:
    """Helm merges it into the default; Kubernetes accepts one kind only."""
    assert container(DEMO | {"livenessProbe": handler})["livenessProbe"] == {
        **handler,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }


def test_probes_can_be_turned_off() -> None:
    assert "livenessProbe" not in container({**DEMO, "livenessProbe": None})


@pytest.mark.parametrize(
    ("given", "hooks"),
    [
        ({}, {"preStop": {"exec": {"command": ["sleep", "5"]}}}),
        ({"preStop": {"sleep": {"seconds": 9}}}, {"preStop": {"sleep": {"seconds": 9}}}),
        (
            {"preStop": {"exec": {"command": ["sleep", "9"]}}},
            {"preStop": {"exec": {"command": ["sleep", "9"]}}},
        ),
        (
            {"preStop": None, "postStart": {"exec": {"command": ["true"]}}},
            {"postStart": {"exec": {"command": ["true"]}}},
        ),
        ({"preStop": {"exec": None}}, None),
        ({"preStop": None}, None),
        (None, None),
    ],
)
def test_a_pod_that_ends_listens_until_the_service_knows(
    given: dict[str, Any] | None, hooks: dict[str, Any] | None
) -> None:
    """Kubernetes accepts one kind of handler in a hook, and none that is empty."""
    assert container({**DEMO, "lifecycle": given}).get("lifecycle") == hooks


def test_the_sleep_and_the_exporters_end_fit_into_the_time_that_a_pod_has_to_stop() -> None:
    pod = pod_template(DEMO)["spec"]
    [command] = [hook["exec"]["command"] for hook in pod["containers"][0]["lifecycle"].values()]
    program, seconds = command
    assert program == "sleep"
    # Its own end takes 5 s at most; see docs/scaling.md.
    assert int(seconds) + 5 < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        (
            {},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        ),
        ({"type": "Recreate"}, {"type": "Recreate"}),
        ({"type": "Recreate", "rollingUpdate": {"maxSurge": 2}}, {"type": "Recreate"}),
    ],
)
def test_pods_are_replaced_by(given: dict[str, Any], strategy: dict[str, Any]) -> None:
    """Kubernetes rejects `rollingUpdate`, which is among the defaults, with Recreate."""
    assert render_kind("Deployment", DEMO | {"strategy": given})["spec"]["strategy"] == strategy


def test_the_number_of_pods_may_be_left_to_an_autoscaler() -> None:
    assert "replicas" not in render_kind("Deployment", {**DEMO, "replicas": None})["spec"]
    assert render_kind("Deployment", DEMO | {"replicas": 0})["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ({}, None),
        ({"hostNetwork": True}, "ClusterFirstWithHostNet"),
        ({"hostNetwork": True, "dnsPolicy": "Default"}, "Default"),
    ],
)
def test_the_network_of_the_node_comes_with_a_dns_policy_for_it(
    values: dict[str, Any], policy: str | None
) -> None:
    pod = pod_template(DEMO | values)["spec"]
    assert pod.get("hostNetwork", False) is values.get("hostNetwork", False)
    assert pod.get("dnsPolicy") == policy


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "nextmv-exporter:0.1.0"),
        (
            {"image": {"repository": "registry.example.com/queue"}},
            "registry.example.com/queue:0.1.0",
        ),
        (
            {"image": {"registry": "a.example.com", "tag": "edge"}},
            "a.example.com/nextmv-exporter:edge",
        ),
        (
            {"global": {"imageRegistry": "b.example.com"}, "image": {"registry": "a.example.com"}},
            "b.example.com/nextmv-exporter:0.1.0",
        ),
        (
            {"image": {"tag": "edge", "digest": "sha256:" + "0" * 64}},
            "nextmv-exporter@sha256:" + "0" * 64,
        ),
    ],
)
def test_the_image_is_named_by(values: dict[str, Any], image: str) -> None:
    assert {pod["containers"][0]["image"] for pod in pod_specs(DEMO | values)} == {image}


def test_pull_secrets_may_be_names_or_references() -> None:
    values = DEMO | {
        "imagePullSecrets": ["a", {"name": "b"}, {"name": "c"}],
        "global": {"imagePullSecrets": ["c", {"name": "a"}]},
    }
    for pod in pod_specs(values):
        assert pod["imagePullSecrets"] == [{"name": "c"}, {"name": "a"}, {"name": "b"}]


def pod_specs(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The specifications of all pods: the exporter's and the test's."""
    manifests = render(values)
    specs = [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"] + [
        m["spec"] for m in manifests if m["kind"] == "Pod"
    ]
    assert len(specs) == 1 + values.get("test", {}).get("enabled", True)
    return specs


def checksum(values: dict[str, Any]) -> str:
    """What changes when the pods must be replaced."""
    annotations: dict[str, str] = pod_template(values)["metadata"]["annotations"]
    return annotations["checksum/secret"]
