"""Key and endpoint, with Nextmv's own SDK as the oracle of where they come from."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.accounts import Accounts
from exporter.nextmv.client import Client
from exporter.nextmv.credentials import (
    Credentials,
    load_config,
    profiles_with_key,
    read_api_key_file,
    resolve,
)
from exporter.nextmv.errors import ConfigurationError
from exporter.scrape.sources import Auto
from exporter.settings import Settings, command

TESTDATA = Path(__file__).parent / "testdata"
SECRET = "nxmvv1_secret"

GOOD = (TESTDATA / "good.yaml").read_text()

# The SDK computes the file's place when it is imported, so each case sets it anew.
ORACLE = """
import json, os, sys
from pathlib import Path
from nextmv import config
from nextmv.cloud import Client

results = []
for case in json.load(sys.stdin):
    for name in [name for name in os.environ if name.startswith("NEXTMV_")]:
        del os.environ[name]
    os.environ.update(case["environment"], HOME=case["home"])
    config.CONFIG_DIR = Path.home() / ".nextmv"
    config.CONFIG_FILE = config.CONFIG_DIR / "config.yaml"
    config.SESSIONS_FILE = config.CONFIG_DIR / "sessions.yaml"
    try:
        client = Client(**case["given"])
        results.append({"api_key": client.api_key, "url": client.url})
    except Exception as error:
        results.append({"error": repr(error)})
json.dump(results, sys.stdout)
"""


@dataclass(frozen=True)
class Case:
    """Everything that key and endpoint may come from."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    config: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    def home(self, directory: Path) -> Path:
        home = directory / self.name.replace(" ", "-").replace("/", "-")
        (home / ".nextmv").mkdir(parents=True, exist_ok=True)
        if self.config is not None:
            (home / ".nextmv" / "config.yaml").write_text(self.config)
        return home


Place = Callable[[Case], None]


def env(**variables: str) -> dict[str, str]:
    return {f"NEXTMV_{name.upper()}": value for name, value in variables.items()}


