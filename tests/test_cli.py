"""The program: what it refuses, in one line each, and what --once and friends print."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from support.certificates import Authority
from support.fake_api import KEY, RUN, FakeAPI
from support.harness import write_yaml
from support.logs import capture_logs
from support.metrics import parse, value, values
from support.programs import redirected

from nextmv_exporter import __version__, cli

TESTDATA = Path(__file__).parent / "api" / "testdata"


@dataclass
class Ended:
    status: int
    out: str
    err: str


Program = Callable[..., Ended]


@pytest.fixture
def program(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    """The program inside this process: fast, and with the logs kept apart."""

    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert isinstance(caught.value.code, int)
        return Ended(caught.value.code, *capfd.readouterr())

    monkeypatch.setattr("nextmv_exporter.logs.configure", lambda *_: None)
    with capture_logs():
        yield run


def process(*arguments: str, **environment: str) -> Ended:
    """The program as users run it."""
    ended = subprocess.run(
        [sys.executable, "-m", "nextmv_exporter", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def assert_refused(ended: Ended, *parts: str) -> None:
    """It ended at start, with one plain line that has these parts and no secret."""
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("nextmv-exporter: ")
    assert ended.err.count("\n") == 1
    for part in parts:
        assert part in ended.err
    for secret in ("SECR", KEY, "Traceback"):
        assert secret not in ended.err


def config(name: str) -> str:
    return f"--nextmv.config-file={TESTDATA / name}"


def key_file(name: str) -> str:
    return f"--nextmv.api-key-file={TESTDATA / name}"


# Bad configuration


def test_no_key_anywhere_says_where_one_may_be_put(program: Program) -> None:
    assert_refused(
        program(), "no API key", "NEXTMV_API_KEY", "--nextmv.api-key-file", "config.yaml", "--demo"
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([config("missing.yaml")], ["missing.yaml can't be read: No such file"]),
        ([config("list.yaml")], ["list.yaml", "YAML list instead of a mapping"]),
        ([config("invalid.yaml")], ["invalid.yaml is not valid YAML (line 2)"]),
        ([config("not_utf8.yaml")], ["not_utf8.yaml is not valid YAML"]),
        ([config("no_key.yaml")], ["no API key", "no_key.yaml"]),
        ([config("not_text.yaml")], ["apikey of profile 'default'", "not text", "quotes"]),
        ([config("pkce.yaml")], ["'default'", "auth_type: pkce", "create an API key"]),
        ([config("pkce.yaml"), "--nextmv.profile=sso-user"], ["'sso-user'", "auth_type: pkce"]),
        ([config("pkce.yaml"), "--nextmv.profile=*"], ["no profile in", "has an API key"]),
        (
            [config("bad_keys.yaml")],
            ["apikey of profile 'default' in", "bad_keys.yaml has white space"],
        ),
        ([config("bad_keys.yaml"), "--nextmv.profile=newline"], ["'newline'", "has white space"]),
        ([config("bad_keys.yaml"), "--nextmv.profile=foreign"], ["non-ASCII"]),
        ([config("bad_endpoints.yaml")], ["'ht tp://api.example' is not a URL"]),
        ([config("good.yaml"), "--nextmv.profile=nowhere"], ["'nowhere'", "default, staging"]),
        ([config("good.yaml"), "--nextmv.profile=bare"], ["'bare'", "has no endpoint"]),
        ([config("good.yaml"), "--nextmv.profile=keyless"], ["'keyless'", "has no apikey"]),
        ([config("good.yaml"), "--nextmv.profile=*"], ["'bare'", "has no endpoint"]),
        ([key_file("missing.key")], ["API key file", "missing.key can't be read: No such file"]),
        ([key_file("empty.key")], ["empty.key is empty: write the key into it"]),
        ([key_file("blank.key")], ["blank.key is empty"]),
        ([key_file("two_lines.key")], ["two_lines.key", "white space"]),
        ([key_file("not_ascii.key")], ["not_ascii.key", "non-ASCII"]),
        ([key_file("not_text.key")], ["not_text.key is UTF-16 text"]),
        ([key_file(".")], ["API key file", "can't be read: Is a directory"]),
        ([config(".")], ["configuration file", "can't be read: Is a directory"]),
        (
            [key_file("good.key"), "--nextmv.profile=a", "--nextmv.profile=b"],
            ["--nextmv.api-key-file holds one key", "all of several profiles"],
        ),
        ([key_file("good.key"), "--nextmv.profile=*"], ["--nextmv.api-key-file holds one key"]),
        (
            [key_file("good.key"), "--nextmv.endpoint=ftp://a"],
            ["the endpoint 'ftp://a' is not a URL", "(see --nextmv.endpoint)"],
        ),
        ([key_file("quoted.key")], ["the key in API key file", "quoted.key is in quotes"]),
        ([key_file("bom.key")], ["bom.key starts with a byte order mark", "UTF-8 without one"]),
        ([key_file("good.key"), "--nextmv.account-name= "], ["--nextmv.account-name", "is empty"]),
        (
            [key_file("good.key"), "--nextmv.account-name=a\x01"],
            ["--nextmv.account-name", "can't be printed"],
        ),
        ([key_file("good.key"), "--web.config.file=missing.yml"], ["missing.yml"]),
    ],
    ids=lambda value: " ".join(Path(v).name for v in value) if "--" in value[0] else "",
)
def test_files_that_are_unusable_are_named(
    program: Program, arguments: list[str], parts: list[str]
) -> None:
    assert_refused(program(*arguments), *parts)


@pytest.mark.parametrize("row", (TESTDATA / "messages.txt").read_text().splitlines())
def test_the_message_of_a_bad_file_is_whole(program: Program, row: str) -> None:
    """Each part of it counts: where, what is wrong, what to do, and which flag to see."""
    file, profile, message = row.split(" | ")
    flag = key_file(file) if file.endswith(".key") else config(file)
    ended = program(flag, f"--nextmv.profile={profile}")
    assert ended.err == f"nextmv-exporter: {message}\n".replace("FILE", str(TESTDATA / file))


@pytest.mark.parametrize(
    ("flag", "text", "fault"),
    [
        ("--nextmv.timeout", "10", "'10' is not a duration: write it like 500ms"),
        ("--nextmv.timeout", "0s", "'0s' must be longer than 0"),
        ("--nextmv.timeout", "-5s", "'-5s' is not a duration"),
        ("--nextmv.timeout", "1000y", "'1000y' is longer than 100y, the longest duration allowed"),
        ("--nextmv.max-response-bytes", "64M", "'64M' is not a size: write it like 64MiB"),
        ("--nextmv.source", "queue", "'queue' is not one of 'auto', 'account-queue', 'applicat"),
        ("--nextmv.run-lookback", "1 day", "'1 day' is not a duration"),
        ("--queue.zero-retention", "off", "'off' is not a duration"),
        ("--queue.max-groups", "0", "0 is not in the range x>=1"),
        ("--queue.max-groups", "many", "'many' is not a valid integer"),
        ("--queue.wait-buckets", "1m,5s", "'1m,5s' is not in ascending order"),
        ("--queue.wait-buckets", "1s,99999999999999y", "'99999999999999y' is longer than 100y"),
        ("--web.listen-address", "localhost", "'localhost' is not host:port: write it like"),
        ("--web.listen-address", ":99999", "':99999' is not host:port"),
        (
            "--web.telemetry-path",
            "/",
            "'/' is not a free path: write it like /metrics (/, /sd and /-/ have other uses)",
        ),
        ("--web.external-url", "exporter.example", "'exporter.example' is not a URL"),
        ("--log.level", "loud", "'loud' is not one of 'debug', 'info', 'warn', 'error'"),
        ("--log.format", "xml", "'xml' is not one of 'logfmt', 'json'"),
    ],
)
def test_a_bad_value_names_its_flag_or_its_variable(
    program: Program, monkeypatch: pytest.MonkeyPatch, flag: str, text: str, fault: str
) -> None:
    by_flag = program(f"{flag}={text}")
    assert_refused(by_flag, f"'{flag}': {fault}")
    assert "(from" not in by_flag.err
    for dot in ("_", "__"):
        flat = flag.removeprefix("--").replace(".", dot).replace("-", "_").upper()
        with monkeypatch.context() as patch:
            patch.setenv(f"NEXTMV_EXPORTER_{flat}", text)
            by_variable = program()
        assert_refused(by_variable, fault)
        whole = by_flag.err.replace("\n", f" (from NEXTMV_EXPORTER_{flat})\n")
        assert by_variable.err == whole


def test_an_unknown_flag_is_named_with_one_that_is_like_it(program: Program) -> None:
    assert_refused(program("--nextmv.timeot=5s"), "--nextmv.timeot", "--nextmv.timeout")


def test_an_argument_that_is_no_flag_is_refused(program: Program) -> None:
    assert_refused(program("serve"), "serve")


def test_a_flag_without_its_value_is_refused(program: Program) -> None:
    assert_refused(program("--nextmv.timeout"), "'--nextmv.timeout' requires an argument")


@pytest.mark.parametrize("key", ["SECRET\nX-Injected: 1", "SECRÉT", "SECRET KEY", "SECRET\x7f"])
def test_a_key_that_would_break_a_header_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", key)
    assert_refused(program(), "NEXTMV_API_KEY has white space, control or non-ASCII characters")


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_key_in_quotes_as_an_env_file_leaves_them_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, quote: str
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", f"{quote}{KEY}{quote}")
    assert_refused(program(), "NEXTMV_API_KEY is in quotes: remove them")


@pytest.mark.parametrize(
    "endpoint", ["ftp://a", "https://", "https://SECRET@a", "https://me:SECRET@a:b", "a?k=SECRET"]
)
def test_a_bad_endpoint_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", endpoint)
    assert_refused(
        program(),
        "the endpoint",
        "write it like https://api.cloud.nextmv.io",
        "(see --nextmv.endpoint)",
    )


@pytest.mark.parametrize("profiles", ["a,b", "*", "default,staging"])
def test_one_key_for_several_profiles_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, profiles: str
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_PROFILE", profiles)
    ended = program()
    assert_refused(ended)
    assert ended.err == (
        "nextmv-exporter: NEXTMV_API_KEY holds one key, which would be used for all of several "
        "profiles: unset it, or choose one profile\n"
    )


def test_a_port_in_use_is_named(
    program: Program, monkeypatch: pytest.MonkeyPatch, api: FakeAPI
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    taken = api.url.removeprefix("http://")
    assert_refused(
        program("--web.listen-address", taken),
        f"can't listen on {taken}: Address already in use",
        "choose another --web.listen-address",
    )


def test_an_address_of_another_machine_is_named(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    ended = program("--web.listen-address=192.0.2.1:10057")
    assert_refused(ended, "can't listen on 192.0.2.1:10057", "--web.listen-address")


def test_a_refusal_is_one_line_without_a_traceback_in_a_real_process() -> None:
    assert_refused(process(config("invalid.yaml")), "invalid.yaml is not valid YAML (line 2)")


WITHOUT_HOME = """
import os, pwd
from nextmv_exporter.cli import main

