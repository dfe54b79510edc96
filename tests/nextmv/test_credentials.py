from pathlib import Path

import pytest
from support.harness import write_yaml

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
from nextmv_exporter.nextmv.errors import ConfigurationError

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
    ("profile", "config", "message"),
    [
        ("default", "missing", "configuration file FILE can't be read: No such file or directory"),
        (
            "default",
            "list",
            (
                "configuration file FILE holds a YAML list instead of a mapping: recreate it "
                "with `nextmv configuration create`"
            ),
        ),
        (
            "default",
            "text",
            (
                "configuration file FILE holds a YAML str instead of a mapping: recreate it with "
                "`nextmv configuration create`"
            ),
        ),
        (
            "default",
            "invalid",
            (
                "configuration file FILE is not valid YAML (line 2): fix it, or recreate it with "
                "`nextmv configuration create`"
            ),
        ),
        (
            "default",
            "not_utf8",
            (
                "configuration file FILE is not valid YAML: fix it, or recreate it with `nextmv "
                "configuration create`"
            ),
        ),
        (
            "default",
            "empty",
            (
                "no API key: set NEXTMV_API_KEY, or add an apikey to FILE with `nextmv "
                "configuration create`"
            ),
        ),
        (
            "default",
            "no_key",
            (
                "no API key: set NEXTMV_API_KEY, or add an apikey to FILE with `nextmv "
                "configuration create`"
            ),
        ),
        (
            "default",
            "not_text",
            "apikey of profile 'default' in FILE is not text: put it in quotes",
        ),
        ("numbers", "not_text", "endpoint of profile 'numbers' in FILE is not text"),
        (
            "default",
            "pkce",
            (
                "profile 'default' in FILE signs in through a browser (auth_type: pkce), which a "
                "server can't do: create an API key in the Nextmv console and use a profile with "
                "an apikey"
            ),
        ),
        (
            "sso-user",
            "pkce",
            (
                "profile 'sso-user' in FILE signs in through a browser (auth_type: pkce), which "
                "a server can't do: create an API key in the Nextmv console and use a profile "
                "with an apikey"
            ),
        ),
        (
            "default",
            "bad_keys",
            (
                "apikey of profile 'default' in FILE has white space, control or non-ASCII "
                "characters: copy it again from the Nextmv console"
            ),
        ),
        (
            "newline",
            "bad_keys",
            (
                "apikey of profile 'newline' in FILE has white space, control or non-ASCII "
                "characters: copy it again from the Nextmv console"
            ),
        ),
        (
            "foreign",
            "bad_keys",
            (
                "apikey of profile 'foreign' in FILE has white space, control or non-ASCII "
                "characters: copy it again from the Nextmv console"
            ),
        ),
        (
            "default",
            "bad_endpoints",
            (
                "endpoint of profile 'default' in FILE 'ht tp://api.example' is not a URL: write "
                "it like https://api.cloud.nextmv.io"
            ),
        ),
        (
            "query",
            "bad_endpoints",
            (
                "endpoint of profile 'query' in FILE for host api.example must not hold a user, "
                "a query or a fragment: write it like https://api.cloud.nextmv.io"
            ),
        ),
        (
            "user",
            "bad_endpoints",
            (
                "endpoint of profile 'user' in FILE for host api.example must not hold a user, a "
                "query or a fragment: write it like https://api.cloud.nextmv.io"
            ),
        ),
        (
            "nowhere",
            "good",
            (
                "profile 'nowhere' is not in FILE: choose one that is there (with an API key: "
                "default, staging, bare), or add it with `nextmv configuration create`"
            ),
        ),
        (
            "nowhere",
            "empty",
            (
                "profile 'nowhere' is requested, but there is no configuration in FILE: create "
                "it with `nextmv configuration create`"
            ),
        ),
        (
            "apikey",
            "good",
            (
                "profile 'apikey' is not in FILE: choose one that is there (with an API key: "
                "default, staging, bare), or add it with `nextmv configuration create`"
            ),
        ),
        (
            "bare",
            "good",
            "profile 'bare' in FILE has no endpoint: add one, like `endpoint: api.cloud.nextmv.io`",
        ),
        (
            "keyless",
            "good",
            "profile 'keyless' in FILE has no apikey: add it with `nextmv configuration create`",
        ),
    ],
)
def test_the_message_says_where_what_is_wrong_and_what_to_do(
    profile: str, config: str, message: str
) -> None:
    assert refusal(profile, config) == message.replace("FILE", str(TESTDATA / f"{config}.yaml"))


