import re
from pathlib import Path

import pytest

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.nextmv.credentials import (
    Credentials,
    check_api_key,
    check_url,
    load_config,
    profile_name,
    profiles_with_key,
    read_api_key_file,
    resolve,
)

TESTDATA = Path(__file__).parent / "testdata"
GOOD = TESTDATA / "good.yaml"


def refusal(profile: str = "default", config: str = "good", **environ: str) -> str:
    """The message that credentials are refused with."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(profile, config_file=TESTDATA / f"{config}.yaml", environ=environ)
    assert "SECR" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_key_is_kept_out_of_repr() -> None:
    assert "the-key" not in repr(Credentials(api_key="the-key", url="https://api.example"))


def test_the_default_profile_is_the_top_level_of_the_file() -> None:
    found = resolve(config_file=GOOD, environ={})
    assert found == Credentials("default-key", "https://api.cloud.nextmv.io")


def test_another_profile_is_found_by_its_name() -> None:
    found = resolve("staging", config_file=GOOD, environ={})
    assert found == Credentials("staging-key", "https://api.staging.example")


def test_without_a_file_the_key_is_enough() -> None:
    found = resolve(environ={"NEXTMV_API_KEY": "k"})
    assert found == Credentials("k", "https://api.cloud.nextmv.io")


def test_a_file_that_is_not_needed_need_not_be_there() -> None:
    missing = TESTDATA / "missing.yaml"
    assert resolve(api_key="k", url="api.example", config_file=missing, environ={}) == Credentials(
        "k", "https://api.example"
    )


@pytest.mark.parametrize(
    ("profile", "config", "parts"),
    [
        ("default", "missing", ["missing.yaml can't be read: No such file"]),
        ("default", "list", ["list.yaml holds a YAML list instead of a mapping"]),
        ("default", "text", ["text.yaml holds a YAML str"]),
        (
            "default",
            "invalid",
            ["invalid.yaml is not valid YAML (line 2)", "fix it, or recreate it with"],
        ),
        ("default", "not_utf8", ["not_utf8.yaml is not valid YAML"]),
        ("default", "empty", ["no API key", "NEXTMV_API_KEY", "nextmv configuration create"]),
        ("default", "no_key", ["no API key", "no_key.yaml"]),
        ("default", "not_text", ["apikey of profile 'default'", "not text", "quotes"]),
        ("numbers", "not_text", ["endpoint of profile 'numbers'", "not text"]),
        ("default", "pkce", ["'default'", "browser (auth_type: pkce)", "create an API key"]),
        ("sso-user", "pkce", ["'sso-user'", "browser (auth_type: pkce)"]),
        ("default", "bad_keys", ["white space, control or non-ASCII", "copy it again"]),
        ("newline", "bad_keys", ["white space, control or non-ASCII"]),
        ("foreign", "bad_keys", ["white space, control or non-ASCII"]),
        ("default", "bad_endpoints", ["'ht tp://api.example' is not a URL", "write it like"]),
        ("query", "bad_endpoints", ["host api.example must not hold a user, a query"]),
        ("user", "bad_endpoints", ["host api.example must not hold a user, a query"]),
        ("nowhere", "good", ["'nowhere' is not in", "with an API key: default, staging, bare"]),
        ("nowhere", "empty", ["'nowhere'", "there is no configuration in", "empty.yaml"]),
        ("apikey", "good", ["'apikey' is not in"]),
        ("bare", "good", ["'bare'", "has no endpoint", "endpoint: api.cloud.nextmv.io"]),
        ("keyless", "good", ["'keyless'", "has no apikey", "nextmv configuration create"]),
    ],
)
def test_the_message_says_where_what_is_wrong_and_what_to_do(
    profile: str, config: str, parts: list[str]
) -> None:
    message = refusal(profile, config)
    for part in parts:
        assert part in message


def test_a_file_that_cant_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read: Is a directory"):
        load_config(tmp_path)


def test_the_clis_own_file_may_be_absent() -> None:
    assert load_config() == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("staging", "staging"), (" staging ", "staging"), ("DEFAULT", "default"), ("", "default")],
)
def test_a_profiles_name_is_read_as_the_sdk_reads_it(name: str, meant: str) -> None:
    assert profile_name(name) == meant


def test_profiles_with_a_key_are_listed_the_default_first() -> None:
    assert profiles_with_key(load_config(GOOD)) == ["default", "staging", "bare"]
    assert profiles_with_key({}) == []


def test_only_profiles_that_can_be_asked_for_are_listed() -> None:
    config = TESTDATA / "odd_profiles.yaml"
    assert profiles_with_key(load_config(config)) == ["good"]
    assert resolve("good", config_file=config, environ={}).api_key == "k"


def test_a_key_file_holds_a_key_and_white_space_around_it() -> None:
    assert read_api_key_file(TESTDATA / "good.key") == "file-key"


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("missing.key", "can't be read: No such file"),
        (".", "can't be read: Is a directory"),
        ("empty.key", "is empty: write the key into it"),
        ("blank.key", "is empty: write the key into it"),
        ("two_lines.key", "white space, control or non-ASCII"),
        ("not_ascii.key", "white space, control or non-ASCII"),
        ("quoted.key", "is in quotes: remove them"),
        ("bom.key", "starts with a byte order mark: save the file as UTF-8 without one"),
        ("not_text.key", "is UTF-16 text: save it as UTF-8"),
    ],
)
def test_a_bad_key_file_is_named_and_not_quoted(file: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_api_key_file(TESTDATA / file)
    assert f"API key file {TESTDATA / file}" in str(caught.value)
    assert fault in str(caught.value)
    assert "SECR" not in str(caught.value)


@pytest.mark.parametrize("key", ["k", "nxmvv1_a/B+0:c~d=e", "!" * 4096, "{}$%\"'", '"', "a'", "'a"])
def test_any_visible_ascii_may_be_a_key(key: str) -> None:
    assert check_api_key(key) == key


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "\ta", "a\x00", "a\x7f", "clé", "k\u200b"])
def test_a_key_that_would_break_a_header_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_api_key(key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("api.example", "https://api.example"),
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example/base//", "https://api.example/base"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "https://[::1]:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("localhost", "https://localhost"),
    ],
)
def test_an_endpoint_becomes_a_base_url(given: str, url: str) -> None:
    assert check_url(given) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "ftp://api.example",
        "file:///etc/passwd",
        "https://api.example:port",
        "https://api.example:99999",
        "https:// api.example",
        "api.example\n",
        "api.example\r\nX-Injected: 1",
        "https://[::1",
        "://",
        "https://a..example",
        "https://" + 64 * "a",
        "https://\ud800.example",
    ],
)
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("write it like https://api.cloud")):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:SECRET@api.example",
        "https://SECRET@api.example",
        "https://api.example?key=SECRET",
        "https://api.example/#SECRET",
    ],
)
def test_a_url_that_holds_more_than_a_place_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    assert "host api.example" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://me:SECRET@api.example:port", "ftp://me:SECRET@api.example"]
)
def test_a_password_in_a_bad_url_is_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("http://api.example", True),
        ("http://localhost.example", True),
        ("http://10.0.0.1:8080/base", True),
        ("http://[fd00::1]:8080", True),
        ("https://api.example", False),
        ("https://10.0.0.1", False),
        ("http://localhost:8080", False),
        ("http://LOCALHOST:8080", False),
        ("http://api.localhost", False),
        ("http://127.0.0.1", False),
        ("http://127.8.9.1:80", False),
        ("http://[::1]:8080", False),
    ],
)
def test_a_key_is_sent_in_clear_to_another_machine_without_tls(url: str, in_clear: bool) -> None:
    assert Credentials("k", check_url(url)).sent_in_clear is in_clear
