"""Each setting, from its flag and from each spelling of its variable."""

import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from support.exporter import settings_of

from nextmv_exporter.nextmv.__main__ import print_queue
from nextmv_exporter.nextmv.client import MAX_RESPONSE_BYTES, TIMEOUT
from nextmv_exporter.scrape.sources import RUN_LOOKBACK
from nextmv_exporter.scrape.summary import take_snapshot
from nextmv_exporter.scrape.target import ScrapeOptions
from nextmv_exporter.settings import ENVIRONMENT_PREFIX, OPTIONS, Settings, unknown_variables
from nextmv_exporter.units import Address


class Example(NamedTuple):
    text: str
    value: object
    other: str = ""
    """Another text, which the flag's goes before."""


EXAMPLES = {
    "demo": Example("true", True, "false"),
    "once": Example("1", True, "0"),
    "nextmv.profile": Example("staging", ("staging",), "a,b"),
    "nextmv.config-file": Example("a.yaml", Path("a.yaml"), "b.yaml"),
    "nextmv.api-key-file": Example("a.key", Path("a.key"), "b.key"),
    "nextmv.endpoint": Example("a.example", "a.example", "b.example"),
    "nextmv.account-name": Example("production", "production", "staging"),
    "nextmv.timeout": Example("5s", 5.0, "6s"),
    "nextmv.max-response-bytes": Example("1MiB", 2**20, "2MiB"),
    "nextmv.source": Example("application-runs", "application-runs", "account-queue"),
    "nextmv.run-lookback": Example("48h", 172_800.0, "1h"),
    "queue.zero-retention": Example("0s", 0.0, "1m"),
    "queue.max-groups": Example("7", 7, "8"),
    "queue.wait-buckets": Example("1s,1m", (1.0, 60.0), "2s"),
    "web.listen-address": Example("[::1]:1", (Address("::1", 1),), ":2, :3"),
    "web.telemetry-path": Example("/a", "/a", "/b"),
    "web.timeout-offset": Example("250ms", 0.25, "1s"),
    "web.external-url": Example("https://a.example", "https://a.example", "https://b.example"),
    "web.config.file": Example("web.yml", Path("web.yml"), "other.yml"),
    "web.healthcheck": Example("true", True, "false"),
    "log.level": Example("warn", "warn", "error"),
    "log.format": Example("json", "json", "logfmt"),
}
FLAGS = {"demo", "once", "web.healthcheck"}
each_setting = pytest.mark.parametrize("flag", EXAMPLES)


def spelling(flag: str, dot: str) -> str:
    return ENVIRONMENT_PREFIX + flag.replace(".", dot).replace("-", "_").upper()


def arguments(flag: str, text: str) -> list[str]:
    return [f"--{flag}"] if flag in FLAGS else [f"--{flag}", text]


def value(found: Settings, flag: str) -> Any:
    return getattr(found, flag.replace(".", "_").replace("-", "_"))


def flag_of(option: click.Option) -> str:
    return option.opts[0].removeprefix("--")


def test_there_is_an_example_of_every_setting() -> None:
    for flag in map(flag_of, OPTIONS):
        assert flag in EXAMPLES, f"tests/test_settings.py: add an example of --{flag}"
    assert list(EXAMPLES) == list(map(flag_of, OPTIONS))


def test_the_defaults_are_the_documented_ones() -> None:
    assert settings_of() == Settings(
        demo=False,
        once=False,
        nextmv_profile=(),
        nextmv_config_file=None,
        nextmv_api_key_file=None,
        nextmv_endpoint=None,
        nextmv_account_name="default",
        nextmv_timeout=10,
        nextmv_max_response_bytes=64 * 2**20,
        nextmv_source="auto",
        nextmv_run_lookback=86_400,
        queue_zero_retention=300,
        queue_max_groups=2000,
        queue_wait_buckets=(5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200),
        web_listen_address=(Address("", 10057),),
        web_telemetry_path="/metrics",
        web_timeout_offset=0.5,
        web_external_url=None,
        web_config_file=None,
        web_healthcheck=False,
        log_level="info",
        log_format="logfmt",
    )


def test_the_defaults_of_the_library_are_those_of_the_program() -> None:
    defaults, options = settings_of(), ScrapeOptions()
    assert options == ScrapeOptions(
        timeout=defaults.nextmv_timeout,
        wait_buckets=defaults.queue_wait_buckets,
        max_groups=defaults.queue_max_groups,
        zero_retention=defaults.queue_zero_retention,
    )
    assert defaults.nextmv_timeout == TIMEOUT
    assert defaults.nextmv_max_response_bytes == MAX_RESPONSE_BYTES
    assert defaults.nextmv_run_lookback == RUN_LOOKBACK
    snapshot = inspect.signature(take_snapshot)
    assert defaults.nextmv_max_response_bytes == snapshot.parameters["max_bytes"].default


