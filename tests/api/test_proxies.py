"""Proxies of the environment: refused where they are malformed, and never quoted."""

import base64
import os
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from requests.utils import prepend_scheme_if_needed, select_proxy

from nextmv_exporter.nextmv.credentials import resolve
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.nextmv.proxies import check_proxies, proxy_secrets
from nextmv_exporter.nextmv.redaction import Redactor

ENDPOINT = "https://api.example"
VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
BAD = [
    *(f"http://SECR-user:SECR{special}pass@proxy.example:3128" for special in "/?#\\€"),
    "http://SECR/user:SECR@proxy.example:3128",
    "http://SECR-user:12#SECR@proxy.example:3128",
    "http://SECR-user:12/SECR@proxy.example:3128",
    "http://SECR-user:SECR#proxy.example",
    "http://SECR-user:SECR@proxy.example:0",
    "http://SECR-user:SECR@proxy.example:65536",
    "http://SECR-user:SECR@proxy.example:port",
    "http://SECR-user:SECR@proxy example:3128",
    "http://SECR-user:SECR@proxy.example:3128\n",
    "http://SECR-user:SECR@proxy..example:3128",
    "http://SECR-user:SECR@[::1",
    "http://SECR-user:SECR@",
    "http://SECR-user:SECR@proxy.example:3128/path",
    "http://SECR-user:SECR@proxy.example?query",
    "http://SECR-user:SECR@proxy.example/#fragment",
    "http://",
    "http://:3128",
    "http:proxy.example:3128",
    "http:///proxy.example:3128",
    "//proxy.example:3128",
    "socks5://SECR-user:SECR@proxy.example:1080",
    "ftp://SECR-user:SECR@proxy.example",
    "SECR-user:SECR@proxy.example:3128",
    "localhost:3128",
]
GOOD = [
    "http://proxy.example:3128",
    "http://proxy.example:3128/",
    "https://proxy.example",
    "HTTP://proxy.example:3128",
    "proxy.example:3128",
    "http://127.0.0.1:3128",
    "http://[::1]:3128",
    "http://anna@proxy.example:3128",
    "http://anna:p%23%2F%3Fw@proxy.example:3128",
    "http://anna:p@w@proxy.example:3128",
    "http://anna:p[w]:{x}@proxy.example:3128",
    "http://ännä:pässwört@proxy.example:3128",
]


@pytest.mark.parametrize("proxy", BAD)
def test_a_malformed_proxy_is_refused_in_a_line_that_does_not_quote_it(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError) as caught:
        check_proxies(ENDPOINT)
    message = str(caught.value)
    assert message.startswith("HTTPS_PROXY is not the URL of an HTTP proxy: write it like http://")
    assert "SECR" not in message
    assert message.isprintable()


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("endpoint", [ENDPOINT, "http://api.example"])
def test_each_of_the_variables_is_checked_and_named(
    name: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://SECR:SECR@proxy.example:99999")
    with pytest.raises(ConfigurationError, match=f"^{name} is not the URL of an HTTP proxy"):
        resolve(api_key="k", url=endpoint)


@pytest.mark.parametrize("proxy", [*GOOD, ""])
def test_a_proxy_that_requests_can_use_is_accepted(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, proxy)
    check_proxies(ENDPOINT)


@pytest.mark.parametrize("exempt", ["api.example", ".example", "*", "other, api.example"])
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_an_endpoint_that_no_proxy_is_used_for_needs_no_valid_one(
    name: str, exempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:99999")
    monkeypatch.setenv(name, exempt)
    check_proxies(ENDPOINT)
    if exempt != "*":
        with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
            check_proxies("https://elsewhere.test")


USERS = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), min_size=4, max_size=12)
TEXTS = st.text(st.sampled_from("ab1:/@#?[]%\\. é€\n") | st.characters(), max_size=20)


def environment(**variables: str) -> "mock._patch_dict":
    kept = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    return mock.patch.dict(os.environ, kept | variables, clear=True)


@given(TEXTS.map(lambda text: text.replace("\0", "").encode("utf-8", "ignore").decode()))
def test_requests_can_use_whatever_is_accepted(text: str) -> None:
    for proxy in (text, f"http://{text}", f"http://anna:{text}@proxy.example:3128"):
        with environment(https_proxy=proxy):
            try:
                check_proxies(ENDPOINT)
            except ConfigurationError:
                continue
            if chosen := select_proxy(ENDPOINT, {"https": proxy} if proxy else None):
                url = prepend_scheme_if_needed(chosen, "http")  # type: ignore[no-untyped-call]
                used = HTTPAdapter().proxy_manager_for(url).proxy
                assert used.host in proxy.lower() or "xn--" in used.host


@pytest.mark.parametrize(
    ("proxy", "secrets"),
    [
        ("http://proxy.example:3128", []),
        ("http://anna@proxy.example:3128", ["anna"]),
        ("http://:pass@proxy.example:3128", ["pass"]),
        (
            "http://anna:p%2Fw@proxy.example:3128",
            ["anna", "anna:p%2Fw", "anna:p/w", "p%2Fw", "p/w"],
        ),
    ],
)
def test_users_and_passwords_are_secrets_as_they_are_written_and_sent(
    proxy: str, secrets: list[str]
) -> None:
    with environment(HTTPS_PROXY=proxy):
        assert sorted(proxy_secrets()) == secrets


@given(USERS, USERS)
def test_no_form_of_a_user_or_password_is_left_in_a_message(user: str, password: str) -> None:
    written = f"{quote(user, safe='')}:{quote(password, safe='')}"
    with environment(HTTPS_PROXY=f"http://{written}@proxy.example:3128"):
        check_proxies(ENDPOINT)
        redactor = Redactor("the-api-key", *proxy_secrets())
    pair = f"{user}:{password}".encode("latin-1")
    for text in (user, password, written, written.lower(), quote(user), quote(password, safe="")):
        assert redactor.hide(f"?{text}?") == "?<redacted>?" or text == written
        assert not any(part in redactor.hide(text) for part in (user, password))
    encoded = base64.b64encode(pair).decode()
    assert len(redactor.hide(encoded).replace("<redacted>", "")) <= 4
    encoded = base64.b64encode(b"x" + pair + b"y").decode()
    assert len(redactor.hide(encoded).replace("<redacted>", "")) <= 8


def test_the_program_ends_at_start_without_showing_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nextmv_exporter.cli import main

    monkeypatch.setenv("NEXTMV_API_KEY", "k")
    monkeypatch.setenv("https_proxy", "http://anna:pa#ss@proxy.example:3128")
    with pytest.raises(SystemExit) as ended:
        main(["--once"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("nextmv-exporter: https_proxy is not the URL of an HTTP proxy")
    for secret in ("anna", "pa#ss", "proxy.example:3128@"):
        assert secret not in err