ALIKE = [
    Case("nothing at all"),
    Case("a key in the environment", env(api_key="env-key")),
    Case("a key and an endpoint in the environment", env(api_key="k", endpoint="https://a.b")),
    Case("an endpoint alone", env(endpoint="https://a.b")),
    Case("an endpoint without a scheme", env(api_key="k", endpoint="api.example.com")),
    Case("an endpoint over plain HTTP", env(api_key="k", endpoint="http://127.0.0.1:8080")),
    Case("an endpoint with a path", env(api_key="k", endpoint="https://proxy.example/nextmv")),
    Case("empty variables", env(api_key="", endpoint="", profile=""), GOOD),
    Case("the default profile", config=GOOD),
    Case("a default profile without an endpoint", config="apikey: default-key\n"),
    Case("a default profile with a null endpoint", config="apikey: k\nendpoint:\n"),
    Case("a default profile with an empty endpoint", config="apikey: k\nendpoint: ''\n"),
    Case("a default profile with a null key", config="apikey:\nendpoint: a.b\n"),
    Case("a default profile with an empty key", config="apikey: ''\n"),
    Case("a profile in the environment", env(profile="staging"), GOOD),
    Case("a profile with spaces around it", env(profile="  staging "), GOOD),
    Case("the default profile by its name", env(profile="default"), GOOD),
    Case("the default profile in capitals", env(profile="DEFAULT"), GOOD),
    Case("a profile of the wrong case", env(profile="Staging"), GOOD),
    Case("an unknown profile", env(profile="nobody"), GOOD),
    Case("an unknown profile and a key", env(profile="nobody", api_key="env-key"), GOOD),
    Case("an unknown profile, a key and an endpoint", env(profile="x", api_key="k", endpoint="e")),
    Case("a profile without a file", env(profile="staging")),
    Case("a key before the profile's", env(profile="staging", api_key="env-key"), GOOD),
    Case("an endpoint before the profile's", env(profile="staging", endpoint="e.f"), GOOD),
    Case("a key before the default profile's", env(api_key="env-key"), GOOD),
    Case("a profile without a key", env(profile="p"), "apikey: k\np:\n  endpoint: a.b\n"),
    Case("a profile without an endpoint", env(profile="p"), "apikey: k\np:\n  apikey: q\n"),
    Case("a profile that is a text", env(profile="p"), "apikey: k\np: q\n"),
    Case("a profile that is null", env(profile="p"), "apikey: k\np:\n"),
    Case("a profile that is a number", env(profile="2026"), "2026: {apikey: k, endpoint: e}\n"),
    Case("a setting taken for a profile", env(profile="apikey"), GOOD),
    Case("a profile that signs in", env(profile="sso-user"), GOOD),
    Case("a default profile that signs in", config="apikey: k\nauth_type: pkce\n"),
    Case(
        "a profile that signs in, and a key",
        env(profile="sso", api_key="env-key"),
        "sso:\n  auth_type: pkce\n  endpoint: a.b\n",
    ),
    Case("an unknown way to sign in", config="apikey: k\nauth_type: magic\n"),
    Case("an empty file", env(), ""),
    Case("an empty file and a key", env(api_key="env-key"), ""),
    Case("broken YAML", config="apikey: [k\n"),
    Case("a file that is a text", config="just text\n"),
    Case("a key in code", env(api_key="env-key"), GOOD, {"api_key": "code-key"}),
    Case("an endpoint in code", env(endpoint="e.f"), GOOD, {"url": "http://code.example"}),
    Case("a profile in code", config=GOOD, given={"profile": "staging"}),
    Case("a profile in code and in the environment", env(profile="default"), GOOD,
         {"profile": "staging"}),
    Case("a blank profile in the environment", env(profile="  "), GOOD, {"profile": "staging"}),
    Case("an empty key in code", env(api_key="env-key"), GOOD, {"api_key": ""}),
    Case("a blank profile in code", config=GOOD, given={"profile": " "}),
]  # fmt: skip


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the SDK makes of each case, or its error."""
    directory = tmp_path_factory.mktemp("oracle")
    cases = [
        {
            "home": str(case.home(directory)),
            "environment": dict(case.environment),
            "given": dict(case.given),
        }
        for case in [*ALIKE, *(deviation.case for deviation in DEVIATIONS)]
    ]
    answer = subprocess.run(
        [sys.executable, "-c", ORACLE],
        input=json.dumps(cases),
        env={"PATH": os.environ["PATH"], "HOME": str(directory)},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    names = [case.name for case in ALIKE] + [deviation.case.name for deviation in DEVIATIONS]
    return dict(zip(names, json.loads(answer.stdout), strict=True))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Puts this process into a case's home and environment."""

    def enter(case: Case) -> None:
        monkeypatch.setenv("HOME", str(case.home(tmp_path)))
        for name, value in case.environment.items():
            monkeypatch.setenv(name, value)

    return enter


def found_by_library(case: Case) -> Credentials:
    given = case.given
    return Client(given.get("api_key"), given.get("url"), given.get("profile"))._credentials()


def found_by_program() -> Credentials:
    found: list[Credentials] = []

    def run(settings: Settings) -> int:
        [target] = Accounts(settings).targets.values()
        assert isinstance(target._source, Auto)
        found.append(target._source.queue.client._credentials())
        return 0

    command(run, "1.0").main([], standalone_mode=False)
    return found[0]


@pytest.mark.parametrize("case", ALIKE, ids=lambda case: case.name)
def test_the_library_finds_what_the_sdk_finds(
    case: Case, oracle: dict[str, dict[str, str]], place: Place
) -> None:
    place(case)
    expected = oracle[case.name]
    if "error" in expected:
        with pytest.raises(ConfigurationError):
            found_by_library(case)
    else:
        assert found_by_library(case) == Credentials(**expected)