def no_entry(uid):
    raise KeyError(uid)

os.environ.pop("HOME")
pwd.getpwuid = no_entry
main(["--once"])
"""


@pytest.mark.parametrize(
    ("key", "parts"), [("", ["no API key", "add an apikey to ~/.nextmv/config.yaml"]), (KEY, [])]
)
def test_without_a_home_directory_only_what_needs_a_file_in_it_is_an_error(
    api: FakeAPI, key: str, parts: list[str]
) -> None:
    api.serves(RUN)
    environment = {"NEXTMV_API_KEY": key, "NEXTMV_ENDPOINT": api.url}
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    ended = Ended(ran.returncode, ran.stdout, ran.stderr)
    if parts:
        assert_refused(ended, *parts)
    else:
        assert (ended.status, value(ended.out, "nextmv_up", account="default")) == (0, 1)


@pytest.mark.parametrize("by_flag", [True, False])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_profiles_name_may_have_characters_that_the_locale_lacks(
    api: FakeAPI, tmp_path: Path, locale: str, by_flag: bool
) -> None:
    api.serves(RUN)
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    config_file = tmp_path / "config.yaml"
    config_file.write_text(json.dumps({"stagïng": {"apikey": KEY, "endpoint": api.url}}))
    file = f"--nextmv.config-file={config_file}"

    def once(profile: str) -> Ended:
        if by_flag:
            return process("--once", file, f"--nextmv.profile={profile}", **environment)
        return process("--once", file, NEXTMV_PROFILE=profile, **environment)

    ended = once("stagïng")
    assert ended.status == 0, ended.err
    assert value(ended.out, "nextmv_up", account="stagïng") == 1
    assert_refused(once("nosüch"), "is not in", "see --nextmv.profile")


@pytest.mark.parametrize("name", ["\udcff", "a\x01b", "a\u2028b"])
def test_a_profiles_name_that_can_not_be_printed_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert_refused(program(f"--nextmv.profile={name}"), repr(name), "can't be printed")
    monkeypatch.setenv("NEXTMV_PROFILE", name)
    assert_refused(program(), repr(name), "(from NEXTMV_PROFILE)")


# --once


def test_once_prints_one_scrape(
    program: Program, monkeypatch: pytest.MonkeyPatch, api: FakeAPI
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    api.serves(RUN)
    ended = program("--once")
    assert ended.status == 0
    assert value(ended.out, "nextmv_up", account="default") == 1
    assert value(ended.out, "nextmv_account_queue_length", status_v2="queued") == 1
    assert value(ended.out, "nextmv_exporter_build_info", version=__version__) == 1
    assert len(api.requests) == 1


def test_the_longest_durations_are_those_of_a_scrape_that_works(program: Program) -> None:
    flags = ("timeout", "run-lookback")
    longest = [f"--nextmv.{flag}=100y" for flag in flags] + ["--queue.zero-retention=100y"]
    for source in ("account-queue", "application-runs"):
        ended = program(
            "--demo",
            "--once",
            f"--nextmv.source={source}",
            "--queue.wait-buckets=1s,100y",
            *longest,
        )
        assert (ended.status, ended.err) == (0, "")


def test_once_tells_an_account_that_is_down(
    program: Program, monkeypatch: pytest.MonkeyPatch, api: FakeAPI
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    api.answers(401, b"unauthorized")
    ended = program("--once", "--nextmv.endpoint", api.url)
    assert ended.status == 1
    assert value(ended.out, "nextmv_up") == 0
    assert value(ended.out, "nextmv_scrape_errors_total", reason="auth") == 1
    assert values(ended.out, "nextmv_account_queue_runs") == []


def profiles_file(directory: Path, **endpoints: str) -> str:
    file = directory / "config.yaml"
    file.write_text(json.dumps({n: {"apikey": n, "endpoint": e} for n, e in endpoints.items()}))
    return f"--nextmv.config-file={file}"


@pytest.mark.parametrize("chosen", [["good", "bad"], ["*"]])
def test_once_is_1_if_some_account_is_down(
    program: Program, api: FakeAPI, tmp_path: Path, chosen: list[str]
) -> None:
    file = profiles_file(tmp_path, good=api.url, bad="http://127.0.0.1:1")
    ended = program("--once", file, *(f"--nextmv.profile={name}" for name in chosen))
    assert ended.status == 1
    assert value(ended.out, "nextmv_up", account="good") == 1
    assert value(ended.out, "nextmv_up", account="bad") == 0
    assert value(ended.out, "nextmv_scrape_errors_total", account="bad", reason="connection") == 1


def test_profiles_come_from_the_environment_separated_by_commas(
    program: Program, monkeypatch: pytest.MonkeyPatch, api: FakeAPI, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEXTMV_PROFILE", "one, two,,one,")
    ended = program("--once", profiles_file(tmp_path, one=api.url, two=api.url, three=api.url))
    assert ended.status == 0
    up = {dict(labels)["account"] for name, labels in parse(ended.out) if name == "nextmv_up"}
    assert up == {"one", "two"}
    assert {r.headers["Authorization"] for r in api.requests} == {"Bearer one", "Bearer two"}


def test_the_key_of_a_file_goes_before_the_variable(
    program: Program, monkeypatch: pytest.MonkeyPatch, api: FakeAPI
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    assert program("--once", key_file("good.key"), f"--nextmv.endpoint={api.url}").status == 0
    assert api.requests[0].headers["Authorization"] == "Bearer file-key"


def test_once_keeps_logs_out_of_stdout_and_the_key_out_of_both(api: FakeAPI) -> None:
    api.answers(401, f"unauthorized: Bearer {KEY}".encode())
    ended = process("--once", NEXTMV_API_KEY=KEY, NEXTMV_ENDPOINT=api.url)
    assert ended.status == 1
    assert value(ended.out, "nextmv_up") == 0
    [line] = ended.err.splitlines()
    assert 'level=warn msg="Scrape failed" account=default' in line
    assert "reason=auth" in line
    assert KEY not in ended.out + ended.err


@pytest.mark.parametrize(
    ("redirection", "fault"),
    [
        (">&-", "it is closed"),
        (">/dev/full", "No space left on device"),
        ("| true", "Broken pipe"),
    ],
)
def test_once_says_in_one_line_that_it_could_not_print(redirection: str, fault: str) -> None:
    command = [sys.executable, "-m", "nextmv_exporter", "--demo", "--once"]
    ended = subprocess.run(
        redirected(redirection, *command),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 2  # not 1, which means that an account is down
    assert ended.stderr == f"nextmv-exporter: can't write to stdout: {fault}\n"


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_an_invalid_configuration_ends_with_2_where_stderr_can_not_be_written(stderr: str) -> None:
    for module in ("nextmv_exporter", "nextmv_exporter.nextmv"):
        command = [sys.executable, "-m", module, "--no-such-flag"]
        ended = subprocess.run(redirected(stderr, *command), check=False, timeout=30)
        assert ended.returncode == 2


@pytest.mark.parametrize("stdout", [">/dev/full", ">&-", "> >(true)"])
def test_the_demo_serves_where_stdout_can_not_be_written(stdout: str) -> None:
    command = [
        sys.executable,
        "-m",
        "nextmv_exporter",
        "--demo",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(
        ["bash", "-c", f'exec "$@" {stdout}', "-", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        listening = process.stderr.readline()
        [address] = re.findall(r"address=(\S+)", listening)
        assert requests.get(f"http://{address}/metrics", timeout=10).status_code == 200
        process.terminate()
        assert [line.split("msg=")[1] for line in process.stderr] == ["Stopped\n"]
        assert process.wait(10) == 0


def demo(*flags: str) -> tuple[str, str]:
    """The first log line of a demo, and what it prints until it is ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "nextmv_exporter", "--demo", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert process.stdout
        listening = process.stderr.readline()
        process.terminate()
        shown = process.stdout.read()
        assert process.wait(10) == 0
    return listening, shown


