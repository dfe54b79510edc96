"""Key and endpoint are found where Nextmv's own SDK finds them; what is unusable is named."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exporter import settings_of

from nextmv_exporter.accounts import profiles
from nextmv_exporter.accounts import resolve as resolve_of_program
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.credentials import (
    Credentials,
    check_api_key,
    check_url,
    load_config,
    profiles_with_key,
    read_api_key_file,
    resolve,
)
from nextmv_exporter.nextmv.errors import ConfigurationError, UnknownProfileError

ORACLE = Path(__file__).parents[1] / "support" / "sdk_oracle.py"
CONFIG = """\
apikey: default-key
endpoint: api.default.example
staging:
  apikey: staging-key
  endpoint: api.staging.example
bare:
  apikey: bare-key
keyless:
  endpoint: api.keyless.example
"""
KEY = {"NEXTMV_API_KEY": "env-key"}
ENDPOINT = {"NEXTMV_ENDPOINT": "https://env.example"}
STAGING = {"NEXTMV_PROFILE": "staging"}


@dataclass(frozen=True)
class Case:
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    config: str | None = CONFIG
    given: Mapping[str, Any] = field(default_factory=dict)


def profile(name: str) -> dict[str, str]:
    return {"NEXTMV_PROFILE": name}


def endpoint(url: str) -> dict[str, str]:
    return {"NEXTMV_ENDPOINT": url}


AGREED = (
    # nothing but the environment
    Case("nothing anywhere", config=None),
    Case("key alone", KEY, config=None),
    Case("endpoint alone", ENDPOINT, config=None),
    Case("key and endpoint", KEY | ENDPOINT, config=None),
    Case("empty key", {"NEXTMV_API_KEY": ""}, config=None),
    Case("endpoint without scheme", KEY | endpoint("env.example"), config=None),
    Case("endpoint with path", KEY | endpoint("https://env.example/base"), config=None),
    Case("endpoint with port, no scheme", KEY | endpoint("env.example:8443"), config=None),
    Case("profile without a file", STAGING, config=None),
    Case("profile without a file, key", KEY | STAGING, config=None),
    Case("profile without a file, key and endpoint", KEY | ENDPOINT | STAGING, config=None),
    # the default profile
    Case("default profile"),
    Case("key before the file", KEY),
    Case("endpoint before the file", ENDPOINT),
    Case("empty variables are none", {"NEXTMV_API_KEY": "", "NEXTMV_ENDPOINT": ""}),
    Case("default by name", profile("default")),
    Case("default with spaces", profile(" Default ")),
    Case("empty profile", profile("")),
    Case("blank profile", profile("  ")),
    Case("default without endpoint", config="apikey: k\n"),
    Case("default with empty endpoint", config="apikey: k\nendpoint: ''\n"),
    Case("default without key", config="endpoint: api.default.example\n"),
    Case("default with null key", config="apikey:\nendpoint: api.default.example\n"),
    Case("quoted key", config="apikey: '12345'\n"),
    # other profiles
    Case("profile", STAGING),
    Case("profile in another case", profile("Staging")),
    Case("profile and key", STAGING | KEY),
    Case("profile and endpoint", STAGING | ENDPOINT),
    Case("profile, key and endpoint", STAGING | KEY | ENDPOINT),
    Case("unknown profile", profile("nowhere")),
    Case("unknown profile and key", profile("nowhere") | KEY),
    Case("unknown profile and endpoint", profile("nowhere") | ENDPOINT),
    Case("unknown profile, key and endpoint", profile("nowhere") | KEY | ENDPOINT),
    Case("profile without endpoint", profile("bare")),
    Case("profile without endpoint, endpoint given", profile("bare") | ENDPOINT),
    Case("profile without key", profile("keyless")),
    Case("profile without key, key given", profile("keyless") | KEY),
    Case("profile that is null", profile("p"), config="apikey: k\np:\n"),
    Case("profile that is text", profile("p"), config="apikey: k\np: text\n"),
    Case("profile that is a list", profile("p"), config="apikey: k\np: [a]\n"),
    Case("profile named as a setting", profile("endpoint")),
    Case("profile whose name is a number", profile("7"), config="7: {apikey: k, endpoint: e}\n"),
    Case("profile whose name is quoted", profile("7"), config="'7': {apikey: k, endpoint: e}\n"),
    # given in code
    Case("key in code", given={"api_key": "code-key"}),
    Case("key in code before the variable", KEY, given={"api_key": "code-key"}),
    Case("endpoint in code", ENDPOINT, given={"url": "https://code.example"}),
    Case("endpoint in code without scheme", given={"url": "code.example"}),
    Case("profile in code", given={"profile": "staging"}),
    Case("profile in code, default", given={"profile": "Default"}),
    Case("profile of the variable before that in code", STAGING, given={"profile": "bare"}),
    Case("default of the variable before code", profile("default"), given={"profile": "staging"}),
    Case("empty variable, profile in code", profile(""), given={"profile": "staging"}),
    Case("profile, key and url in code", given={"profile": "nowhere", "api_key": "k", "url": "u"}),
    # signing in through a browser, without having signed in
    Case("pkce", config="auth_type: pkce\nteam_id: t\n"),
    Case("pkce with a key", config="auth_type: pkce\napikey: k\n"),
    Case("pkce, key given", KEY, config="auth_type: pkce\nendpoint: e.example\n"),
    Case("pkce profile", profile("sso"), config="sso: {auth_type: pkce, endpoint: e.example}\n"),
    Case("auth_type in capitals", config="auth_type: PKCE\napikey: k\n"),
    # files that are hardly files
    Case("empty file", config=""),
    Case("empty file, profile", STAGING | KEY, config=""),
    Case("list", config="- apikey: k\n"),
    Case("invalid YAML", config="apikey: [\n"),
    Case("invalid YAML, key", KEY, config="apikey: [\n"),
)


@dataclass(frozen=True)
class Deviation(Case):
    ours: tuple[str, str] | str = "error"


DEVIATIONS = (
    # The SDK puts https:// before a scheme that the file gives already, which reaches nothing.
    Deviation(
        "scheme in the file",
        config="apikey: k\nendpoint: https://api.default.example\n",
        ours=("k", "https://api.default.example"),
    ),
    Deviation(
        "scheme of http in the file",
        config="apikey: k\nendpoint: http://127.0.0.1:8080\n",
        ours=("k", "http://127.0.0.1:8080"),
    ),
    # A slash at the end would be doubled in every URL.
    Deviation("slash at the end", KEY | endpoint("https://e/"), ours=("env-key", "https://e")),
    # YAML makes numbers, which may not be what was written (0123, 1e5), of a key without quotes.
    Deviation("key of digits without quotes", config="apikey: 0123\n"),
    Deviation("key that is a date", profile("p"), "p: {apikey: 2026, endpoint: e}\n"),
    Deviation("endpoint that is a number", config="apikey: k\nendpoint: 127\n"),
    # No request could be sent with these.
    Deviation("blank key", {"NEXTMV_API_KEY": " "}, config=None),
    Deviation("key in quotes", {"NEXTMV_API_KEY": "'k'"}, config=None),
    Deviation("key with a byte order mark", {"NEXTMV_API_KEY": "\ufeffk"}, config=None),
    Deviation("key with a line's end", {"NEXTMV_API_KEY": "key\n"}, config=None),
    Deviation("blank endpoint", KEY | endpoint(" "), config=None),
    Deviation("endpoint of another scheme", KEY | endpoint("ftp://e.example"), config=None),
    # A file that is broken is said to be, rather than passed over for the default endpoint.
    Deviation("list, key", KEY, config="- a\n"),
    # A file that nothing is wanted from is not read.
    Deviation(
        "invalid YAML, key and endpoint",
        KEY | ENDPOINT,
        config="apikey: [\n",
        ours=("env-key", "https://env.example"),
    ),
)
CASES: tuple[Case, ...] = (*AGREED, *DEVIATIONS)


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the SDK makes of every case: one process, since importing it takes its time."""
    asked = [(dict(c.environment), c.config, dict(c.given)) for c in CASES]
    answer = subprocess.run(
        [sys.executable, str(ORACLE)],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        env={"HOME": str(tmp_path_factory.mktemp("sdk")), "PATH": os.environ["PATH"]},
        text=True,
        check=True,
    )
    return [tuple(each) if isinstance(each, list) else each for each in json.loads(answer.stdout)]


