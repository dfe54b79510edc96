"""Key and endpoint are found where Nextmv's own SDK finds them, case by case."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.exporter import settings_of

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.errors import ConfigurationError

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
    Case("empty endpoint", KEY | endpoint(""), config=None),
    Case("endpoint without scheme", KEY | endpoint("env.example"), config=None),
    Case("endpoint of http", KEY | endpoint("http://127.0.0.1:8080"), config=None),
    Case("endpoint with path", KEY | endpoint("https://env.example/base"), config=None),
    Case("endpoint with port, no scheme", KEY | endpoint("env.example:8443"), config=None),
    Case("profile without a file", STAGING, config=None),
    Case("profile without a file, key", KEY | STAGING, config=None),
    Case("profile without a file, key and endpoint", KEY | ENDPOINT | STAGING, config=None),
    # the default profile
    Case("default profile"),
    Case("key before the file", KEY),
    Case("endpoint before the file", ENDPOINT),
    Case("both before the file", KEY | ENDPOINT),
    Case("empty variables are none", {"NEXTMV_API_KEY": "", "NEXTMV_ENDPOINT": ""}),
    Case("default by name", profile("default")),
    Case("default in capitals", profile("DEFAULT")),
    Case("default with spaces", profile(" Default ")),
    Case("empty profile", profile("")),
    Case("blank profile", profile("  ")),
    Case("default without endpoint", config="apikey: k\n"),
    Case("default with empty endpoint", config="apikey: k\nendpoint: ''\n"),
    Case("default with null endpoint", config="apikey: k\nendpoint:\n"),
    Case("default without key", config="endpoint: api.default.example\n"),
    Case("default with empty key", config="apikey: ''\nendpoint: api.default.example\n"),
    Case("default with null key", config="apikey:\nendpoint: api.default.example\n"),
    Case("default without key, key given", KEY, config="endpoint: api.default.example\n"),
    Case("quoted key", config="apikey: '12345'\n"),
    # other profiles
    Case("profile", STAGING),
    Case("profile with spaces", profile(" staging ")),
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
    Case("empty key in code", KEY, given={"api_key": ""}),
    Case("endpoint in code", ENDPOINT, given={"url": "https://code.example"}),
    Case("endpoint in code without scheme", given={"url": "code.example"}),
    Case("empty endpoint in code", ENDPOINT, given={"url": ""}),
    Case("profile in code", given={"profile": "staging"}),
    Case("profile in code with spaces", given={"profile": " staging "}),
    Case("profile in code, default", given={"profile": "Default"}),
    Case("profile in code, empty", given={"profile": ""}),
    Case("profile of the variable before that in code", STAGING, given={"profile": "bare"}),
    Case("default of the variable before code", profile("default"), given={"profile": "staging"}),
    Case("empty variable, profile in code", profile(""), given={"profile": "staging"}),
    Case("blank variable, profile in code", profile(" "), given={"profile": "staging"}),
    Case("profile, key and url in code", given={"profile": "nowhere", "api_key": "k", "url": "u"}),
    # signing in through a browser, without having signed in
    Case("pkce", config="auth_type: pkce\nteam_id: t\n"),
    Case("pkce with a key", config="auth_type: pkce\napikey: k\n"),
    Case("pkce, key given", KEY, config="auth_type: pkce\nendpoint: e.example\n"),
    Case("pkce profile", profile("sso"), config="sso: {auth_type: pkce, endpoint: e.example}\n"),
    Case("pkce default, other profile", STAGING, config="auth_type: pkce\n" + CONFIG),
    Case("auth_type of a key", config="auth_type: api_key\napikey: k\n"),
    Case("auth_type in capitals", config="auth_type: PKCE\napikey: k\n"),
    # files that are hardly files
    Case("empty file", config=""),
    Case("file of comments", config="# nothing yet\n"),
    Case("empty file, key", KEY, config=""),
    Case("empty file, profile", STAGING | KEY, config=""),
    Case("list", config="- apikey: k\n"),
    Case("text", config="apikey\n"),
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
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What the SDK makes of every case: one process, since importing it takes its time."""
    asked = [(dict(c.environment), c.config, dict(c.given)) for c in CASES]
    home = str(tmp_path_factory.mktemp("sdk"))
    answer = subprocess.run(
        [sys.executable, str(ORACLE)],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        env={"HOME": home, "PATH": os.environ["PATH"]},
        text=True,
        check=True,
    )
    found = json.loads(answer.stdout)
    return {
        case.name: tuple(one) if isinstance(one, list) else one
        for case, one in zip(CASES, found, strict=True)
    }


def move_into(case: Case, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process a case's home and environment."""
    monkeypatch.setenv("HOME", str(home))
    for name, text in case.environment.items():
        monkeypatch.setenv(name, text)
    if case.config is not None:
        (home / ".nextmv").mkdir()
        (home / ".nextmv" / "config.yaml").write_text(case.config)


def ours(case: Case, home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str] | str:
    move_into(case, home, monkeypatch)
    try:
        found = Client(**case.given)._credentials()
    except ConfigurationError:
        return "error"
    return found.api_key, found.url


def the_programs(case: Case, home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str] | str:
    """What the program itself sends to whom, through its flags and accounts."""
    move_into(case, home, monkeypatch)
    try:
        [target] = Accounts(settings_of()).targets.values()
    except ConfigurationError:
        return "error"
    found = target._client._credentials()
    return found.api_key, found.url


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", AGREED, ids=lambda case: case.name)
def test_we_find_what_the_sdk_finds(
    case: Case, sdk: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ours(case, tmp_path, monkeypatch) == sdk[case.name]


@pytest.mark.parametrize(
    "case", [case for case in AGREED if not case.given], ids=lambda case: case.name
)
def test_the_program_finds_what_the_sdk_finds(
    case: Case, sdk: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert the_programs(case, tmp_path, monkeypatch) == sdk[case.name]


@pytest.mark.parametrize("case", DEVIATIONS, ids=lambda case: case.name)
def test_we_deviate_from_the_sdk_on_purpose(
    case: Deviation, sdk: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ours(case, tmp_path, monkeypatch) == case.ours
    assert sdk[case.name] != case.ours, "the SDK does the same by now"