def test_the_demo_shows_https_where_it_serves_tls(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server")
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    file = write_yaml(tmp_path / "web.yml", {"tls_server_config": tls})
    _, shown = demo("--web.listen-address=127.0.0.1:0", f"--web.config.file={file}")
    assert re.search(r"Metrics +https://localhost:\d+/metrics\n", shown)
    assert re.search(r"Status page +https://localhost:\d+/\n", shown)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", pytest.param("[::1]", marks=pytest.mark.skipif(not socket.has_ipv6, reason=""))],
)
def test_the_demo_says_where_it_serves(host: str) -> None:
    listening, shown = demo(f"--web.listen-address={host}:0", "--web.telemetry-path=/m")
    [port] = re.findall(r":(\d+) accounts=demo\n", listening)
    assert listening.endswith(
        f" level=info msg=Listening version={__version__} address={host}:{port} accounts=demo\n"
    )
    assert (
        shown
        == f"""
The demo is running: a simulated Nextmv account whose queue grows and drains.

  Metrics      http://localhost:{port}/m
  Status page  http://localhost:{port}/

To see it in Prometheus, scrape localhost:{port}. Ctrl+C ends it.

"""
    )


def test_logs_are_json_if_asked_for(api: FakeAPI) -> None:
    api.answers(503, b"")
    ended = process("--once", "--log.format=json", NEXTMV_API_KEY=KEY, NEXTMV_ENDPOINT=api.url)
    [line] = map(json.loads, ended.err.splitlines())
    assert line["reason"] == "server_error"
    assert line["level"] == "warn"