@each_setting
def test_a_flag_sets_it(flag: str) -> None:
    example = EXAMPLES[flag]
    assert value(settings_of(*arguments(flag, example.text)), flag) == example.value


def test_a_single_group_is_enough() -> None:
    assert settings_of("--queue.max-groups=1").queue_max_groups == 1


@each_setting
@pytest.mark.parametrize("dot", ["_", "__"])
def test_the_environment_sets_it_in_both_spellings(
    flag: str, dot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(spelling(flag, dot), EXAMPLES[flag].text)
    assert value(settings_of(), flag) == EXAMPLES[flag].value


@each_setting
@pytest.mark.parametrize("dot", ["_", "__"])
def test_a_flag_wins_over_the_environment(
    flag: str, dot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(spelling(flag, dot), EXAMPLES[flag].other)
    assert value(settings_of(*arguments(flag, EXAMPLES[flag].text)), flag) == EXAMPLES[flag].value


@each_setting
def test_an_empty_variable_is_as_good_as_none(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = value(settings_of(), flag)
    monkeypatch.setenv(spelling(flag, "_"), "")
    assert value(settings_of(), flag) == default


@pytest.mark.parametrize(
    ("variable", "flag"),
    [
        ("NEXTMV_PROFILE", "nextmv.profile"),
        ("NEXTMV_CONFIG_FILE", "nextmv.config-file"),
        ("NEXTMV_API_KEY_FILE", "nextmv.api-key-file"),
        ("NEXTMV_ENDPOINT", "nextmv.endpoint"),
    ],
)
def test_nextmvs_own_variables_are_read_after_the_exporters(
    variable: str, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES[flag]
    monkeypatch.setenv(variable, example.text)
    assert value(settings_of(), flag) == example.value
    monkeypatch.setenv(variable, example.other)
    monkeypatch.setenv(spelling(flag, "_"), example.text)
    assert value(settings_of(), flag) == example.value


def test_profiles_are_separated_by_commas_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEXTMV_PROFILE", "production, staging,two words")
    assert settings_of().nextmv_profile == ("production", "staging", "two words")


def test_a_flag_for_profiles_is_repeated() -> None:
    given = settings_of("--nextmv.profile", "production", "--nextmv.profile=two words, one comma")
    assert given.nextmv_profile == ("production", "two words, one comma")


def test_there_is_no_flag_for_the_key() -> None:
    assert not [option for option in OPTIONS if flag_of(option).endswith(("key", "token"))]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("NEXTMV_EXPORTER_WEB_LISTEN_ADRESS", "NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS"),
        ("NEXTMV_EXPORTER_LISTEN_ADDRESS", "NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS"),
        ("NEXTMV_EXPORTER_TIMEOUT", "NEXTMV_EXPORTER_NEXTMV_TIMEOUT"),
        ("NEXTMV_EXPORTER_API_KEY_FILE", "NEXTMV_EXPORTER_NEXTMV_API_KEY_FILE"),
        ("NEXTMV_EXPORTER_LOGLEVEL", "NEXTMV_EXPORTER_LOG_LEVEL"),
        ("NEXTMV_EXPORTER_WEB_CONFIG_FILES", "NEXTMV_EXPORTER_WEB_CONFIG_FILE"),
        ("nextmv_exporter_log_format", "NEXTMV_EXPORTER_LOG_FORMAT"),
        ("NEXTMV_EXPORTER_" + "Z" * 50, "NEXTMV_EXPORTER_ONCE"),
    ],
)
def test_a_misspelt_variable_is_found_with_the_nearest_name(name: str, nearest: str) -> None:
    assert list(unknown_variables({"PATH": "/bin", name: "x"})) == [(name, nearest)]


@each_setting
@pytest.mark.parametrize("dot", ["_", "__"])
def test_no_variable_of_a_setting_is_taken_for_a_misspelt_one(flag: str, dot: str) -> None:
    assert not list(unknown_variables({spelling(flag, dot): EXAMPLES[flag].text}))


def test_what_kubernetes_and_the_image_set_is_not_taken_for_a_misspelt_variable() -> None:
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "METRICS_SERVICE_HOST"]
    ports = ["PORT_10057_TCP", "PORT_10057_TCP_PROTO", "PORT_10057_TCP_PORT", "PORT_10057_UDP_ADDR"]
    environment = {f"NEXTMV_EXPORTER_{name}": "1" for name in [*names, *ports, "REVISION"]}
    environment["NEXTMV_EXPORTER_PORT"] = "tcp://10.0.0.1:10057"
    assert not list(unknown_variables(environment))


@pytest.mark.parametrize("option", [*OPTIONS, *print_queue.params], ids=lambda each: each.opts[0])
def test_the_help_of_each_flag_is_sentences_with_the_default_after_them(option: Any) -> None:
    assert re.fullmatch(r"[A-Za-z].*\.( \[default: [^\]]+\])?", option.help)