@pytest.mark.parametrize(
    "case", [case for case in ALIKE if not case.given], ids=lambda case: case.name
)
def test_the_program_finds_what_the_sdk_finds(
    case: Case, oracle: dict[str, dict[str, str]], place: Place
) -> None:
    place(case)
    expected = oracle[case.name]
    if "error" in expected:
        with pytest.raises(ConfigurationError):
            found_by_program()
    else:
        assert found_by_program() == Credentials(**expected)


@dataclass(frozen=True)
class Deviation:
    """Where we part from the SDK on purpose."""

    case: Case
    because: str
    theirs: str | None
    """The SDK's URL, or None where its error is what we part from."""
    ours: str | None
    """Our URL, or None where we refuse."""


DEVIATIONS = [
    Deviation(
        Case("a scheme in the file", config="apikey: k\nendpoint: http://a.b\n"),
        "the SDK puts a second scheme before it, which nothing can connect to",
        theirs="https://http://a.b",
        ours="http://a.b",
    ),
    Deviation(
        Case("a slash at the end", env(api_key="k", endpoint="https://a.b/")),
        "paths are put after a slash of their own",
        theirs="https://a.b/",
        ours="https://a.b",
    ),
    Deviation(
        Case("a scheme in capitals", env(api_key="k", endpoint="HTTP://a.b")),
        "schemes have no case (RFC 3986)",
        theirs="https://HTTP://a.b",
        ours="HTTP://a.b",
    ),
    Deviation(
        Case("a key that YAML takes for a number", config="apikey: 20261123\n"),
        "leading zeros would be lost unnoticed",
        theirs="https://api.cloud.nextmv.io",
        ours=None,
    ),
    Deviation(
        Case("an endpoint that is a number", config="apikey: k\nendpoint: 443\n"),
        "it can only be a mistake",
        theirs="https://443",
        ours=None,
    ),
    Deviation(
        Case("a key with a line end", env(api_key="k\n")),
        "a header can't hold it: each request would fail",
        theirs="https://api.cloud.nextmv.io",
        ours=None,
    ),
    Deviation(
        Case("a blank key", env(api_key=" "), GOOD),
        "a header can't hold it: each request would fail",
        theirs="https://api.cloud.nextmv.io",
        ours=None,
    ),
    Deviation(
        Case("a list in the file, and a key", env(api_key="k"), "- apikey: q\n"),
        "a file that is not understood may name another endpoint than the default",
        theirs="https://api.cloud.nextmv.io",
        ours=None,
    ),
    Deviation(
        Case("an endpoint that is no URL", env(api_key="k", endpoint="not a host")),
        "told at start, not by each scrape",
        theirs="https://not a host",
        ours=None,
    ),
]


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: deviation.case.name)
def test_it_parts_from_the_sdk_only_where_it_says_so(
    deviation: Deviation, oracle: dict[str, dict[str, str]], place: Place
) -> None:
    place(deviation.case)
    assert oracle[deviation.case.name].get("url") == deviation.theirs, deviation.because
    if deviation.ours is None:
        with pytest.raises(ConfigurationError):
            found_by_library(deviation.case)
    else:
        assert found_by_library(deviation.case).url == deviation.ours, deviation.because