def test_the_level_silences_what_is_below_it(api: FakeAPI) -> None:
    api.answers(401, b"")
    ended = process("--once", "--log.level=error", NEXTMV_API_KEY=KEY, NEXTMV_ENDPOINT=api.url)
    assert (ended.status, ended.err) == (1, "")


def test_the_demo_needs_no_key(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    ended = program("--demo", "--once")
    assert ended.status == 0
    assert value(ended.out, "nextmv_up", account="demo") == 1


def test_the_demo_warns_of_settings_that_it_ignores() -> None:
    ended = process(
        *("--demo", "--once", "--nextmv.profile=staging", "--nextmv.config-file=a"),
        *("--nextmv.api-key-file=b", "--nextmv.endpoint=https://a.test"),
    )
    assert ended.status == 0
    assert value(ended.out, "nextmv_up", account="demo") == 1
    [line] = ended.err.splitlines()
    assert "level=warn" in line
    assert line.endswith(
        " ignored=--nextmv.profile,--nextmv.config-file,--nextmv.api-key-file,--nextmv.endpoint"
    )


def test_the_demo_is_not_asked_through_the_networks_proxy() -> None:
    proxy = "http://127.0.0.1:1"
    ended = process(
        "--demo", "--once", HTTP_PROXY=proxy, http_proxy=proxy, no_proxy="intranet.example"
    )
    assert ended.status == 0, ended.err
    assert sum(values(ended.out, "nextmv_account_queue_length")) > 0


def test_promtool_has_nothing_to_say_against_the_demo() -> None:
    ended = process("--demo", "--once")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=ended.out,
        capture_output=True,
        check=True,
        text=True,
    )
    assert checked.stdout + checked.stderr == ""


