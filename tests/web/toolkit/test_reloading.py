"""The web configuration follows its files, whatever keeps them from being read meanwhile."""

import itertools
import re
import ssl
from pathlib import Path

import pytest
from support.certificates import Authority
from support.descriptors import no_descriptor_left
from support.harness import write_yaml
from support.logs import capture_logs

from nextmv_exporter.nextmv.errors import UnreadableFileError
from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig

HASH = "$2y$04$" + "." * 53


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def test_a_user_removed_while_no_file_could_be_opened_is_removed_once_one_can(file: Path) -> None:
    write_yaml(file, {"basic_auth_users": {"anna": HASH, "bert": HASH}})
    web_config = ReloadingWebConfig(file)
    write_yaml(file, {"basic_auth_users": {"carl": HASH}})
    with no_descriptor_left(), capture_logs() as logs:
        assert [set(web_config.config().basic_auth_users) for _ in range(3)] == [
            {"anna", "bert"}
        ] * 3
    assert [entry["event"] for entry in logs] == [
        "Reload failed, keeping current web configuration"
    ]
    with capture_logs() as logs:
        assert set(web_config.config().basic_auth_users) == {"carl"}
    assert [(entry["event"], entry["file"]) for entry in logs] == [
        ("Web configuration reloaded", str(file))
    ]


@pytest.mark.parametrize("inline", [False, True])
def test_a_certificate_replaced_while_no_file_could_be_opened_is_loaded_once_one_can(
    file: Path, authority: Authority, inline: bool
) -> None:
    names = {"cert_file": "server.pem", "key_file": "server.key"}
    inlined = {
        name.removesuffix("_file"): (file.parent / path).read_text() for name, path in names.items()
    }
    write_yaml(file, {"tls_server_config": names})
    web_config = ReloadingWebConfig(file)
    before = web_config.context()
    authority.issue("server")
    write_yaml(file, {"tls_server_config": inlined if inline else names})
    with no_descriptor_left():
        assert web_config.context() is before
    assert web_config.context() is not before


def test_a_certificate_that_alone_could_not_be_read_is_read_again(
    file: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fault of the system can be timed to hit one file of several, so reading is replaced."""
    names = {"cert_file": "server.pem", "key_file": "server.key"}
    write_yaml(file, {"tls_server_config": names})
    web_config = ReloadingWebConfig(file)
    before = web_config.context()
    authority.issue("server")

    def unreadable(path: Path, description: str) -> bytes:
        raise UnreadableFileError(f"{description} {path} can't be read: Input/output error")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr("nextmv_exporter.web.toolkit.tls.read", unreadable)
        assert web_config.context() is before
    assert logs[0]["err"].startswith(f"--web.config.file {file}: tls_server_config.cert_file ")
    assert web_config.context() is not before


@pytest.mark.parametrize(
    "text", ["basic_auth_users: !!map [a]", "!!timestamp x", "a: !!bool SECR", "a: !!int ''"]
)
def test_a_value_that_does_not_fit_its_tag_is_one_line_at_reload_too(file: Path, text: str) -> None:
    write_yaml(file, {"basic_auth_users": {"anna": HASH}})
    web_config = ReloadingWebConfig(file)
    file.write_text(text)
    with capture_logs() as logs:
        assert [set(web_config.config().basic_auth_users) for _ in range(3)] == [{"anna"}] * 3
    [line] = logs
    assert line["err"] == f"--web.config.file {file} is not valid YAML"


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


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_file_cut_at_any_byte_weakens_nothing(
    file: Path, authority: Authority, order: tuple[int, ...]
) -> None:
    content = "".join(SECTIONS[number] for number in order).encode()
    file.write_bytes(content)
    web_config = ReloadingWebConfig(file)
    with capture_logs():
        for length in range(len(content)):
            file.write_bytes(content[:length])
            context = web_config.context()
            assert context.verify_mode == ssl.CERT_REQUIRED
            assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
            assert context.minimum_version == ssl.TLSVersion.TLSv1_3
            assert len(cipher_suites_of_tls_1_2(context)) <= 2
            users = web_config.config().basic_auth_users
            assert {"anna"} <= users.keys() <= {"anna", "bert"}
            assert set(users.values()) == {HASH}
    file.write_bytes(content)
    assert web_config.config().basic_auth_users.keys() == {"anna", "bert"}


def test_cipher_suites_may_be_replaced_but_not_dropped(file: Path, authority: Authority) -> None:
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    both = ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    write_yaml(file, {"tls_server_config": {**tls, "cipher_suites": [*both]}})
    web_config = ReloadingWebConfig(file)
    write_yaml(file, {"tls_server_config": {**tls, "cipher_suites": [both[1]]}})
    assert cipher_suites_of_tls_1_2(web_config.context()) == ["ECDHE-ECDSA-AES128-GCM-SHA256"]
    write_yaml(file, {"tls_server_config": tls})
    with capture_logs() as logs:
        assert cipher_suites_of_tls_1_2(web_config.context()) == ["ECDHE-ECDSA-AES128-GCM-SHA256"]
    assert "tls_server_config.cipher_suites" in logs[0]["err"]


def cipher_suites_of_tls_1_2(context: ssl.SSLContext) -> list[str]:
    ciphers = context.get_ciphers()
    return [cipher["name"] for cipher in ciphers if cipher["protocol"] != "TLSv1.3"]
