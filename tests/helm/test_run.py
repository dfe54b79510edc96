"""The container that the chart renders, run for real with its files, and scraped."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.certificates import Authority
from support.fake_api import RUN, FakeAPI

from .chart import CI_VALUES, DEMO, merged
from .running import Pod, get
from .test_monitoring import README

pytestmark = pytest.mark.system

ACCOUNTS = "apikey: first\nstaging:\n  apikey: second\n"


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    with FakeAPI() as api:
        api.serves(RUN)
        yield api


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """The contents of a Secret of type kubernetes.io/tls."""
    path = Authority(tmp_path).issue("server")
    return {"tls.crt": path.read_text(), "tls.key": path.with_suffix(".key").read_text()}


def keys(api: FakeAPI) -> set[str]:
    """The keys that the API got."""
    return {each.headers["Authorization"].removeprefix("Bearer ") for each in api.requests}


def test_the_demo_answers_prometheus_its_probes_and_helm_test(tmp_path: Path) -> None:
    pod = Pod(DEMO, tmp_path)
    [names] = {text for text in README.splitlines() if text.startswith("    name[]")}
    own = yaml.safe_load(names)["name[]"]
    with pod.run():
        assert 'nextmv_up{account="demo"} 1.0' in get(f"{pod.url}/metrics")[1]
        text = get(f"{pod.url}/metrics?{'&'.join(f'name[]={name}' for name in own)}")[1]
        assert {name for name in own if f"# HELP {name.removesuffix('_info')}" in text} == set(own)
        assert "nextmv_up" not in text
        for probe in ("livenessProbe", "readinessProbe"):
            assert get(pod.url + pod.container[probe]["httpGet"]["path"])[0] == 200
        tested = pod.helm_test()
        assert (tested.returncode, tested.stderr) == (0, "")
        assert 'nextmv_up{account="demo"} 1.0' in tested.stdout


def test_helm_test_fails_if_an_account_cannot_be_read(tmp_path: Path, api: FakeAPI) -> None:
    api.answers(401)
    pod = Pod({"nextmv": {"apiKey": "wrong", "endpoint": api.url}}, tmp_path)
    with pod.run():
        tested = pod.helm_test()
    assert (tested.returncode, 'nextmv_up{account="default"} 0.0' in tested.stdout) == (1, True)
    assert tested.stderr == "an account cannot be read: see the exporter's log\n"


def test_a_key_rotated_in_an_existing_secret_needs_no_restart(tmp_path: Path, api: FakeAPI) -> None:
    values = {"nextmv": {"existingSecret": "own", "endpoint": api.url}}
    pod = Pod(values, tmp_path, {"own": {"api-key": "first"}})
    with pod.run():
        get(f"{pod.url}/metrics")
        assert keys(api) == {"first"}
        pod.mount({"own": {"api-key": "second\n"}})
        get(f"{pod.url}/metrics")
        assert keys(api) == {"first", "second"}


@pytest.mark.parametrize(
    ("nextmv", "accounts"),
    [
        ({"apiKey": "first"}, {"default": "first"}),
        ({"apiKey": "first", "accountName": "production"}, {"production": "first"}),
        ({"configFile": ACCOUNTS}, {"default": "first"}),
        ({"configFile": ACCOUNTS, "profiles": ["staging"]}, {"staging": "second"}),
        ({"configFile": ACCOUNTS, "profiles": ["*"]}, {"default": "first", "staging": "second"}),
    ],
)
def test_each_account_is_scraped_and_listed_in_the_container_by_its_name(
    tmp_path: Path, api: FakeAPI, nextmv: dict[str, object], accounts: dict[str, str]
) -> None:
    pod = Pod({"nextmv": {**nextmv, "endpoint": api.url}}, tmp_path)
    with pod.run():
        metrics = get(f"{pod.url}/metrics")[1]
        groups = json.loads(get(f"{pod.url}/sd")[1])
    assert {group["labels"]["__param_account"] for group in groups} == set(accounts)
    assert keys(api) == set(accounts.values())
    for account, key in accounts.items():
        assert f'nextmv_up{{account="{account}"}} 1.0' in metrics
        api.requests.clear()
        listed = pod.queue("--account", account)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert RUN["id"] in listed.stdout
        assert keys(api) == {key}


def test_every_flag_and_a_key_in_the_environment_are_accepted(
    tmp_path: Path, api: FakeAPI, certificate: dict[str, str]
) -> None:
    reference = {"secretKeyRef": {"name": "own", "key": "key"}}
    values = merged(
        CI_VALUES["flags"],
        {
            "nextmv": {"apiKey": None, "endpoint": api.url, "source": "account-queue"},
            "webConfig": {"basicAuth": None, "clientCertificate": None, "tls": True},
            "extraEnv": [{"name": "NEXTMV_API_KEY", "valueFrom": reference}],
        },
    )
    web = {"tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"}}
    secret = certificate | {"web.yml": yaml.safe_dump(web)}
    pod = Pod(values, tmp_path, {"own": {"key": "first"}, "nextmv-exporter-web": secret})
    with pod.run():
        metrics = get(f"{pod.url}/queue/metrics")[1]
    assert pod.url.startswith("https:")
    assert 'nextmv_up{account="production"} 1.0' in metrics
    assert 'execution_class="6c9500mb870s",le="3600.0"' in metrics
    assert keys(api) == {"first"}


def test_tls_and_passwords_protect_the_metrics_and_let_probes_in(
    tmp_path: Path, certificate: dict[str, str]
) -> None:
    values = CI_VALUES["protected"] | {"nextmv": {}, "demo": True}
    pod = Pod(values, tmp_path, {"nextmv-exporter-tls": certificate})
    with pod.run():
        assert get(f"{pod.url}/-/healthy")[0] == 200
        assert get(f"{pod.url}/metrics")[0] == 401
        password = base64.b64encode(b"prometheus:prometheus").decode()
        assert get(f"{pod.url}/metrics", Authorization=f"Basic {password}")[0] == 200
        tested = pod.helm_test()
    assert (tested.returncode, tested.stderr) == (0, "")
    assert "a password" in tested.stdout


def test_helm_test_only_connects_if_clients_need_a_certificate(
    tmp_path: Path, certificate: dict[str, str]
) -> None:
    directory = "/etc/nextmv-exporter/tls"
    tls = {
        "cert_file": f"{directory}/tls.crt",
        "key_file": f"{directory}/tls.key",
        "client_ca_file": f"{directory}/tls.crt",
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    web = {"tlsSecret": "tls", "content": {"tls_server_config": tls}}
    pod = Pod({**DEMO, "webConfig": web}, tmp_path, {"tls": certificate})
    with pod.run():
        tested = pod.helm_test()
    assert (tested.returncode, tested.stderr) == (0, "")
    assert "a certificate" in tested.stdout