def of_library(case: Case) -> Credentials:
    return Client(**case.given).credentials


def of_program(case: Case) -> Credentials:
    settings = settings_of()
    [profile] = profiles(settings)
    return resolve_of_program(settings, profile)


@pytest.mark.parametrize("find", [of_library, of_program])
def test_we_find_what_the_sdk_finds_but_for_the_deviations(
    sdk: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    find: Callable[[Case], Credentials],
) -> None:
    file = tmp_path / ".nextmv" / "config.yaml"
    file.parent.mkdir()
    compared = 0
    for case, theirs in zip(CASES, sdk, strict=True):
        if find is of_program and case.given:
            continue
        file.write_text(case.config) if case.config is not None else file.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setenv("HOME", str(tmp_path))
            for name, text in case.environment.items():
                patch.setenv(name, text)
            try:
                found = find(case)
                ours: Any = (found.api_key, found.url)
            except (ConfigurationError, click.BadParameter):
                ours = "error"
        if isinstance(case, Deviation):
            assert ours == case.ours != theirs, case.name
        else:
            assert ours == theirs, case.name
        compared += 1
    assert compared > 50


# What is refused, and how

CREATE = "`nextmv configuration create`"
NAMED = "a: {apikey: SECR-1, endpoint: e}\nb: {apikey: SECR-2, endpoint: e}\n"
REFUSED: dict[str, tuple[str | None, str, str]] = {
    # By what is wrong: the file, the profile, and what the message has.
    "no file": (None, "default", "can't be read: No such file or directory"),
    "list": ("- SECR", "default", f"holds no YAML mapping: recreate it with {CREATE}"),
    "text": ("SECR", "default", "holds no YAML mapping"),
    "no YAML": ("a: b\nSECR: [\n", "default", "is not valid YAML (line 3): correct it"),
    "not UTF-8": ("apikey: SECR\xff", "default", "is not valid YAML"),
    "empty": ("", "default", f"FILE has no API key: set NEXTMV_API_KEY, add it with {CREATE}"),
    "named profiles only": (NAMED, "default", "or choose a profile that has a key: a, b"),
    "unknown": (NAMED, "c", "'c' is not in FILE: add it with `nextmv"),
    "unknown of many": (
        "\n".join(f"p{number}: {{apikey: SECR}}" for number in range(10, 40)),
        "c",
        "p10, p11, p12, p13, p14, p15, p16, p17, p18, p19 and 20 more",
    ),
    "setting": ("apikey: SECR\nendpoint: {a: b}", "endpoint", "'endpoint' is not in FILE"),
    "number": ("apikey: 0123", "default", "apikey of profile 'default' in FILE is not text: put"),
    "endpoint that is none": ("p: {apikey: k, endpoint: [SECR]}", "p", "endpoint of profile 'p'"),
    "browser": ("auth_type: pkce", "default", "needs a browser (pkce): set NEXTMV_API_KEY"),
    "no key": ("p: {endpoint: e}", "p", "'p' in FILE has no API key: set NEXTMV_API_KEY"),
    "no endpoint": ("p: {apikey: k}", "p", "add one, like `endpoint: https://api.cloud.nextmv.io`"),
    "two words": ("p: {apikey: SECR k, endpoint: e}", "p", "'p' in FILE is empty, is in quotes"),
    "not ASCII": ("apikey: SECRÉT", "default", "or non-ASCII characters: copy it again"),
    "bad URL": ("p: {apikey: k, endpoint: ht tp}", "p", "of profile 'p' in FILE 'ht tp' is"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_named_with_what_is_wrong_and_what_to_do(case: str, tmp_path: Path) -> None:
    text, profile, message = REFUSED[case]
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_bytes(text.encode("latin-1" if case == "not UTF-8" else "utf-8"))
    with pytest.raises(ConfigurationError) as caught:
        resolve(profile, config_file=file)
    assert message in str(caught.value).replace(str(file), "FILE")
    assert str(file) in str(caught.value)
    assert str(caught.value).isprintable()
    assert "SECR" not in str(caught.value)
    assert isinstance(caught.value, UnknownProfileError) == (
        "is not in" in message or "more" in message
    )


def test_profiles_with_a_key_are_those_that_a_server_can_use(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "apikey: k\na: {apikey: k}\nb: {apikey: k, auth_type: pkce}\nc: {endpoint: e}\n"
        "7: {apikey: k}\n' d ': {apikey: k}\nDEFAULT: {apikey: k}\ne: text\n"
        '"f\\a": {apikey: k}\ntwo words: {apikey: k}\n'
    )
    assert profiles_with_key(load_config(file)) == ["default", "a", "two words"]


def test_a_key_file_holds_just_the_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for content in (b"the-key", b" the-key\r\n", b"\nthe-key\n\n"):
        file.write_bytes(content)
        assert read_api_key_file(file) == "the-key"
    for content in (
        *(b"", b" \n", b"SECR\nSECR", b"\xef\xbb\xbfSECR", "SECR".encode("utf-16"), b"SECR\xe9"),
        *(b'"SECR"', b"'SECR'", "SECRÉ".encode()),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=f"API key file {file} is empty, ") as caught:
            read_api_key_file(file)
        assert "SECR" not in str(caught.value)
    for file, fault in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(ConfigurationError, match=f"API key file {file} can't be read: {fault}"):
            read_api_key_file(file)


@given(st.text())
def test_a_key_that_is_let_through_fits_in_a_header(key: str) -> None:
    with suppress(ConfigurationError):
        check_api_key(key, "NEXTMV_API_KEY")
        assert key.isascii()
        assert key.isprintable()
        assert key.split() == [key]


def test_urls_are_completed_or_refused_without_what_may_be_secret() -> None:
    for url, full in {
        "api.example": "https://api.example",
        "api.example:8443/base/": "https://api.example:8443/base",
        "http://127.0.0.1:1": "http://127.0.0.1:1",
        "HTTPS://Api.example": "HTTPS://Api.example",
        "https://[::1]:2//": "https://[::1]:2",
        "münchen.example": "https://münchen.example",
    }.items():
        assert check_url(url, "it") == full
    for url in (
        *(
            "",
            " ",
            "https://",
            "ftp://a",
            "a b",
            "https:/a",
            "http:a",
            "https://a:b",
            "https://a:0",
        ),
        *("https://a:99999", "https://a..b", "https://[::1", "a\nb", "a\\b", "https://https://a"),
        *("SECR@a", "https://me:SECR@a", "https://a?k=SECR", "a#SECR", "https://me:SECR@a:b"),
        "https://me:SECR\n@a",
    ):
        with pytest.raises(ConfigurationError, match="NEXTMV_ENDPOINT") as caught:
            check_url(url, "NEXTMV_ENDPOINT")
        assert "SECR" not in str(caught.value)
        assert str(caught.value).isprintable()


def test_a_key_is_kept_out_of_repr_and_sent_in_clear_only_to_other_machines_by_http() -> None:
    assert "the-key" not in repr(Credentials("the-key", "https://api.example"))
    clear = {
        **dict.fromkeys(
            ["http://api.example", "http://10.0.0.1:80", "http://localhost.example"], True
        ),
        **dict.fromkeys(["https://api.example", "http://localhost:1", "http://127.8.0.1"], False),
        **dict.fromkeys(["http://[::1]:1", "http://a.localhost"], False),
    }
    assert {url: Credentials("k", url).sent_in_clear for url in clear} == clear
