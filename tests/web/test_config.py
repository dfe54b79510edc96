"""The web configuration file: what is accepted and refused, at start and when it changes."""

import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.certificates import Authority, encrypt_key, issue_weak, write_rsa_key
from support.descriptors import no_descriptor_left
from support.logs import capture_logs
from support.programs import write_yaml

from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.web.config import web_config

HASH = "$2y$04$6aus7vu3fYi2BaMkV/5j9edJEU7erXDKJiw2uvPQJTBzFvSh9KSU6"
SERVER = {"cert_file": "server.pem", "key_file": "server.key"}
REQUIRED = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
IF_GIVEN = REQUIRED | {"client_auth_type": "VerifyClientCertIfGiven"}
GO_12 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
GO_13 = "TLS_AES_256_GCM_SHA384"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys, good and bad."""
    made = tmp_path_factory.mktemp("web")
    authority = Authority(made)
    authority.issue("server")
    authority.issue("other")
    encrypt_key(made / "server.key", made / "encrypted.key")
    issue_weak(made / "weak.pem")
    write_rsa_key(made / "rsa.key")
    (made / "garbage.pem").write_text("hunter2")
    return made


def tls(**keys: Any) -> dict[str, Any]:
    return {"tls_server_config": {**SERVER, **keys}}


def user(hashed: object, name: str = "alice") -> dict[str, Any]:
    return {"basic_auth_users": {name: hashed}}


def http(**keys: Any) -> dict[str, Any]:
    return {"http_server_config": keys}


GOOD: list[Any] = [
    None,
    "# nothing\n",
    tls(),
    tls(min_version="TLS12", max_version="TLS12"),
    tls(min_version="TLS13"),
    tls(cipher_suites=[GO_12, GO_13], prefer_server_cipher_suites=False),
    tls(client_auth_type="NoClientCert"),
    tls(client_auth_type="RequestClientCert"),
    tls(**REQUIRED),
    tls(**IF_GIVEN),
    "http_server_config:\n  http2: on\n  headers: {}\n",
    http(http2=False, headers={"X-Frame-Options": "deny", "X-XSS-Protection": 1}),
    http(headers={"Content-Security-Policy": "", "X-Content-Type-Options": "nosniff"}),
    {"basic_auth_users": {}},
    user(HASH, "bob@example.com") | user(HASH.replace("2y", "2b"), "Zoë"),
    user(HASH, ""),
    f"basic_auth_users:\n  1000: {HASH}\n",
]
PAIR = "tls_server_config: cert and key must be a PEM certificate and its key"
AUTHORITY = "tls_server_config: client_ca must be PEM certificates"
BAD: list[tuple[Any, str]] = [
    ("a: [", "is not valid YAML"),
    ("\xff\0", "is not valid YAML"),
    ("a: " + "[" * 1500, "is not valid YAML"),
    ("a: !!bool hunter2", "is not valid YAML"),
    ("[hunter2]", "dictionary"),
    ({"basic_auth_user": {"alice": HASH}}, "basic_auth_user: there is no such key"),
    ({HASH: "alice"}, "(not shown): there is no such key"),
    ({"rate_limit": {"interval": "1s"}}, "rate_limit: there is no such key"),
    ("basic_auth_users:\n", "basic_auth_users: Input should be a valid dictionary"),
    ({"basic_auth_users": [HASH]}, "basic_auth_users: "),
    (user("hunter2"), "basic_auth_users.alice: is not a bcrypt hash"),
    (user(HASH, HASH)["basic_auth_users"] and user("x", HASH), "basic_auth_users.(not shown): "),
    (user(HASH[:-1]), "basic_auth_users.alice: is not a bcrypt hash"),
    (user(HASH.replace("$04", "$99")), "basic_auth_users.alice: is not a bcrypt hash"),
    (user("$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00"), "basic_auth_users.alice: is not a bcrypt hash"),
    ({"http_server_config": []}, "http_server_config: "),
    (http(http2="maybe"), "http_server_config.http2: "),
    (http(headers={"X-Powered-By": "x"}), "headers.X-Powered-By: there is no such key"),
    (http(headers={"X-Frame-Options": "x"}), "headers.X-Frame-Options: "),
    (http(headers={"X-XSS-Protection": "a\nb: c"}), "headers.X-XSS-Protection: "),
    ("tls_server_config:\n", "tls_server_config: Input should be a valid dictionary"),
    ({"tls_server_config": {}}, PAIR),
    ({"tls_server_config": {"cert_file": "server.pem"}}, PAIR),
    (tls(client_ca_file=None), "tls_server_config.client_ca_file: Input should be a valid string"),
    (tls(certificate="x"), "tls_server_config.certificate: there is no such key"),
    (tls(client_allowed_sans=["x"]), "tls_server_config.client_allowed_sans: "),
    (
        tls(min_version="TLS11"),
        "tls_server_config.min_version: String should match pattern '^(TLS12|TLS13)$'",
    ),
    (tls(max_version="TLS10"), "tls_server_config.max_version: String should match"),
    (tls(min_version="TLS13", max_version="TLS12"), "is above max_version"),
    (tls(cipher_suites=[GO_13], max_version="TLS12"), "is above max_version"),
    (tls(cipher_suites=["TLS_RSA_WITH_RC4_128_SHA"]), "tls_server_config.cipher_suites.0: String"),
    (tls(client_auth_type="RequireAnyClientCert"), "client_auth_type: String should match"),
    (tls(client_auth_type="RequireAndVerifyClientCert"), AUTHORITY),
    (tls(client_auth_type="VerifyClientCertIfGiven"), AUTHORITY),
    (tls(client_ca_file="ca.pem"), "client_ca_file or client_ca needs a client_auth_type"),
    (tls(**REQUIRED | {"client_ca_file": "gone"}), "client_ca_file FOLDER/gone can't be read"),
    (tls(**REQUIRED | {"client_ca_file": "garbage.pem"}), AUTHORITY),
    (tls(cert_file="gone"), "cert_file FOLDER/gone can't be read: No such file or directory"),
    (tls(cert_file="."), "cert_file FOLDER can't be read: Is a directory"),
    *(
        (tls(**keys), PAIR)
        for keys in (
            {"cert_file": "garbage.pem"},
            {"cert_file": "", "cert": "hunter2"},
            {"cert_file": "weak.pem", "key_file": "weak.key"},
            {"key_file": "garbage.pem"},
            {"key_file": "", "key": "hunter2"},
            {"key_file": "other.key"},
            {"key_file": "rsa.key"},
            {"key_file": "encrypted.key"},
        )
    ),
]


def written(folder: Path, content: Any) -> Path:
    path = folder / "web.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("content", GOOD)
def test_a_good_file_is_accepted(folder: Path, content: Any) -> None:
    web_config(written(folder, content))


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")
@pytest.mark.parametrize("content", GOOD)
def test_prometheus_own_tool_accepts_a_good_file_too(folder: Path, content: Any) -> None:
    path = written(folder, content)
    checked = subprocess.run(
        ["promtool", "check", "web-config", path], capture_output=True, text=True, check=False
    )
    # Keys that are younger than some versions of promtool.
    younger = r"  line \d+: field (cert|client_ca) not found in .*"
    faults = checked.stderr.splitlines()[1:]
    assert checked.returncode == 0 or faults
    assert all(re.fullmatch(younger, fault) for fault in faults), checked.stderr


@pytest.mark.parametrize(("content", "fault"), BAD)
def test_a_bad_file_is_refused_with_its_fault_and_no_secret(
    folder: Path, content: Any, fault: str
) -> None:
    path = written(folder, content)
    with pytest.raises(ConfigurationError) as refused:
        web_config(path)
    assert str(refused.value).startswith(f"--web.config.file {path}")
    assert fault.replace("FOLDER", str(folder)) in str(refused.value)
    assert "\n" not in str(refused.value)
    for secret in ("hunter2", "$2y", "$apr1", "PRIVATE"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("tls_server_config", tls(), {}),
        ("tls_server_config", {}, tls()),
        ("basic_auth_users", user(HASH), {}),
        ("basic_auth_users", user(HASH), {"basic_auth_users": {}}),
        ("client_auth_type", tls(**REQUIRED), tls(**IF_GIVEN)),
        ("client_auth_type", tls(**REQUIRED), tls()),
        ("client_auth_type", tls(**IF_GIVEN), tls(client_auth_type="RequestClientCert")),
        ("min_version", tls(min_version="TLS13"), tls()),
        ("min_version", tls(cipher_suites=[GO_13]), tls(cipher_suites=[GO_12])),
        ("max_version", tls(), tls(max_version="TLS12")),
        ("cipher_suites", tls(cipher_suites=[GO_12]), tls()),
    ],
)
def test_protection_is_not_weakened_by_a_reload(
    folder: Path, key: str, before: Any, after: Any
) -> None:
    config = web_config(written(folder, before))
    was = config()
    written(folder, after)
    with capture_logs() as log:
        assert [config() for _ in range(3)] == [was] * 3
    [line] = log
    assert line["event"] == "Reload failed, keeping current web configuration"
    assert f"{key} can't be added, removed or weakened without a restart" in line["err"]
    written(folder, before | http(http2=False))
    assert config() != was


WHOLE = f"""
http_server_config:
  headers:
    Strict-Transport-Security: max-age=31536000
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  cipher_suites:
    - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
  min_version: TLS13