def test_once_writes_utf8_whatever_the_terminal_asks_for(api: FakeAPI) -> None:
    api.serves({**RUN, "application_id": "配送"})
    ended = subprocess.run(
        [sys.executable, "-m", "nextmv_exporter", "--once"],
        env={
            **os.environ,
            "NEXTMV_API_KEY": KEY,
            "NEXTMV_ENDPOINT": api.url,
            "PYTHONIOENCODING": "latin-1",
        },
        capture_output=True,
        check=True,
    )
    text = ended.stdout.decode("utf-8")
    assert value(text, "nextmv_account_queue_length", application_id="配送") == 1


def test_once_ends_within_its_timeout_whatever_hangs(api: FakeAPI) -> None:
    released = threading.Event()
    api.answer.held_until = released
    ended = process("--once", "--nextmv.timeout=300ms", NEXTMV_API_KEY=KEY, NEXTMV_ENDPOINT=api.url)
    released.set()
    assert ended.status == 1
    assert value(ended.out, "nextmv_scrape_errors_total", reason="timeout") == 1


# Other ways to end


def test_the_console_script_and_the_module_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("nextmv-exporter")
    ended = subprocess.run([script, "--version"], capture_output=True, check=True, text=True)
    assert ended.stdout == process("--version").out == f"nextmv-exporter {__version__}\n"


