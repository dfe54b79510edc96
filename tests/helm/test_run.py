"""The container that the chart renders, run for real with its files, and scraped."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import yaml

from .chart import CHART, DEMO, ci_values, container
from .conftest import NextmvAPI
from .running import RunningPod, get

UP = 'nextmv_up{account="default"} 1.0'


def test_the_demo_is_scraped(tmp_path: Path) -> None:
    with RunningPod(DEMO, tmp_path).run() as pod:
        status, metrics = get(pod.url + "/metrics")
        assert status == 200
        assert 'nextmv_up{account="demo"} 1.0' in metrics
        assert 'nextmv_account_queue_runs{account="demo",status_v2="queued"}' in metrics


def test_probes_are_answered(tmp_path: Path) -> None:
    with RunningPod(DEMO, tmp_path).run() as pod:
        for probe in ("livenessProbe", "readinessProbe"):
            assert get(pod.url + pod.container[probe]["httpGet"]["path"])[0] == 200


def test_the_key_in_the_charts_secret_is_sent_to_the_api(
    tmp_path: Path, nextmv_api: NextmvAPI
) -> None:
    values = {"nextmv": {"apiKey": "not-a-real-key", "endpoint": nextmv_api.url}}
    with RunningPod(values, tmp_path).run() as pod:
        assert UP in get(pod.url + "/metrics")[1]
        assert set(nextmv_api.received) == {"not-a-real-key"}


def test_a_key_rotated_in_an_existing_secret_needs_no_restart(
    tmp_path: Path, nextmv_api: NextmvAPI
) -> None:
    values = {"nextmv": {"existingSecret": "own", "endpoint": nextmv_api.url}}
    with RunningPod(values, tmp_path, {"own": {"api-key": "not-a-real-key"}}).run() as pod:
        assert UP in get(pod.url + "/metrics")[1]
        nextmv_api.keys = {"rotated"}
        pod.mount({"own": {"api-key": "rotated\n"}})
        assert UP in get(pod.url + "/metrics")[1]
        assert nextmv_api.received[-1] == "rotated"


def test_the_runs_can_be_listed_in_the_container_with_the_same_key(
    tmp_path: Path, nextmv_api: NextmvAPI
) -> None:
    values = {"nextmv": {"apiKey": "not-a-real-key", "endpoint": nextmv_api.url}}
    listed = RunningPod(values, tmp_path).run_queue("--json")
    assert listed.returncode == 0, listed.stderr
    assert nextmv_api.received == ["not-a-real-key"]


def test_the_runs_are_listed_in_the_container_with_the_exporters_timeout(
    tmp_path: Path, nextmv_api: NextmvAPI
) -> None:
    nextmv_api.delay = 4
    values = {"nextmv": {"apiKey": "not-a-real-key", "endpoint": nextmv_api.url, "timeout": "1s"}}
    listed = RunningPod(values, tmp_path).run_queue()
    assert listed.returncode == 1
    assert "timed out" in listed.stderr


def test_the_runs_of_a_profile_can_be_listed_in_the_container(
    tmp_path: Path, nextmv_api: NextmvAPI
) -> None:
    values = ci_values(CHART / "ci" / "config-file-values.yaml")
    values["nextmv"]["endpoint"] = nextmv_api.url
    nextmv_api.keys = {yaml.safe_load(values["nextmv"]["configFile"])["staging"]["apikey"]}
    pod = RunningPod(values, tmp_path)
    assert pod.run_queue("--profile", "staging").returncode == 0
    assert "choose one of default, staging" in pod.run_queue().stderr


def test_a_variable_that_is_given_goes_before_the_charts_own() -> None:
    values = {
        "nextmv": {"apiKey": "k", "endpoint": "https://a.example"},
        "extraEnv": [{"name": "NEXTMV_ENDPOINT", "value": "https://b.example"}],
    }
    variables = [(each["name"], each["value"]) for each in container(values)["env"]]
    assert variables == [
        ("NEXTMV_API_KEY_FILE", "/etc/nextmv-exporter/key/api-key"),
        ("NEXTMV_ENDPOINT", "https://b.example"),
    ]


def test_the_profiles_of_a_configuration_file_are_accounts_and_targets(
    tmp_path: Path, nextmv_api: NextmvAPI
) -> None:
    values = ci_values(CHART / "ci" / "config-file-values.yaml")
    keys = yaml.safe_load(values["nextmv"]["configFile"])
    nextmv_api.keys = {keys["apikey"], keys["staging"]["apikey"]}
    values["nextmv"]["endpoint"] = nextmv_api.url
    with RunningPod(values, tmp_path).run() as pod:
        metrics = get(pod.url + "/metrics")[1]
        assert UP in metrics
        assert 'nextmv_up{account="staging"} 1.0' in metrics
        groups = json.loads(get(pod.url + "/sd")[1])
        assert {group["labels"]["__param_account"] for group in groups} == {"default", "staging"}


def test_a_scrape_config_is_sent_back_to_the_service_that_it_asked(tmp_path: Path) -> None:
    running = RunningPod(DEMO | {"scrapeConfig": {"enabled": True}}, tmp_path)
    config, own = (each for each in running.manifests if each["kind"] == "ScrapeConfig")
    asked = urlsplit(config["spec"]["httpSDConfigs"][0]["url"])
    with running.run() as pod:
        [group] = json.loads(get(pod.url + asked.path, Host=asked.netloc)[1])
        everything = metric_names(get(pod.url + "/metrics")[1])
        account = metric_names(get(pod.url + "/metrics?account=demo")[1])
        query = urlencode(own["spec"]["params"], doseq=True)
        asked_for = metric_names(get(f"{pod.url}{own['spec']['metricsPath']}?{query}")[1])
    assert group["targets"] == [asked.netloc]
    assert group["labels"]["__param_account"] == "demo"
    assert "nextmv_exporter_build_info" in asked_for
    assert asked_for == everything - account


def test_the_key_may_come_from_the_environment(tmp_path: Path, nextmv_api: NextmvAPI) -> None:
    reference = {"secretKeyRef": {"name": "own", "key": "key"}}
    values = {
        "nextmv": {"endpoint": nextmv_api.url},
        "extraEnv": [{"name": "NEXTMV_API_KEY", "valueFrom": reference}],
    }
    with RunningPod(values, tmp_path, {"own": {"key": "not-a-real-key"}}).run() as pod:
        assert UP in get(pod.url + "/metrics")[1]


def test_every_flag_of_the_chart_is_accepted(tmp_path: Path, nextmv_api: NextmvAPI) -> None:
    values = ci_values(CHART / "ci" / "flags-values.yaml")
    values["nextmv"] |= {"endpoint": nextmv_api.url, "source": "account-queue"}
    with RunningPod(values, tmp_path).run() as pod:
        metrics = get(pod.url + "/queue/metrics")[1]
        assert UP.replace("default", "production") in metrics
        assert (
            'nextmv_account_queue_wait_seconds_bucket{account="production",execution_class="6c9500mb870s",le="3600.0"}'
            in metrics
        )


def test_tls_and_passwords_protect_the_metrics_and_let_probes_in(
    tmp_path: Path, certificate: dict[str, str]
) -> None:
    values = ci_values(CHART / "ci" / "web-config-values.yaml")
    with RunningPod(values, tmp_path, {"nextmv-exporter-tls": certificate}).run() as pod:
        assert pod.url.startswith("https://")
        assert get(pod.url + "/-/healthy")[0] == 200
        assert get(pod.url + "/metrics")[0] == 401
        password = base64.b64encode(b"prometheus:prometheus").decode()
        assert get(pod.url + "/metrics", Authorization=f"Basic {password}")[0] == 200
        tested = pod.run_helm_test()
        assert tested.returncode == 0, tested.stderr
        assert "asks for a password" in tested.stdout


def test_a_web_configuration_names_a_certificate_in_its_own_secret(
    tmp_path: Path, certificate: dict[str, str]
) -> None:
    values = DEMO | {"webConfig": {"existingSecret": "own", "tls": True}}
    web = {"tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"}}
    own = certificate | {"web-config.yml": yaml.safe_dump(web)}
    with RunningPod(values, tmp_path, {"own": own}).run() as pod:
        assert pod.url.startswith("https://")
        assert get(pod.url + "/metrics")[0] == 200


def mutual_tls(authority: str, version: str = "TLS13") -> dict[str, Any]:
    """Values of an exporter that asks every client for a certificate."""
    values = ci_values(CHART / "ci" / "web-config-values.yaml")
    values["webConfig"]["content"]["tls_server_config"] |= {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca": authority,
        "max_version": version,
    }
    values["serviceMonitor"]["tlsConfig"] |= {
        "cert": {"secret": {"name": "client", "key": "tls.crt"}},
        "keySecret": {"name": "client", "key": "tls.key"},
    }
    return values


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_helm_test_accepts_that_clients_need_a_certificate(
    tmp_path: Path, certificate: dict[str, str], version: str
) -> None:
    values = mutual_tls(certificate["tls.crt"], version)
    with RunningPod(values, tmp_path, {"nextmv-exporter-tls": certificate}).run() as pod:
        tested = pod.run_helm_test()
        assert tested.returncode == 0, tested.stderr
        assert "asks for a client certificate" in tested.stdout


def test_probes_are_answered_where_clients_need_a_certificate(
    tmp_path: Path, certificate: dict[str, str]
) -> None:
    values = mutual_tls(certificate["tls.crt"])
    running = RunningPod(values, tmp_path, {"nextmv-exporter-tls": certificate})
    with running.run() as pod:
        for probe in ("livenessProbe", "readinessProbe"):
            probed = pod.run_probe(probe)
            assert probed.returncode == 0, probed.stderr
    assert running.run_probe("livenessProbe").returncode == 1


def test_helm_test_passes_when_the_account_is_up(tmp_path: Path) -> None:
    with RunningPod(DEMO, tmp_path).run() as pod:
        tested = pod.run_helm_test()
        assert (tested.returncode, tested.stderr) == (0, "")
        assert 'nextmv_up{account="demo"} 1.0' in tested.stdout


def test_helm_test_fails_when_the_key_is_refused(tmp_path: Path, nextmv_api: NextmvAPI) -> None:
    values = {"nextmv": {"apiKey": "wrong", "endpoint": nextmv_api.url}}
    with RunningPod(values, tmp_path).run() as pod:
        tested = pod.run_helm_test()
        assert tested.returncode == 1
        assert 'nextmv_up{account="default"} 0.0' in tested.stdout
        assert tested.stderr == "an account cannot be read: see the exporter's log\n"


def metric_names(exposition: str) -> set[str]:
    """The names of all series in a scrape."""
    lines = [line for line in exposition.splitlines() if not line.startswith("#")]
    return {re.split(r"[{ ]", line)[0] for line in lines}


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """The contents of a Secret of type kubernetes.io/tls."""
    directory = tmp_path / "certificate"
    directory.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", "tls.key", "-out", "tls.crt"],
        cwd=directory,
        check=True,
        capture_output=True,
    )  # fmt: skip
    return {name: (directory / name).read_text() for name in ("tls.crt", "tls.key")}
