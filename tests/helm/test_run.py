"""The container that the chart renders, run for real with its files, and scraped."""

import base64
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.certificates import Authority
from support.fake_api import RUN, FakeAPI

from .chart import CI_VALUES, DEMO, merged
from .running import Pod
from .test_monitoring import README

pytestmark = pytest.mark.system

FILE = "configFile: '{apikey: first, staging: {apikey: second}}'"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        api.serves(RUN)
        yield api


def secret(authority: Authority, **others: str) -> dict[str, str]:
    """The contents of a Secret of type kubernetes.io/tls, and others."""
    path = authority.issue("server")
    files = {"tls.crt": path.read_text(), "tls.key": path.with_suffix(".key").read_text()}
    return files | {"ca.crt": (authority.folder / "ca.pem").read_text(), **others}


def keys(api: FakeAPI) -> set[str]:
    """The keys that the API got."""
    return {each.headers["Authorization"].removeprefix("Bearer ") for each in api.requests}


def test_the_demo_answers_prometheus_its_probes_and_helm_test(tmp_path: Path) -> None:
    pod = Pod(DEMO, tmp_path)
    [names] = {text for text in README.splitlines() if text.startswith("    name[]")}
    own = yaml.safe_load(names)["name[]"]
    with pod.run() as exporter:
        assert 'nextmv_up{account="demo"} 1.0' in exporter.get("/metrics").body
        text = exporter.get(f"/metrics?{'&'.join(f'name[]={name}' for name in own)}").body
        assert {name for name in own if f"# HELP {name.removesuffix('_info')}" in text} == set(own)
        assert "nextmv_up" not in text
        for probe in ("livenessProbe", "readinessProbe"):
            assert exporter.get(pod.container[probe]["httpGet"]["path"]).status == 200
        tested = pod.helm_test(exporter)
        assert (tested.returncode, tested.stderr) == (0, "")
        assert 'nextmv_up{account="demo"} 1.0' in tested.stdout


def test_helm_test_fails_if_an_account_cannot_be_read(tmp_path: Path, api: FakeAPI) -> None:
    api.answers(401)
    pod = Pod({"nextmv": {"apiKey": "wrong", "endpoint": api.url}}, tmp_path)
    with pod.run() as exporter:
        tested = pod.helm_test(exporter)
    assert tested.returncode == 1
    assert tested.stderr == "an account cannot be read: see the exporter's log\n"


def test_a_key_rotated_in_an_existing_secret_needs_no_restart(tmp_path: Path, api: FakeAPI) -> None:
    values = {"nextmv": {"existingSecret": "own", "endpoint": api.url}}
    pod = Pod(values, tmp_path, {"own": {"api-key": "first"}})
    with pod.run() as exporter:
        exporter.get("/metrics")
        assert keys(api) == {"first"}
        pod.mount({"own": {"api-key": "second\n"}})
        exporter.get("/metrics")
        assert keys(api) == {"first", "second"}


@pytest.mark.parametrize(
    ("nextmv", "accounts"),
    [
        ("apiKey: first", {"default": "first"}),
        ("apiKey: first, accountName: production", {"production": "first"}),
        (FILE, {"default": "first"}),
        (f"{FILE}, profiles: [staging]", {"staging": "second"}),
        (f"{FILE}, profiles: ['*'], accountName: a", {"a": "first", "staging": "second"}),
    ],
)
def test_each_account_is_scraped_and_listed_in_the_container_by_its_name(
    tmp_path: Path, api: FakeAPI, nextmv: str, accounts: dict[str, str]
) -> None:
    pod = Pod(f"nextmv: {{endpoint: '{api.url}', {nextmv}}}", tmp_path)
    with pod.run() as exporter:
        metrics = exporter.get("/metrics").body
        groups = json.loads(exporter.get("/sd").body)
    assert {group["labels"]["__param_account"] for group in groups} == set(accounts)
    assert keys(api) == set(accounts.values())
    for account, key in accounts.items():
        assert f'nextmv_up{{account="{account}"}} 1.0' in metrics
        api.requests.clear()
        listed = pod.queue("--account", account)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert RUN["id"] in listed.stdout
        assert keys(api) == {key}


def test_every_flag_and_a_key_in_the_environment_are_accepted(tmp_path: Path, api: FakeAPI) -> None:
    key = {"name": "NEXTMV_API_KEY", "valueFrom": {"secretKeyRef": {"name": "own", "key": "key"}}}
    changes = {
        "nextmv": {"apiKey": None, "endpoint": api.url, "source": "account-queue"},
        "webConfig": {"basicAuth": None, "clientCertificate": None, "tls": True},
        "extraEnv": [key],
    }
    web = {"tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"}}
    authority = Authority(tmp_path)
    contents = secret(authority, **{"web.yml": yaml.safe_dump(web)})
    secrets = {"own": {"key": "first"}, "nextmv-exporter-web": contents}
    with Pod(merged(CI_VALUES["flags"], changes), tmp_path, secrets).run() as exporter:
        metrics = exporter.get("/queue/metrics", tls=authority.client()).body
    assert 'nextmv_up{account="production"} 1.0' in metrics
    assert 'execution_class="6c9500mb870s",le="3600.0"' in metrics
    assert keys(api) == {"first"}


def test_tls_and_passwords_protect_the_metrics_and_let_probes_in(tmp_path: Path) -> None:
    values = CI_VALUES["protected"] | {"nextmv": {}, "demo": True}
    authority = Authority(tmp_path)
    pod = Pod(values, tmp_path, {"nextmv-exporter-tls": secret(authority)})
    password = {"Authorization": f"Basic {base64.b64encode(b'prometheus:prometheus').decode()}"}
    with pod.run() as exporter:
        get = functools.partial(exporter.get, tls=authority.client())
        assert get("/-/healthy").status == 200
        assert get("/metrics").status == 401
        assert get("/metrics", headers=password).status == 200
        tested = pod.helm_test(exporter)
    assert (tested.returncode, tested.stderr) == (0, "")
    assert "needs a password" in tested.stdout


def test_helm_test_only_connects_if_clients_need_a_certificate(tmp_path: Path) -> None:
    files = {"cert_file": "tls.crt", "key_file": "tls.key", "client_ca_file": "ca.crt"}
    web = {"tls_server_config": files | {"client_auth_type": "RequireAndVerifyClientCert"}}
    contents = secret(Authority(tmp_path), **{"web-config.yml": yaml.safe_dump(web)})
    values = "demo: true, webConfig: {existingSecret: web, clientCertificate: true}"
    pod = Pod(values, tmp_path, {"web": contents})
    with pod.run() as exporter:
        tested = pod.helm_test(exporter)
    assert (tested.returncode, tested.stderr) == (0, "")
    assert "needs a certificate" in tested.stdout