def test_the_version_is_told(program: Program) -> None:
    assert program("--version") == Ended(0, f"nextmv-exporter {__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_flag(program: Program, flag: str) -> None:
    ended = program(flag)
    assert (ended.status, ended.err) == (0, "")
    for option in ("--once", "--nextmv.api-key-file", "--web.config.file", "--log.format"):
        assert option in ended.out
    assert "NEXTMV_API_KEY" in ended.out
    assert "NEXTMV_EXPORTER_" in ended.out


@pytest.mark.parametrize(
    "shown",
    [
        "--nextmv.endpoint URL",
        "--nextmv.timeout DURATION",
        "--nextmv.max-response-bytes SIZE",
        "--nextmv.profile NAME",
        "--nextmv.account-name NAME",
        "--queue.max-groups INTEGER RANGE",
        "--queue.wait-buckets DURATIONS",
        "--web.listen-address HOST:PORT",
        "--web.telemetry-path PATH",
        "--web.external-url URL",
    ],
)
def test_help_shows_the_kind_of_each_value(program: Program, shown: str) -> None:
    assert re.search(rf"^  {shown}\s", program("--help").out, re.MULTILINE)


def test_help_lists_the_exit_statuses_of_once(program: Program) -> None:
    shown = " ".join(program("--help").out.split())
    assert "0 if all accounts are up, 1 if any is down, 2 if it could not be printed." in shown


def test_help_fills_a_wide_terminal_up_to_100_columns() -> None:
    ended = process("--help", COLUMNS="200")
    assert 80 < max(map(len, ended.out.splitlines())) <= 98  # click leaves two columns empty


def test_a_misspelt_variable_is_warned_of_with_the_nearest_name() -> None:
    ended = process("--demo", "--once", NEXTMV_EXPORTER_NEXTMV_TIMOUT="secret")
    [line] = [each for each in ended.err.splitlines() if "unknown environment variable" in each]

    assert ended.status == 0
    assert "level=warn" in line
    assert "variable=NEXTMV_EXPORTER_NEXTMV_TIMOUT nearest=NEXTMV_EXPORTER_NEXTMV_TIMEOUT" in line
    assert "secret" not in ended.err


def test_a_warning_is_written_before_the_error_that_ends_the_program() -> None:
    ended = process("--nextmv.api-key-file=/nowhere", NEXTMV_EXPORTER_NEXTMV_TIMOUT="1s")
    warning, error = ended.err.splitlines()
    assert "unknown environment variable" in warning
    assert error.startswith("nextmv-exporter: ")
    assert ended.status == 2


def test_the_health_check_exits_with_one_where_nothing_listens() -> None:
    ended = process("--web.healthcheck", "--web.listen-address=127.0.0.1:0")

    assert ended.status == 1
    assert ended.out.startswith("127.0.0.1:0: ")
    assert ended.err == ""


def test_garbage_is_collected_again_once_all_is_imported() -> None:
    program = """
import gc, sys
from nextmv_exporter.web.server import Server
Server.run = lambda self, listeners: print(gc.isenabled())
sys.argv = ["nextmv-exporter", "--demo", "--web.listen-address=127.0.0.1:0"]
from nextmv_exporter.__main__ import main
main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert ran.stdout == "True\n"