basic_auth_users:
  anna: {HASH}
  bert: {HASH}
"""
SECTIONS = [f"\n{section}" for section in re.split(r"\n(?=\w)", WHOLE.strip())]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_file_cut_at_any_byte_weakens_nothing(folder: Path, order: tuple[int, ...]) -> None:
    content = "".join(SECTIONS[number] for number in order)
    config = web_config(written(folder, content))
    authorities = (folder / "ca.pem").read_text()
    with capture_logs():
        for length in range(len(content)):
            written(folder, content[:length])
            now = config()
            assert now.tls_server_config
            assert now.tls_server_config.verify_mode == ssl.CERT_REQUIRED
            assert now.tls_server_config.client_ca == authorities
            assert now.tls_server_config.min_version == "TLS13"
            assert now.tls_server_config.cipher_suites
            assert {"anna"} <= now.basic_auth_users.keys() <= {"anna", "bert"}
            assert set(now.basic_auth_users.values()) == {HASH}
    written(folder, content)
    assert config().basic_auth_users.keys() == {"anna", "bert"}


def test_a_change_that_could_not_be_read_is_read_once_it_can(folder: Path) -> None:
    config = web_config(written(folder, tls() | user(HASH)))
    Authority(folder).issue("server")
    written(folder, tls() | user(HASH, "carl"))
    with no_descriptor_left(), capture_logs() as log:
        assert [set(config().basic_auth_users) for _ in range(3)] == [{"alice"}] * 3
    assert [line["event"] for line in log] == ["Reload failed, keeping current web configuration"]
    with capture_logs() as log:
        assert set(config().basic_auth_users) == {"carl"}
    assert [(line["event"], line["file"]) for line in log] == [
        ("Web configuration reloaded", str(folder / "web.yml"))
    ]
    new = config().tls_server_config
    assert new
    assert new.cert == (folder / "server.pem").read_text()


def test_a_certificate_and_its_key_may_be_replaced_one_after_the_other(folder: Path) -> None:
    write_yaml(folder / "web.yml", tls())
    config = web_config(folder / "web.yml")
    was = config()
    fresh = Authority(folder).issue("fresh")
    fresh.replace(folder / "server.pem")
    with capture_logs() as log:
        assert [config() for _ in range(2)] == [was] * 2
    assert "cert and key must be" in log[0]["err"]
    fresh.with_suffix(".key").replace(folder / "server.key")
    assert config() != was