FAULTY_FILES = [
    ("a-list.yaml", None, "holds a YAML list where a mapping belongs"),
    ("a-text.yaml", None, "holds a YAML str where a mapping belongs"),
    ("broken-yaml.yaml", None, "is not valid YAML (line 2)"),
    ("not-utf8.yaml", None, "is not valid YAML"),
    ("empty.yaml", None, "no API key"),
    ("apikey-a-number.yaml", None, "is not text: put it in quotes"),
    ("apikey-empty.yaml", None, "no API key"),
    ("apikey-null.yaml", None, "no API key"),
    ("apikey-two-lines.yaml", None, "white space, control or non-ASCII characters"),
    ("endpoint-a-number.yaml", None, "endpoint of profile 'default'"),
    ("endpoint-no-url.yaml", None, "endpoint 'not a host' is not a URL"),
    ("endpoint-with-password.yaml", None, "must not hold a user"),
    ("pkce-default.yaml", None, "signs in through a browser"),
    ("good.yaml", "sso-user", "signs in through a browser"),
    ("good.yaml", "nobody", "(with an API key: default, staging)"),
    ("good.yaml", "apikey", "profile 'apikey' is not in"),
    ("only-pkce.yaml", "nobody", "(with an API key: none)"),
    ("empty.yaml", "staging", "there is no configuration in"),
    ("profile-a-text.yaml", "staging", "profile 'staging' is not in"),
    ("profile-without-apikey.yaml", "staging", "has no apikey"),
    ("profile-without-endpoint.yaml", "staging", "has no endpoint"),
    (".", None, "can't be read: Is a directory"),
    ("no-such-file.yaml", None, "does not exist: check --nextmv.config-file"),
]


@pytest.mark.parametrize(("file", "profile", "message"), FAULTY_FILES)
def test_a_faulty_configuration_is_named_and_no_key_of_it_told(
    file: str, profile: str | None, message: str
) -> None:
    path = TESTDATA / file
    with pytest.raises(ConfigurationError) as caught:
        resolve(profile or "default", config_file=path, environ={})
    text = str(caught.value)
    assert message in text
    assert str(path) in text or "endpoint" in text
    assert SECRET not in text
    assert "\n" not in text


FAULTY_KEYS = [
    ("empty.key", "is empty: write the key into it"),
    ("white-space.key", "is empty: write the key into it"),
    ("two-lines.key", "white space, control or non-ASCII characters"),
    ("not-ascii.key", "white space, control or non-ASCII characters"),
    ("not-text.key", "is not text"),
    (".", "can't be read: Is a directory"),
    ("no-such.key", "can't be read: No such file or directory"),
]


@pytest.mark.parametrize(("file", "message"), FAULTY_KEYS)
def test_a_faulty_key_file_is_named_and_the_key_not_told(file: str, message: str) -> None:
    path = TESTDATA / file
    with pytest.raises(ConfigurationError) as caught:
        read_api_key_file(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_white_space_around_the_key_in_a_key_file_is_no_part_of_it() -> None:
    assert read_api_key_file(TESTDATA / "good.key") == "nxmvv1_good"


def test_without_a_file_of_its_own_the_cli_of_nextmv_has_an_empty_configuration() -> None:
    assert load_config() == {}


def test_profiles_with_a_key_leave_out_those_that_a_server_cannot_use() -> None:
    assert profiles_with_key(load_config(TESTDATA / "good.yaml")) == ["default", "staging"]
    assert profiles_with_key(load_config(TESTDATA / "only-pkce.yaml")) == []
    assert profiles_with_key(load_config(TESTDATA / "pkce-default.yaml")) == []


def test_the_key_never_shows_in_the_credentials_own_text() -> None:
    assert SECRET not in repr(Credentials(api_key=SECRET, url="https://a.b"))


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("api.example.com", "https://api.example.com"),
        ("api.example.com:8443/", "https://api.example.com:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://proxy.example/nextmv//", "https://proxy.example/nextmv"),
    ],
)
def test_an_endpoint_is_brought_into_the_form_of_a_base_url(endpoint: str, url: str) -> None:
    assert resolve(api_key="k", url=endpoint, environ={}).url == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://api.example.com",
        "https://",
        "https:///path",
        "http://a b",
        "https://a.b:port",
        "https://a.b:99999",
        "https://a.b?query",
        "https://a.b#fragment",
        "https://user@a.b",
        "https://a.b\nHost: c.d",
        "://",
    ],
)
def test_an_endpoint_that_is_no_base_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        resolve(api_key="k", url=endpoint, environ={})