@pytest.mark.parametrize(("number", "end"), [(10, "i, j"), (11, "i, j and 1 more")])
def test_the_message_lists_ten_profiles_at_most(tmp_path: Path, number: int, end: str) -> None:
    entry = {"apikey": "key", "endpoint": "api.example"}
    file = write_yaml(tmp_path / "c.yaml", dict.fromkeys("abcdefghijk"[:number], entry))
    with pytest.raises(ConfigurationError, match=rf"API key: a, .*, {end}\), or add"):
        resolve("nowhere", config_file=file)


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


@pytest.mark.parametrize(
    "name",
    [
        *("apikey", "auth_session", "auth_type", "default"),
        *("endpoint", "sso_domain", "system_certs", "team_id"),
    ],
)
def test_a_setting_is_no_profile_even_if_it_is_a_mapping(name: str) -> None:
    profile = {"apikey": "k", "endpoint": "api.example"}
    assert profiles_with_key({name: profile, "staging": profile}) == (
        ["default", "staging"] if name == "apikey" else ["staging"]
    )


def test_a_key_file_holds_a_key_and_white_space_around_it() -> None:
    assert read_api_key_file(TESTDATA / "good.key") == "file-key"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing.key", "API key file FILE can't be read: No such file or directory"),
        (".", "API key file FILE can't be read: Is a directory"),
        ("empty.key", "API key file FILE is empty: write the key into it"),
        ("blank.key", "API key file FILE is empty: write the key into it"),
        (
            "two_lines.key",
            (
                "the key in API key file FILE has white space, control or non-ASCII characters: "
                "copy it again from the Nextmv console"
            ),
        ),
        (
            "not_ascii.key",
            (
                "the key in API key file FILE has white space, control or non-ASCII characters: "
                "copy it again from the Nextmv console"
            ),
        ),
        (
            "quoted.key",
            (
                "the key in API key file FILE is in quotes: remove them, since here they are a "
                "part of the value"
            ),
        ),
        (
            "bom.key",
            (
                "the key in API key file FILE starts with a byte order mark: save the file as "
                "UTF-8 without one"
            ),
        ),
        ("not_text.key", "API key file FILE is UTF-16 text: save it as UTF-8"),
        ("not_text_big_endian.key", "API key file FILE is UTF-16 text: save it as UTF-8"),
        ("latin1.key", "API key file FILE is not text"),
    ],
)
def test_a_bad_key_file_is_named_and_not_quoted(file: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_api_key_file(TESTDATA / file)
    assert str(caught.value) == message.replace("FILE", str(TESTDATA / file))
    assert "SECR" not in str(caught.value)


@pytest.mark.parametrize("key", ["k", "nxmvv1_a/B+0:c~d=e", "!" * 4096, "{}$%\"'", '"', "a'", "'a"])
def test_any_visible_ascii_may_be_a_key(key: str) -> None:
    assert check_api_key(key) == key


def test_without_its_origin_a_bad_key_or_endpoint_is_one_given_in_code() -> None:
    with pytest.raises(ConfigurationError, match=r"^the API key has white space"):
        resolve(api_key="a b", url="api.example", environ={})
    with pytest.raises(ConfigurationError, match=r"^the endpoint 'ht tp' is not a URL"):
        resolve(api_key="k", url="ht tp", environ={})
    with pytest.raises(ConfigurationError, match=r"^NEXTMV_API_KEY has white space"):
        resolve(url="api.example", environ={"NEXTMV_API_KEY": "a b"})
    with pytest.raises(ConfigurationError, match=r"^NEXTMV_ENDPOINT 'ht tp' is not a URL"):
        resolve(api_key="k", environ={"NEXTMV_ENDPOINT": "ht tp"})


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
        ("http://http:8080", "http://http:8080"),
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
        "https:/api.example",
        "http:api.example",
        "https//api.example",
        "https:\\\\api.example",
        "https://api.example\\base",
        "https://api.example:0x50",
    ],
)
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    example = "write it like https://api.cloud.nextmv.io"
    assert str(caught.value) == f"the endpoint {url!r} is not a URL: {example}"
    assert caught.value.setting == "endpoint"


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
    assert str(caught.value) == (
        "the endpoint for host api.example must not hold a user, a query or a fragment: "
        "write it like https://api.cloud.nextmv.io"
    )
    assert caught.value.setting == "endpoint"


@pytest.mark.parametrize(
    "url", ["https://me:SECRET@api.example:port", "ftp://me:SECRET@api.example"]
)
def test_a_password_in_a_bad_url_is_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    assert "SECRET" not in str(caught.value)
    assert "<redacted>" in str(caught.value)


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
