import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.exporter import Served, ask, exporter_here, exporter_process
from support.harness import write_yaml
from support.logs import capture_logs
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.web.toolkit import tls
from nextmv_exporter.web.toolkit.config import TLSServerConfig
from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig
from nextmv_exporter.web.toolkit.tls import server_context

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
AES_128, AES_256 = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
GO_AES_128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
GO_AES_256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
GO_TLS_13 = "TLS_AES_256_GCM_SHA384"
REQUIRED = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
IF_GIVEN = REQUIRED | {"client_auth_type": "VerifyClientCertIfGiven"}

Serve = Callable[..., Served]


def web_config(**tls: Any) -> Mapping[str, Any]:
    return {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"} | tls}


@pytest.fixture
def file(authority: Authority) -> Path:
    return authority.folder / "web.yml"


@pytest.fixture
def serve(file: Path, account: dict[str, Credentials]) -> Iterator[Serve]:
    """Serves with keys of `tls_server_config`."""
    with ExitStack() as stack:

        def start(**tls: Any) -> Served:
            return stack.enter_context(
                exporter_here(accounts=account, web_config=write_yaml(file, web_config(**tls)))
            )

        yield start


def refuses(served: Served, client: ssl.SSLContext) -> bool:
    try:
        served.get(tls=client)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def agreed_cipher(served: Served, client: ssl.SSLContext) -> str:
    connection = served.connection(client)
    with closing(connection):
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        cipher = connection.sock.cipher()
        assert cipher
        return cipher[0]


def certificate(connection: HTTPConnection) -> str:
    """The serial number of the certificate that a connection was shown."""
    if connection.sock is None:
        connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    shown = connection.sock.getpeercert()
    assert shown
    return str(shown["serialNumber"])


def shown(served: Served, client: ssl.SSLContext) -> str:
    with closing(served.connection(client)) as connection:
        return certificate(connection)


def limited(
    client: ssl.SSLContext,
    lowest: ssl.TLSVersion = TLS12,
    highest: ssl.TLSVersion = TLS13,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    client.minimum_version, client.maximum_version = lowest, highest
    if ciphers:
        client.set_ciphers(ciphers)
    return client


def test_a_client_that_trusts_the_authority_is_answered(serve: Serve, authority: Authority) -> None:
    served = serve()
    assert served.get("/metrics", tls=authority.client()).status == 200
    assert '"__scheme__":"https"' in served.get("/sd", tls=authority.client()).body


def test_a_client_that_does_not_trust_it_turns_away(serve: Serve) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        serve().get(tls=ssl.create_default_context())


def test_nothing_is_said_in_plain(serve: Serve) -> None:
    with pytest.raises(ConnectionError):
        serve().get()


@pytest.mark.parametrize(
    ("lowest", "highest", "served_versions"),
    [("TLS12", "TLS12", {TLS12}), ("TLS12", "TLS13", {TLS12, TLS13}), ("TLS13", "TLS13", {TLS13})],
)
def test_only_the_versions_between_lowest_and_highest_are_spoken(
    serve: Serve,
    authority: Authority,
    lowest: str,
    highest: str,
    served_versions: set[ssl.TLSVersion],
) -> None:
    served = serve(min_version=lowest, max_version=highest)
    for version in (TLS12, TLS13):
        client = limited(authority.client(), version, version)
        assert refuses(served, client) is (version not in served_versions)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_not_spoken(serve: Serve, authority: Authority) -> None:
    version = ssl.TLSVersion.TLSv1_1
    client = limited(authority.client(), version, version, "ALL:@SECLEVEL=0")
    assert refuses(serve(), client)


def test_only_the_cipher_suites_that_are_named_are_spoken(
    serve: Serve, authority: Authority
) -> None:
    served = serve(cipher_suites=[GO_AES_256])
    assert refuses(served, limited(authority.client(), highest=TLS12, ciphers=AES_128))
    client = limited(authority.client(), highest=TLS12, ciphers=f"{AES_128}:{AES_256}")
    assert agreed_cipher(served, client) == AES_256


@pytest.mark.parametrize(
    ("name", "cipher"),
    [
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"),
    ],
)
def test_cipher_suites_with_cbc_are_spoken_where_they_are_named(
    serve: Serve, authority: Authority, name: str, cipher: str
) -> None:
    client = limited(authority.client(), highest=TLS12, ciphers=cipher)
    assert agreed_cipher(serve(cipher_suites=[name]), client) == cipher


def openssl_name(go_name: str) -> str:
    """OpenSSL's name of a cipher suite, which follows from its standard name, as Go has it."""
    name = go_name.removeprefix("TLS_").replace("_WITH_AES_", "-AES").replace("_CBC", "")
    name = name.replace("_WITH_CHACHA20_POLY1305_SHA256", "-CHACHA20-POLY1305")
    return name.replace("_", "-")


@pytest.mark.parametrize("name", [name for name, chosen in tls._CIPHERS.items() if chosen])
def test_each_cipher_suite_is_chosen_by_its_name_in_go(authority: Authority, name: str) -> None:
    cert, key = (str(authority.folder / file) for file in ("server.pem", "server.key"))
    context = server_context(TLSServerConfig(cert_file=cert, key_file=key, cipher_suites=[name]))
    before_13 = [each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert before_13 == [openssl_name(name)]


@pytest.mark.parametrize(("servers", "agreed"), [(True, AES_256), (False, AES_128)])
def test_the_server_or_the_client_chooses_the_cipher_suite(
    serve: Serve, authority: Authority, servers: bool, agreed: str
) -> None:
    served = serve(
        cipher_suites=[GO_AES_256, GO_AES_128],
        max_version="TLS12",
        prefer_server_cipher_suites=servers,
    )
    client = limited(authority.client(), ciphers=f"{AES_128}:{AES_256}")
    assert agreed_cipher(served, client) == agreed


def test_cipher_suites_of_tls_1_3_alone_leave_none_for_tls_1_2(
    serve: Serve, authority: Authority
) -> None:
    served = serve(cipher_suites=[GO_TLS_13])
    assert refuses(served, limited(authority.client(), highest=TLS12))
    assert not refuses(served, authority.client())


def test_certificate_and_key_can_be_given_inline(serve: Serve, authority: Authority) -> None:
    pem = authority.folder / "server.pem"
    served = serve(
        cert_file="",
        key_file="",
        cert=pem.read_text(),
        key=pem.with_suffix(".key").read_text(),
        client_auth_type="RequireAndVerifyClientCert",
        client_ca=(authority.folder / "ca.pem").read_text(),
    )
    assert served.get(tls=authority.client(authority.issue("client"))).status == 200
    assert refuses(served, authority.client())


def test_there_may_be_any_text_between_certificates(authority: Authority) -> None:
    pem = authority.folder / "server.pem"
    pem.write_text(f"# né\n{pem.read_text()}")
    assert server_context(
        TLSServerConfig(cert_file=str(pem), key_file=str(pem.with_suffix(".key")))
    )


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_inline_certificates_of_up_to_60_000_bytes_fit_into_a_pipe(authority: Authority) -> None:
    pem = authority.folder / "server.pem"
    cert, key = pem.read_text(), pem.with_suffix(".key").read_text()
    cert += "\n" * (60_000 - len(cert))
    before = descriptors()
    assert server_context(TLSServerConfig(cert=cert, key=key))
    assert descriptors() == before
    with pytest.raises(ConfigurationError, match="cert: is too long to be given inline"):
        server_context(TLSServerConfig(cert=cert + "\n", key=key))


def test_a_client_must_show_a_certificate_where_one_is_required(
    serve: Serve, authority: Authority
) -> None:
    served = serve(**REQUIRED)
    assert served.get("/metrics", tls=authority.client(authority.issue("client"))).status == 200
    assert refuses(served, authority.client())
    assert refuses(served, limited(authority.client(), highest=TLS12))


@pytest.mark.parametrize("asked", [REQUIRED, IF_GIVEN])
def test_a_clients_certificate_must_be_the_authoritys_and_in_date(
    serve: Serve, authority: Authority, tmp_path_factory: pytest.TempPathFactory, asked: Any
) -> None:
    served = serve(**asked)
    stranger = Authority(tmp_path_factory.mktemp("stranger")).issue("client")
    assert refuses(served, authority.client(stranger))
    expired = authority.issue("expired", valid_for=timedelta(days=-1))
    assert refuses(served, authority.client(expired))
    assert not refuses(served, authority.client(authority.issue("client")))


def test_a_client_may_show_none_where_it_is_verified_if_given(
    serve: Serve, authority: Authority
) -> None:
    assert serve(**IF_GIVEN).get(tls=authority.client()).status == 200


def test_without_an_authority_the_systems_verify_a_certificate_that_is_given(
    serve: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers = serve(client_auth_type="VerifyClientCertIfGiven")
    assert strangers.get(tls=authority.client()).status == 200
    client = authority.client(authority.issue("client"))
    assert refuses(strangers, client)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.folder / "ca.pem"))
    assert not refuses(serve(client_auth_type="VerifyClientCertIfGiven"), client)


@pytest.mark.parametrize(
    "asked",
    [{}, {"client_auth_type": "NoClientCert"}, {"client_auth_type": "RequestClientCert"}],
)
def test_a_clients_certificate_is_not_looked_at_where_none_is_asked_for(
    serve: Serve, authority: Authority, tmp_path_factory: pytest.TempPathFactory, asked: Any
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger")).issue("client")
    assert serve(**asked).get(tls=authority.client(stranger)).status == 200


def test_an_expired_certificate_is_served_for_clients_to_judge(
    serve: Serve, authority: Authority
) -> None:
    authority.issue("server", valid_for=timedelta(days=-1))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        serve().get(tls=authority.client())


def test_a_new_certificate_is_shown_to_new_connections_while_open_ones_go_on(
    serve: Serve, authority: Authority
) -> None:
    served = serve()
    with closing(served.connection(authority.client())) as open_one:
        assert ask(open_one).status == 200
        socket = open_one.sock
        before = certificate(open_one)
        authority.issue("server")
        assert shown(served, authority.client()) != before
        assert ask(open_one, "/metrics").status == 200
        assert open_one.sock is socket, "it was opened anew"
        assert certificate(open_one) == before


def test_a_certificate_and_its_key_may_be_replaced_one_after_the_other(
    serve: Serve, authority: Authority
) -> None:
    served = serve()
    before = shown(served, authority.client())
    fresh = authority.issue("fresh")
    fresh.replace(authority.folder / "server.pem")
    assert shown(served, authority.client()) == before
    fresh.with_suffix(".key").replace(authority.folder / "server.key")
    assert shown(served, authority.client()) != before


def test_a_certificate_reached_by_a_link_is_followed_as_kubernetes_swaps_it(
    serve: Serve, authority: Authority
) -> None:
    mounts = {name: authority.folder / name for name in ("..one", "..two")}
    for mount in mounts.values():
        mount.mkdir()
        issued = authority.issue("server")
        issued.rename(mount / "tls.crt")
        issued.with_suffix(".key").rename(mount / "tls.key")
    data = authority.folder / "..data"
    data.symlink_to("..one")
    served = serve(cert_file="..data/tls.crt", key_file="..data/tls.key")
    before = shown(served, authority.client())
    swapped = authority.folder / "..data_tmp"
    swapped.symlink_to("..two")
    swapped.replace(data)
    assert shown(served, authority.client()) != before


def test_more_may_be_demanded_of_clients_also_of_those_who_are_connected(
    serve: Serve, authority: Authority, file: Path
) -> None:
    served = serve()
    with closing(served.connection(authority.client())) as open_one:
        assert ask(open_one).status == 200
        write_yaml(file, web_config(**REQUIRED))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            ask(open_one)
    assert refuses(served, authority.client())
    assert not refuses(served, authority.client(authority.issue("client")))


def test_clients_of_an_authority_that_is_replaced_are_disconnected(
    serve: Serve, authority: Authority, file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    served = serve(**REQUIRED)
    with closing(served.connection(authority.client(authority.issue("client")))) as open_one:
        assert ask(open_one).status == 200
        other = Authority(tmp_path_factory.mktemp("other"))
        (other.folder / "ca.pem").replace(file.parent / "ca.pem")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            ask(open_one)
    assert not refuses(served, authority.client(other.issue("client")))


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("client_auth_type", REQUIRED, IF_GIVEN),
        ("client_auth_type", REQUIRED, {}),
        ("client_auth_type", REQUIRED, {"client_auth_type": "NoClientCert"}),
        ("client_auth_type", REQUIRED, REQUIRED | {"client_auth_type": "RequestClientCert"}),
        ("client_auth_type", IF_GIVEN, {}),
        ("client_ca_file", IF_GIVEN, {"client_auth_type": "VerifyClientCertIfGiven"}),
        ("min_version", {"min_version": "TLS13"}, {}),
        ("min_version", {"cipher_suites": [GO_TLS_13]}, {"cipher_suites": [GO_AES_256]}),
        ("max_version", {}, {"max_version": "TLS12"}),
        ("cipher_suites", {"cipher_suites": [GO_AES_256]}, {}),
    ],
)
def test_protection_is_not_weakened_without_a_restart(
    authority: Authority, file: Path, key: str, before: Any, after: Any
) -> None:
    write_yaml(file, web_config(**before))
    followed = ReloadingWebConfig(file)
    context = followed.context()
    write_yaml(file, web_config(**after))
    with capture_logs() as lines:
        assert followed.context() is context
    [line] = lines
    assert line["err"] == (
        f"--web.config.file {file}: tls_server_config.{key} can't be added, removed or weakened "
        "without a restart"
    )
    write_yaml(file, web_config(**after))
    assert ReloadingWebConfig(file).context() is not context


def test_a_certificate_that_the_changed_file_names_is_taken_up_once_it_is_there(
    serve: Serve, authority: Authority, file: Path
) -> None:
    served = serve()
    before = shown(served, authority.client())
    write_yaml(file, web_config(cert_file="late.pem", key_file="late.key"))
    assert shown(served, authority.client()) == before
    authority.issue("late")
    assert shown(served, authority.client()) != before


@pytest.mark.parametrize("content", ["", "tls_server_config:\n", "tls_server_conf"])
def test_a_file_cut_short_does_not_end_tls(
    serve: Serve, authority: Authority, file: Path, content: str
) -> None:
    served = serve(**REQUIRED)
    file.write_text(content)
    assert not refuses(served, authority.client(authority.issue("client")))
    assert refuses(served, authority.client())


def test_a_change_for_the_worse_is_logged_once_and_a_good_one_too(
    authority: Authority, file: Path
) -> None:
    write_yaml(file, web_config())
    flags = ("--demo", "--web.config.file", str(file))
    with exporter_process(*flags) as served:
        before = shown(served, authority.client())
        assert served.logged("Web configuration reloaded") == 0
        write_yaml(file, web_config(min_version="TLS11"))
        for _ in range(5):
            assert shown(served, authority.client()) == before
        until(
            lambda: served.logged("Reload failed, keeping current web configuration"),
            seconds=30,
            what="logged",
        )
        assert served.logged("tls_server_config.min_version: Input should be") == 1
        assert served.logged("Reload failed, keeping current web configuration") == 1
        write_yaml(file, web_config())
        authority.issue("server")
        assert shown(served, authority.client()) != before
        until(lambda: served.logged("Web configuration reloaded"), seconds=30, what="logged")
        assert served.logged("Reload failed, keeping current web configuration") == 1
        shown(served, authority.client())
        assert served.logged(f'msg="Web configuration reloaded" file={file}') == 1
        rsa = limited(authority.client(), TLS12, TLS12, "ECDHE-RSA-AES128-GCM-SHA256")
        assert refuses(served, rsa)
        until(lambda: served.logged("TLS handshake failed"), seconds=30, what="logged")
        assert served.logged("err=NO_SHARED_CIPHER") == 1
    text = served.log
    assert "https://localhost:" in text
    assert "http://" not in text
    assert "Traceback" not in text
