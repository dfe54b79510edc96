"""Which authorities are trusted, and how the environment changes that."""

import http.client
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.exporter import exporter_process
from support.fake_api import FakeAPI

from nextmv_exporter.nextmv import trust
from nextmv_exporter.nextmv.errors import ConfigurationError


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable says where the store is, and none is remembered from another test."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    trust._context.cache_clear()
    yield
    trust._context.cache_clear()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def api(authority: Authority) -> Iterator[FakeAPI]:
    """An API whose certificate is of an authority that the system does not know."""
    certificate = authority.issue("api")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with FakeAPI(context) as fake:
        yield fake


def trusts(api: FakeAPI) -> bool:
    address = api.url.removeprefix("https://")
    context = trust.tls_context()
    with closing(http.client.HTTPSConnection(address, timeout=10, context=context)) as connection:
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except ssl.SSLCertVerificationError:
            return False


def hashed(certificate: Path, folder: Path) -> Path:
    """Make a folder as `openssl rehash` does, with a certificate under the hash of its subject."""
    folder.mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
    digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{digest}.0").symlink_to(certificate)
    return folder


def subjects(context: ssl.SSLContext) -> set[str]:
    return {str(each["subject"]) for each in context.get_ca_certs()}


def test_the_systems_authorities_are_trusted_and_others_are_not(api: FakeAPI) -> None:
    system = ssl.create_default_context()
    assert subjects(trust.tls_context()) == subjects(system) != set()
    assert not trusts(api)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_in_a_file_of_its_own_is_trusted(
    variable: str, api: FakeAPI, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(authority.folder / "ca.pem"))
    assert trusts(api)


@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_an_authority_in_a_folder_of_its_own_is_trusted(
    variable: str, api: FakeAPI, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hashed(authority.folder / "ca.pem", authority.folder / "store")
    monkeypatch.setenv(variable, str(folder))
    assert trusts(api)


def test_a_bundle_replaces_the_systems_store(
    api: FakeAPI, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").folder / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.folder / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    assert len(trust.tls_context().get_ca_certs()) == 1
    assert not trusts(api)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "can't be read: No such file or directory"),
        ("not a certificate", "has no certificates in PEM format"),
    ],
)
def test_a_variable_that_names_no_certificates_is_named(
    variable: str,
    content: str | None,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(ConfigurationError) as caught:
        trust.tls_context()
    assert str(caught.value) == f"{variable}: {file} {fault}"


def test_a_python_that_looks_elsewhere_still_finds_the_systems_bundle(
    api: FakeAPI, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that was built on another distribution."""
    monkeypatch.setattr(
        ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    monkeypatch.setattr(trust, "_BUNDLES", (str(tmp_path / "x"), str(authority.folder / "ca.pem")))
    assert len(trust.tls_context().get_ca_certs()) == 1


@pytest.mark.parametrize(
    "bundle",
    [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ],
)
def test_bundles_are_looked_for_where_the_common_systems_keep_them(
    bundle: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context(ssl.SSLContext):
        def load_verify_locations(self, cafile: Any = None, *_: Any) -> None:
            assert cafile == bundle
            super().load_verify_locations(authority.folder / "ca.pem")

    monkeypatch.setattr(ssl, "create_default_context", lambda: Context(ssl.PROTOCOL_TLS_CLIENT))
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) == bundle)
    assert len(trust.tls_context().get_ca_certs()) == 1


def test_one_context_is_shared() -> None:
    assert trust.tls_context() is trust.tls_context()


def test_importing_the_package_leaves_the_ssl_module_alone() -> None:
    code = (
        "import ssl, urllib3.util.ssl_ as u; before = ssl.SSLContext, u.SSLContext;"
        "import nextmv_exporter.cli, nextmv_exporter.nextmv.trust;"
        "assert before == (ssl.SSLContext, u.SSLContext)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_exporter_reads_a_queue_behind_an_authority_of_its_own(
    variable: str, api: FakeAPI, authority: Authority
) -> None:
    given = {variable: str(authority.folder / "ca.pem")}
    with exporter_process(endpoint=api.url, environment=given) as exporter:
        assert exporter.up() == {"default": 1}
    with exporter_process(endpoint=api.url) as exporter:
        assert 'nextmv_scrape_errors_total{account="default",reason="tls"} 1.0' in exporter.scrape()
