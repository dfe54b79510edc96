"""Each setting, from its flag and from each spelling of its variable; what is refused, and how."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exporter import settings_of

from nextmv_exporter.nextmv.client import MAX_RESPONSE_BYTES, TIMEOUT
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.nextmv.queue_command import print_queue
from nextmv_exporter.scrape.target import ScrapeOptions
from nextmv_exporter.settings import (
    ENVIRONMENT_PREFIX,
    OPTIONS,
    Address,
    Settings,
    duration_or_zero,
    from_environment,
    unknown_variables,
)

BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200)
EXAMPLES: dict[str, tuple[Any, str, Any, str]] = {
    # By flag: the default; a text and the value that it means; a text which the flag's goes before.
    "demo": (False, "true", True, "false"),
    "once": (False, "1", True, "0"),
    "nextmv.profile": ((), "staging", ("staging",), "a, b"),
    "nextmv.config-file": (None, "a.yaml", Path("a.yaml"), "b.yaml"),
    "nextmv.api-key-file": (None, "a.key", Path("a.key"), "b.key"),
    "nextmv.endpoint": (None, "a.example", "https://a.example", "b.example"),
    "nextmv.account-name": ("default", "production", "production", "staging"),
    "nextmv.timeout": (10, "5s", 5, "6s"),
    "nextmv.max-response-bytes": (64 * 2**20, "1MiB", 2**20, "2MiB"),
    "nextmv.source": ("auto", "application-runs", "application-runs", "account-queue"),
    "nextmv.run-lookback": (86_400, "48h", 172_800, "1h"),
    "queue.zero-retention": (300, "0s", 0, "1m"),
    "queue.max-groups": (2000, "7", 7, "8"),
    "queue.wait-buckets": (BUCKETS, "1s,1m", (1, 60), "2s"),
    "web.listen-address": ((Address("", 10057),), "[::1]:1", (Address("::1", 1),), ":2, :3"),
    "web.telemetry-path": ("/metrics", "/a", "/a", "/b"),
    "web.timeout-offset": (0.5, "250ms", 0.25, "1s"),
    "web.external-url": (None, "https://a.example", "https://a.example", "https://b.example"),
    "web.config.file": (None, "web.yml", Path("web.yml"), "other.yml"),
    "log.level": ("info", "warn", "warn", "error"),
    "log.format": ("logfmt", "json", "json", "logfmt"),
}
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(field.name for field in dataclasses.fields(Settings)),
    **{re.sub("[.-]", "_", flag): default for flag, (default, *_) in EXAMPLES.items()},
}
DEFAULTS = Settings(**_DEFAULTS)
each_flag = pytest.mark.parametrize("flag", EXAMPLES)


def variable(flag: str, dot: str = "_") -> str:
    return ENVIRONMENT_PREFIX + flag.replace(".", dot).replace("-", "_").upper()


def value(found: Settings, flag: str) -> Any:
    return getattr(found, flag.replace(".", "_").replace("-", "_"))


def test_every_setting_has_an_example_and_the_documented_default() -> None:
    flags = [option.opts[0].removeprefix("--") for option in OPTIONS]
    assert flags == list(EXAMPLES), "tests/test_settings.py: add an example of each flag"
    assert settings_of() == from_environment() == DEFAULTS
    assert not [flag for flag in flags if flag.endswith(("key", "token"))]


@each_flag
def test_the_environment_sets_it_in_both_spellings_and_a_flag_wins(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text, meant, other = EXAMPLES[flag]
    arguments = [f"--{flag}"] if flag in ("demo", "once") else [f"--{flag}", text]
    assert value(settings_of(*arguments), flag) == meant
    for dot in ("_", "__"):
        with monkeypatch.context() as patch:
            patch.setenv(variable(flag, dot), text)
            assert value(settings_of(), flag) == meant
            patch.setenv(variable(flag, dot), other)
            assert value(settings_of(*arguments), flag) == meant
            patch.setenv(variable(flag, dot), "")
            assert settings_of() == DEFAULTS


@pytest.mark.parametrize(
    "name", ["PROFILE", "CONFIG_FILE", "API_KEY_FILE", "ENDPOINT", "ACCOUNT_NAME"]
)
def test_nextmvs_own_variables_are_read_after_the_exporters(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = f"nextmv.{name.lower().replace('_', '-')}"
    _, text, meant, other = EXAMPLES[flag]
    monkeypatch.setenv(f"NEXTMV_{name}", text)
    assert value(settings_of(), flag) == meant
    monkeypatch.setenv(f"NEXTMV_{name}", other)
    monkeypatch.setenv(variable(flag), text)
    assert value(settings_of(), flag) == meant


def test_the_defaults_of_the_library_are_those_of_the_program() -> None:
    assert ScrapeOptions() == ScrapeOptions(
        timeout=DEFAULTS.nextmv_timeout,
        wait_buckets=DEFAULTS.queue_wait_buckets,
        max_groups=DEFAULTS.queue_max_groups,
        zero_retention=DEFAULTS.queue_zero_retention,
    )
    assert DEFAULTS.nextmv_timeout == TIMEOUT
    assert DEFAULTS.nextmv_max_response_bytes == MAX_RESPONSE_BYTES


def test_what_is_repeatable_is_separated_by_commas_in_the_environment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repeated = settings_of("--nextmv.profile=production", "--nextmv.profile=two words, a comma")
    assert repeated.nextmv_profile == ("production", "two words, a comma")
    monkeypatch.setenv("NEXTMV_PROFILE", "production, staging,two words")
    assert settings_of().nextmv_profile == ("production", "staging", "two words")


ACCEPTED = {
    "nextmv.timeout": {"1ms": 0.001, "1h30m": 5400, "1.5h": 5400, "100y": 3_153_600_000},
    "queue.zero-retention": {"0": 0, "0s": 0},
    "nextmv.max-response-bytes": {"1": 1, "10 KB": 10_000, "2MB": 2 * 10**6, "1GiB": 2**30},
    "queue.max-groups": {"1": 1},
    "web.listen-address": {
        ":0": (Address("", 0),),
        " localhost:65535": (Address("localhost", 65535),),
        "[::]:1": (Address("::", 1),),
    },
    "web.telemetry-path": {"/a/b-c.d_e~": "/a/b-c.d_e~", "/sdx": "/sdx"},
    "web.external-url": {"http://a:1/base/": "http://a:1/base", "https://[::1]:2": "https://[::1]:2"},
    "nextmv.account-name": {" two words ": "two words", "配送": "配送"},
}  # fmt: skip
REFUSED = {
    "nextmv.timeout": [
        *("10", "0s", "0", "-5s", "5 s", "5s1m", "1m1m", "inf", "nan", "1000y", "٣s", "", "1e3s"),
        "9" * 400 + "y",
    ],
    "nextmv.max-response-bytes": ["64M", "0", "-1", "1.5MiB", "mib", ""],
    "nextmv.source": ["queue"],
    "queue.max-groups": ["0", "many"],
    "queue.wait-buckets": ["1m,5s", "1s,1s", "0s,1s", "", "1s,,2s", "+Inf"],
    "web.listen-address": ["localhost", ":99999", "::1:80", "a:b", "[::1]", "a..b:1"],
    "web.telemetry-path": ["/", "metrics", "/sd", "/-/ready", "/a b", "/a?b", "//", "/a/", "/é"],
    "web.external-url": [
        *("exporter.example", "ftp://a", "https://", "https://SECR@a", "http://a:0", "http://a?k=SECR"),
        "http://me:SECR@a:b",
    ],
    "nextmv.endpoint": ["a b", "ftp://a", "https://me:SECR@a", "a?k=SECR"],
    "nextmv.account-name": ["a\x01b", "a\u2028b", "\udcff"],
    "nextmv.profile": ["a\x1b[31m"],
    "log.level": ["loud"],
    "log.format": ["xml"],
}  # fmt: skip


@pytest.mark.parametrize("flag", ACCEPTED)
def test_values_are_read_as_written(flag: str) -> None:
    for text, meant in ACCEPTED[flag].items():  # type: ignore[attr-defined]
        assert value(settings_of(f"--{flag}={text}"), flag) == meant, text


@pytest.mark.parametrize("flag", REFUSED)
def test_a_bad_value_is_refused_with_its_flag_and_its_variable(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in REFUSED[flag]:
        with pytest.raises(ConfigurationError, match=re.escape(f"'--{flag}'")) as caught:
            from_environment([f"--{flag}={text}"])
        assert "SECR" not in str(caught.value)
        if not text:
            continue
        for dot in ("_", "__"):
            with monkeypatch.context() as patch:
                patch.setenv(variable(flag, dot), text)
                with pytest.raises(ConfigurationError, match=rf"\(from {variable(flag, dot)}\)"):
                    from_environment()


@given(st.lists(st.integers(0, 999), min_size=7, max_size=7))
def test_a_duration_is_the_sum_of_its_parts(amounts: list[int]) -> None:
    seconds = (31_536_000, 604_800, 86_400, 3600, 60, 1, 0.001)
    amounts[0] %= 10
    units = zip(amounts, ("y", "w", "d", "h", "m", "s", "ms"), strict=True)
    text = "".join(f"{amount}{unit}" for amount, unit in units if amount) or "0"
    total = sum(amount * unit for amount, unit in zip(amounts, seconds, strict=True))
    assert duration_or_zero(text) == pytest.approx(total)


# A profile asked for by flag

REPLACED: dict[str, tuple[dict[str, str], list[str], str]] = {
    "key": ({"NEXTMV_API_KEY": "k"}, [], "NEXTMV_API_KEY would replace its key or"),
    "endpoint": ({"NEXTMV_ENDPOINT": "e"}, [], "NEXTMV_ENDPOINT would replace its key or endpoint"),
    "exporter's endpoint": (
        {"NEXTMV_EXPORTER_NEXTMV_ENDPOINT": "e"},
        [],
        "NEXTMV_EXPORTER_NEXTMV_ENDPOINT would replace its key or endpoint",
    ),
    "key file": ({"NEXTMV_API_KEY_FILE": "f"}, [], "NEXTMV_API_KEY_FILE would replace its key or"),
    "key file by flag": ({}, ["--nextmv.api-key-file=f"], "--nextmv.api-key-file would replace"),
    "key and endpoint": ({"NEXTMV_API_KEY": "k", "NEXTMV_ENDPOINT": "e"}, [], "NEXTMV_API_KEY"),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_profile_by_flag_that_something_else_replaces_is_refused_naming_both(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, flags, fault = REPLACED[case]
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError, match=f"--nextmv.profile asks for staging.*{fault}"):
        from_environment(["--nextmv.profile=staging", *flags])
    assert from_environment(["--nextmv.profile=staging", "--demo", *flags]).demo
    for name in ("NEXTMV_PROFILE", "NEXTMV_EXPORTER_NEXTMV_PROFILE"):
        with monkeypatch.context() as patch:  # there, the order of the SDK holds
            patch.setenv(name, "staging")
            assert from_environment(flags).nextmv_profile == ("staging",)


def test_an_endpoint_by_flag_is_as_much_a_statement_as_the_profile() -> None:
    assert (
        from_environment(["--nextmv.profile=a", "--nextmv.endpoint=e"]).nextmv_endpoint
        == "https://e"
    )


# Variables and help


def test_a_misspelt_variable_is_found_and_none_that_others_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for flag in EXAMPLES:
        monkeypatch.setenv(variable(flag), "1")
        monkeypatch.setenv(variable(flag, "__"), "1")
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "METRICS_SERVICE_HOST"):
        monkeypatch.setenv(f"NEXTMV_EXPORTER_{name}", "1")  # of Kubernetes
    for name in ("PORT", "PORT_10057_TCP", "PORT_10057_TCP_PROTO", "PORT_10057_UDP_ADDR"):
        monkeypatch.setenv(f"NEXTMV_EXPORTER_{name}", "tcp://10.0.0.1:10057")
    monkeypatch.setenv("NEXTMV_EXPORTER_REVISION", "1")  # of the image
    assert unknown_variables() == []
    monkeypatch.setenv("NEXTMV_EXPORTER_NEXTMV_TIMOUT", "1s")
    assert unknown_variables() == ["NEXTMV_EXPORTER_NEXTMV_TIMOUT"]


def test_what_kubernetes_sets_for_a_service_breaks_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for service in ("NEXTMV", "NEXTMV_EXPORTER", "NEXTMV_EXPORTER_WEB", "NEXTMV_EXPORTER_LOG"):
        monkeypatch.setenv(f"{service}_PORT", "tcp://10.0.0.1:10057")
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.1")
    assert settings_of() == DEFAULTS


def test_the_help_of_each_flag_is_sentences_with_the_default_after_them() -> None:
    helps = [getattr(option, "help", None) for option in (*OPTIONS, *print_queue.params)]
    assert len(helps) > 30
    for text in helps:
        assert re.fullmatch(r"[A-Za-z].*\.( \[default: [^\]]+\])?", text or ""), text
