"""The program: what it refuses, in one line each, and what --once and --demo print."""

import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from support.certificates import Authority
from support.commands import Command, Ended
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import value, values
from support.programs import redirected, write_yaml
from support.waiting import until

import nextmv_exporter
from nextmv_exporter import __version__, cli

COMMAND = (sys.executable, "-m", "nextmv_exporter")


@pytest.fixture
def program(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(cli.main, capfd)


def process(*arguments: str, **environment: str) -> Ended:
    """The program as users run it."""
    ended = subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=120,
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def assert_refused(ended: Ended, *parts: str) -> None:
    """It ended at start, with one plain line that has these parts and no secret."""
    assert (ended.status, ended.out) == (2, ""), ended
    assert ended.err.startswith("nextmv-exporter: ")
    assert ended.err.count("\n") == 1
    for part in parts:
        assert part in ended.err
    for secret in ("SECR", KEY, "Traceback"):
        assert secret not in ended.err


# Bad configuration

REFUSED: tuple[tuple[list[str], dict[str, str], list[str]], ...] = (
    ([], {}, ["config.yaml has no API key: set NEXTMV_API_KEY"]),
    ([], {"NEXTMV_API_KEY": "SECR ET"}, ["NEXTMV_API_KEY is empty, is in quotes, or"]),
    ([], {"NEXTMV_API_KEY": '"SECR"'}, ["NEXTMV_API_KEY is empty, is in quotes"]),
    ([], {"NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": "me:SECR@a"}, ["--nextmv.endpoint",
     "it '<redacted>a' is",
     "write it like https://api.cloud.nextmv.io", "(from NEXTMV_ENDPOINT)"]),
    ([], {"NEXTMV_API_KEY": KEY, "NEXTMV_PROFILE": "a,b"}, ["NEXTMV_API_KEY or --nextmv"]),
    ([], {"NEXTMV_API_KEY_FILE": "/n", "NEXTMV_PROFILE": "*"}, ["--nextmv.api-key-file holds one"]),
    (["--nextmv.profile=a"], {"NEXTMV_API_KEY": KEY}, ["asks for a, but NEXTMV_API_KEY"]),
    (["--nextmv.profile=c"], {"NEXTMV_CONFIG_FILE": "FILE"}, ["'c' is not in"]),
    ([], {"NEXTMV_CONFIG_FILE": "FILE"}, ["choose a profile that has a key: a, b"]),
    (["--nextmv.api-key-file=/n"], {}, ["API key file /n can't be read: No such file"]),
    (["--nextmv.config-file=/n"], {}, ["configuration file /n can't be read: No such file"]),
    (["--web.config.file=/n"], {"NEXTMV_API_KEY": KEY}, ["/n can't be read"]),
    (["--web.listen-address=192.0.2.1:1"], {"NEXTMV_API_KEY": KEY}, ["192.0.2.1:1"]),
    (["--nextmv.timeot=5s"], {}, ["--nextmv.timeot", "--nextmv.timeout"]),
    (["--nextmv.timeout"], {}, ["'--nextmv.timeout' requires an argument"]),
    (["serve"], {}, ["serve"]),
    ([], {"NEXTMV_EXPORTER_LOG_LEVEL": "loud"}, ["(from NEXTMV_EXPORTER_LOG_LEVEL)"]),
    ([], {"NEXTMV_PROFILE": "a\x1b[31m"}, ["can't be printed (from NEXTMV_PROFILE)"]),
)  # fmt: skip


def test_bad_configuration_is_refused_in_one_line_that_names_where_it_is(
    program: Command, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: {apikey: SECR, endpoint: e}\nb: {apikey: SECR, endpoint: e}\n")
    for arguments, environment, parts in REFUSED:
        given = {name: text.replace("FILE", str(file)) for name, text in environment.items()}
        assert_refused(program(*arguments, **given), *parts)


def test_a_port_in_use_is_named(program: Command, api: FakeAPI) -> None:
    taken = api.url.removeprefix("http://")
    refused = program("--web.listen-address", taken, NEXTMV_API_KEY=KEY)
    assert_refused(refused, taken, "Address already in use")


WITHOUT_HOME = """
import os, pwd
from nextmv_exporter.cli import main

def no_entry(uid):
    raise KeyError(uid)

os.environ.pop("HOME")
pwd.getpwuid = no_entry
main(["--once"])
"""


def test_without_a_home_directory_only_what_needs_a_file_in_it_is_an_error(api: FakeAPI) -> None:
    api.serves(RUN)
    for key, status in (("", 2), (KEY, 0)):
        environment = {**os.environ, "NEXTMV_API_KEY": key, "NEXTMV_ENDPOINT": api.url}
        ran = subprocess.run(
            [sys.executable, "-c", WITHOUT_HOME], env=environment, capture_output=True, check=False
        )
        assert ran.returncode == status, ran.stderr
        assert (b"in ~/.nextmv/config.yaml has no API key" in ran.stderr) == (status == 2)


def test_a_name_may_have_characters_that_the_locale_lacks(api: FakeAPI, tmp_path: Path) -> None:
    api.serves(RUN)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    file = write_yaml(tmp_path / "config.yaml", {"stagïng": {"apikey": KEY, "endpoint": api.url}})
    flags = ["--once", f"--nextmv.config-file={file}"]
    for ended in (
        process(*flags, "--nextmv.profile=stagïng", **locale),
        process(*flags, NEXTMV_PROFILE="stagïng", **locale),
    ):
        assert ended.status == 0, ended.err
        assert value(ended.out, "nextmv_up", account="stagïng") == 1
    assert_refused(process(*flags, "--nextmv.profile=nosüch", **locale), "is not in")


# --once


def test_once_prints_one_scrape_and_says_whether_all_accounts_are_up(
    program: Command, api: FakeAPI, tmp_path: Path
) -> None:
    api.serves(RUN)
    ended = program("--once", NEXTMV_API_KEY=KEY, NEXTMV_ENDPOINT=api.url)
    assert (ended.status, ended.err) == (0, "")
    assert value(ended.out, "nextmv_up", account="default") == 1
    assert value(ended.out, "nextmv_account_queue_length", status_v2="queued") == 1
    assert value(ended.out, "nextmv_exporter_build_info", version=__version__) == 1
    assert len(api.requests) == 1
    profiles = {"good": api.url, "bad": "http://127.0.0.1:9"}
    document = {name: {"apikey": name, "endpoint": url} for name, url in profiles.items()}
    file = write_yaml(tmp_path / "config.yaml", document)
    ended = program("--once", "--nextmv.profile=*", f"--nextmv.config-file={file}")
    assert ended.status == 1
    assert value(ended.out, "nextmv_up", account="good") == 1
    assert value(ended.out, "nextmv_up", account="bad") == 0
    assert value(ended.out, "nextmv_scrape_errors_total", account="bad", reason="connection") == 1


def test_the_longest_durations_are_those_of_a_scrape_that_works(program: Command) -> None:
    longest = ["nextmv.timeout", "nextmv.run-lookback", "queue.zero-retention"]
    for source in ("account-queue", "application-runs"):
        flags = [*(f"--{flag}=100y" for flag in longest), f"--nextmv.source={source}"]
        ended = program("--demo", "--once", "--queue.wait-buckets=1s,100y", *flags)
        assert (ended.status, ended.err) == (0, "")


def test_logs_stay_out_of_stdout_and_the_key_out_of_both(api: FakeAPI) -> None:
    api.serves({**RUN, "application_id": "配送"})
    environment = {"NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url}
    ended = process("--once", PYTHONIOENCODING="latin-1", **environment)
    assert value(ended.out, "nextmv_account_queue_length", application_id="配送") == 1
    api.answers(401, f"unauthorized: Bearer {KEY}".encode())
    for flags in ([], ["--log.format=json"], ["--log.level=error"]):
        ended = process("--once", *flags, NEXTMV_EXPORTER_NEXTMV_TIMOUT="SECR", **environment)
        assert ended.status == 1
        assert value(ended.out, "nextmv_up") == 0
        assert KEY not in ended.out + ended.err
        assert "SECR" not in ended.err
        lines = ended.err.splitlines()
        if "--log.level=error" in flags:
            assert lines == []
        elif flags:
            assert [list(json.loads(line))[:3] for line in lines] == [["ts", "level", "msg"]] * 2
        else:
            unknown, failed = lines
            assert "level=warn" in unknown
            assert "NEXTMV_EXPORTER_NEXTMV_TIMOUT" in unknown
            assert 'level=warn msg="Scrape failed" account=default' in failed


def test_a_stdout_or_stderr_that_can_not_be_written_gives_no_traceback() -> None:
    once = ("--demo", "--once")
    for redirection, arguments, fault in (
        (">&-", once, "stdout is closed"),
        (">/dev/full", once, "No space left on device"),
        ("| true", once, "Broken pipe"),
    ):
        command = redirected(redirection, *COMMAND, *arguments)
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
        assert ended.returncode == 2  # not 1, which means that an account is down
        assert re.fullmatch(rf"nextmv-exporter: .*{fault}\n", ended.stderr)
    modules = ("nextmv_exporter", "nextmv_exporter.nextmv")
    for stderr, module in itertools.product(("2>/dev/full", "2>&-"), modules):
        command = redirected(stderr, sys.executable, "-m", module, "--no-such-flag")
        assert subprocess.run(command, check=False, timeout=120).returncode == 2


# --demo


@contextmanager
def demo(*flags: str, redirection: str = "") -> Iterator[tuple[str, str, int]]:
    """A demo that serves: its address, what it prints, and its port."""
    command = [*COMMAND, "--demo", *flags]
    with subprocess.Popen(
        redirected(redirection, "exec", *command) if redirection else command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout
        assert running.stderr
        try:
            listening = running.stderr.readline()
            found = re.search(r" address=(\S+:(\d+)) accounts=demo\n", listening)
            assert found, listening + running.stderr.read()
            shown = ""
            while "Ctrl+C" not in shown and (line := running.stdout.readline()):
                shown += line
            yield found[1], shown, int(found[2])
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(120) == 0


def test_the_demo_shows_commands_that_work() -> None:
    flags = ["--web.listen-address=127.0.0.1:0", "--web.telemetry-path=/m"]
    with demo(*flags) as (address, shown, port):
        assert address == f"127.0.0.1:{port}"
        assert f"scrape localhost:{port}. Ctrl+C ends it." in shown
        for url in re.findall(r"http://localhost\S+", shown):
            assert requests.get(url, timeout=120).status_code == 200
        [command] = re.findall(r"NEXTMV_API_KEY=.*", shown)
        runs = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert runs.stdout.count("\n") > 3
        metrics = requests.get(f"http://{address}/m", timeout=120).text
        assert value(metrics, "nextmv_up", account="demo") == 1


def test_the_demo_shows_https_where_it_serves_tls(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server")
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    file = write_yaml(tmp_path / "web.yml", {"tls_server_config": tls})
    with demo("--web.listen-address=127.0.0.1:0", f"--web.config.file={file}") as (_, shown, port):
        assert f" https://localhost:{port}/metrics\n" in shown
        assert f"scrape localhost:{port}, with `scheme: https`. Ctrl+C" in shown


def test_the_demo_serves_where_stdout_can_not_be_written() -> None:
    for stdout in (">/dev/full", ">&-"):
        with demo("--web.listen-address=127.0.0.1:0", redirection=stdout) as (address, _, _):
            assert requests.get(f"http://{address}/-/ready", timeout=120).status_code == 200


def test_the_demo_needs_no_key_and_is_not_asked_through_the_networks_proxy() -> None:
    proxy = "http://127.0.0.1:9"
    ended = process(
        "--demo", "--once", HTTP_PROXY=proxy, http_proxy=proxy, no_proxy="intranet.example"
    )
    assert ended.status == 0, ended.err
    assert value(ended.out, "nextmv_up", account="demo") == 1
    assert sum(values(ended.out, "nextmv_account_queue_length")) > 0


# Other ways to start and to end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_signal_before_the_server_handles_it_ends_the_program_quietly(
    api: FakeAPI, number: signal.Signals
) -> None:
    """The status is that of an exit: as process 1, it would not get a signal without a handler."""
    api.answer.held_until = threading.Event()
    with subprocess.Popen(
        [*COMMAND, "--once"],
        env={**os.environ, "NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            until(lambda: api.requests, seconds=120, what="the request")
            running.send_signal(signal.SIGHUP)  # is for the server, and ends nothing
            running.send_signal(number)
            assert running.communicate(timeout=120) == (b"", b"")
        finally:
            api.answer.held_until.set()
            running.kill()
    assert running.returncode == 128 + number


def one_process() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))


@pytest.mark.system
def test_where_the_system_starts_no_thread_it_says_so_in_a_line(tmp_path: Path) -> None:
    user: list[str] = []
    if os.geteuid() == 0:  # for root there is no limit
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv")
        kept = "+dac_override,+dac_read_search"
        user = ["setpriv", "--reuid=64001", f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    for module, flags in (("nextmv_exporter", ["--once"]), ("nextmv_exporter.nextmv", [])):
        ended = subprocess.run(
            [*user, sys.executable, "-m", module, *flags],
            env={**os.environ, "NEXTMV_API_KEY": KEY, "HOME": str(tmp_path)},
            preexec_fn=one_process,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2, ended.stderr
        assert re.fullmatch(r"nextmv-\w+: can't start a thread: raise .*\n", ended.stderr)


def test_version_and_help_are_told(program: Command) -> None:
    assert program("--version") == Ended(0, f"nextmv-exporter {__version__}\n", "")
    assert process("--version").out == f"nextmv-exporter {__version__}\n"
    for flag in ("-h", "--help"):
        ended = program(flag)
        assert (ended.status, ended.err) == (0, "")
        assert "NEXTMV_API_KEY" in ended.out
        assert "NEXTMV_EXPORTER_" in ended.out
        for shown in (
            *(
                "--once  ",
                "--nextmv.endpoint URL",
                "--nextmv.timeout DURATION",
                "--log.format [logf",
            ),
            *(
                "--nextmv.max-response-bytes SIZE",
                "--nextmv.profile NAME",
                "--web.config.file PATH",
            ),
            *("--queue.wait-buckets DURATIONS", "--web.listen-address HOST:PORT"),
        ):
            assert f"  {shown}" in ended.out


def test_the_packages_names_are_there_and_importing_it_imports_no_dependency() -> None:
    names: Mapping[str, Any] = {
        each: getattr(nextmv_exporter, each) for each in nextmv_exporter.__all__
    }
    assert {"Account", "Client", "ConfigurationError", "QueueCollector", "StatusV2"} <= set(names)
    assert all(name == each.__name__ for name, each in names.items())
    program = "import sys, nextmv_exporter; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    heavy = {"bcrypt", "jinja2", "prometheus_client", "pydantic", "requests", "starlette"}
    assert heavy.isdisjoint(ran.stdout.split())
