"""`nextmv-queue`, against a real HTTP server; as a process where its terminal or pipe matters."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.commands import Command, Ended
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import by, samples
from support.programs import redirected
from support.waiting import until

from nextmv_exporter import __version__, cli
from nextmv_exporter.nextmv import queue_command

COMMAND = (sys.executable, "-m", "nextmv_exporter.nextmv")


def run(number: int = 1, *, minutes: float = 1, **fields: Any) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(minutes=minutes)
    return {**RUN, "id": f"run-{number}", "created_at": created.isoformat(), **fields}


def ids(ended: Ended) -> list[str]:
    assert ended.status == 0, ended.err
    return [line.split()[0] for line in ended.out.splitlines()[1:]]


@pytest.fixture
def queue(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(queue_command.main, capfd)


@pytest.fixture
def exporter(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(cli.main, capfd)


@pytest.fixture
def key(api: FakeAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)


with_key = pytest.mark.usefixtures("key")


# What is shown


@with_key
def test_the_runs_are_a_table_with_the_oldest_first(api: FakeAPI, queue: Command) -> None:
    newest = run(1, minutes=2, name="Evening plan")
    oldest = run(3, minutes=90.5, status_v2="RUNNING", user_email="me@a.example")
    api.serves(newest, run(2, created_at="0001-01-01T00:00:00Z"), oldest)
    done = queue()
    assert (done.status, done.err) == (0, "")
    header, *rows = [line.split(maxsplit=6) for line in done.out.splitlines()]
    assert header == ["ID", "STATUS", "AGE", "CLASS", "APPLICATION", "INSTANCE", "NAME"]
    places = ["6c9500mb870s", "routing", "production"]
    assert rows[0] == ["run-3", "running", "1h30m", *places, "Daily plan"]
    assert rows[1] == ["run-1", "queued", rows[1][2], *places, "Evening plan"]
    assert rows[1][2].startswith("2m")
    assert rows[2] == ["run-2", "queued", "-", *places, "Daily plan"]
    for flag in ("--wide", "--json"):
        assert "me@a.example" in queue(flag).out
    assert "me@a.example" not in done.out


def test_an_age_is_in_its_two_largest_units() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for seconds, text in {
        -5: "0s", 0: "0s", 59.9: "59s", 60: "1m0s", 3599: "59m59s", 3600: "1h0m",
        86_399: "23h59m", 86_400: "1d0h", 9_000_000: "104d4h",
    }.items():  # fmt: skip
        assert queue_command.age(now - timedelta(seconds=seconds), now) == text
    assert queue_command.age(None, now) is None


@with_key
def test_the_oldest_twenty_are_shown_and_how_many_more_there_are(
    api: FakeAPI, queue: Command
) -> None:
    api.serves(*(run(number, minutes=number) for number in range(25)))
    done = queue()
    assert ids(done) == [f"run-{number}" for number in range(24, 4, -1)]
    assert done.err == "5 more runs: --limit 0 prints all.\n"
    assert queue("--limit", "24").err == "1 more run: --limit 0 prints all.\n"
    everything = queue("--limit", "0")
    assert (len(ids(everything)), everything.err) == (25, "")


FILTERS = {
    # The runs that are found, or what is said if there are none.
    "--status=queued": "1 4 5",
    "--status=QUEUED": "1 4 5",
    "--status=running --status=paused": "2 3",
    "--execution-class=large": "3 4",
    "--execution-class=unknown": "5",
    "--application=packing --application=routing": "1 2 3 4 5",
    "--application=verpäckt": "6",
    "--status=queued --execution-class=large": "4",
    "--status=failed": "No run matches the filters.",
    "--status=running --application=packing": "No run matches the filters.",
}  # fmt: skip


@with_key
def test_runs_are_chosen_by_status_class_and_application(api: FakeAPI, queue: Command) -> None:
    api.serves(
        run(1),
        run(2, status_v2="RUNNING"),
        run(3, status_v2="Paused", execution_class="large"),
        run(4, execution_class="large", application_id="packing"),
        run(5, execution_class=None),
        run(6, status_v2="done", application_id="verpäckt"),
    )
    for arguments, expected in FILTERS.items():
        done = queue(*arguments.split())
        if expected.startswith("No"):
            assert (done.status, done.out, done.err) == (0, "", f"{expected}\n")
        else:
            assert sorted(ids(done)) == [f"run-{number}" for number in expected.split()], arguments
    api.serves()
    for arguments in FILTERS:
        done = queue(*arguments.split())
        assert (done.status, done.out, done.err) == (0, "", "No runs found.\n")


@with_key
def test_an_application_is_decoded_also_where_the_locale_is_not_utf8(api: FakeAPI) -> None:
    api.serves(run(1, application_id="verpäckt"), run(2))
    ended = subprocess.run(
        [*COMMAND, "--application=verpäckt"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=True,
    )
    assert ended.stdout.count(b"run-") == 1
    assert b"verp?ckt" in ended.stdout


@with_key
def test_json_is_an_object_a_line_with_all_fields(api: FakeAPI, queue: Command) -> None:
    given = [run(1, minutes=1), run(2, minutes=2, name="Plan\n\x1b[31m計画"), {"id": "run-3"}]
    api.serves(*given)
    done = queue("--json", "--limit", "0")
    assert done.out.isascii()
    for line, one in zip(done.out.splitlines(), [given[1], given[0], given[2]], strict=True):
        shown = json.loads(line)
        created = shown.pop("created_at")
        assert shown == {field: one.get(field) for field in shown}
        assert shown.keys() >= RUN.keys() - {"created_at", "status"}
        assert (created or "")[:19] == one.get("created_at", "")[:19]


# Terminals and pipes


def on_terminal(*arguments: str, columns: int) -> list[str]:
    """Run the command on a terminal of a width; gives the lines that it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # Linux's way of saying that the terminal's other end is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return shown.decode().splitlines()


@with_key
def test_lines_are_cut_to_the_terminal_unless_all_is_asked_for(
    api: FakeAPI, queue: Command
) -> None:
    api.serves(run(1, name="Daily plan " * 30, id="production-jArKh7YyO"), run(2, name="é"))
    for columns, width in {100: 100, 40: 40, 0: 80}.items():
        header, line, _ = on_terminal(columns=columns)
        assert line.startswith("production-jArKh7YyO  queued  1m")
        assert len(line) == width
        assert header.startswith("ID  ")
    whole = ("Daily plan " * 30).strip()
    assert on_terminal("--wide", columns=60)[1].endswith(whole)
    assert queue(COLUMNS="40").out.splitlines()[1].endswith(whole)


@with_key
def test_no_escape_sequence_of_the_api_is_printed(api: FakeAPI, queue: Command) -> None:
    odd = "\x1b]0;owned\x07\x1b[2Jname\r\nnext\u202e\x9b1m"
    api.serves({field: odd for field in RUN if field not in ("created_at", "user_email")})
    for arguments in ((), ("--wide",), ("--json",)):
        text = queue(*arguments).out.replace("\n", "")
        assert text
        assert text.isprintable()
    api.answers(500, "\x1b[2J\nsorry \u202e".encode())
    assert queue().err.removesuffix("\n").isprintable()


@with_key
def test_head_ends_it_quietly_and_a_closed_or_full_output_with_a_line(api: FakeAPI) -> None:
    api.serves(*(run(number, name="x" * 100) for number in range(2000)))
    for redirection, status, message in (
        ("| head -n 1", 0, ""),
        (">&-", 2, "nextmv-queue: [Errno 9] stdout is closed\n"),
        (">/dev/full", 2, "nextmv-queue: [Errno 28] No space left on device\n"),
    ):
        command = redirected(redirection, *COMMAND, "--limit=0")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, message)
    full = redirected("2>/dev/full", *COMMAND)
    assert subprocess.run(full, capture_output=True, check=True).stdout.count(b"run-") == 20


# Accounts

CONFIG = {"NEXTMV_CONFIG_FILE": "CONFIG"}
SET_UPS: dict[str, tuple[dict[str, str], set[str]]] = {
    # The environment of the exporter, and the accounts of its metrics.
    "bare key": ({"NEXTMV_API_KEY": "k"}, {"default"}),
    "bare key with a name": ({"NEXTMV_API_KEY": "k", "NEXTMV_ACCOUNT_NAME": "eu"}, {"eu"}),
    "bare key in place of a profile's": (
        {**CONFIG, "NEXTMV_API_KEY": "k", "NEXTMV_PROFILE": "prod"}, {"prod"}
    ),
    "key file": ({"NEXTMV_API_KEY_FILE": "FILE"}, {"default"}),
    "key file with a name, by the exporter's own variables": (
        {"NEXTMV_EXPORTER_NEXTMV__API_KEY_FILE": "FILE",
         "NEXTMV_EXPORTER_NEXTMV_ACCOUNT_NAME": "eu"}, {"eu"}
    ),
    "default profile": (CONFIG, {"default"}),
    "default profile with a name": ({**CONFIG, "NEXTMV_ACCOUNT_NAME": "eu"}, {"eu"}),
    "one profile": ({**CONFIG, "NEXTMV_PROFILE": "staging"}, {"staging"}),
    "two profiles": ({**CONFIG, "NEXTMV_PROFILE": "default,prod"}, {"default", "prod"}),
    "all profiles": (
        {**CONFIG, "NEXTMV_EXPORTER_NEXTMV_PROFILE": "*"}, {"default", "staging", "prod"}
    ),
    "all profiles with a name": (
        {**CONFIG, "NEXTMV_PROFILE": "*", "NEXTMV_ACCOUNT_NAME": "eu"}, {"eu", "staging", "prod"}
    ),
}  # fmt: skip


class Configuration:
    """A configuration file with three profiles whose keys are their names, and a key file."""

    def __init__(self, api: FakeAPI, directory: Path) -> None:
        self.api = api
        self.config, self.file = directory / "config.yaml", directory / "key"
        profiles = {name: {"apikey": name, "endpoint": api.url} for name in ("staging", "prod")}
        self.config.write_text(json.dumps({"apikey": "def", "endpoint": api.url, **profiles}))
        self.file.write_text("of-file")

    def environment(self, set_up: str) -> dict[str, str]:
        places = {"CONFIG": str(self.config), "FILE": str(self.file)}
        given = {name: places.get(text, text) for name, text in SET_UPS[set_up][0].items()}
        return given if "NEXTMV_CONFIG_FILE" in given else given | {"NEXTMV_ENDPOINT": self.api.url}

    def sent(self) -> set[str]:
        """The keys that were sent since the last call."""
        keys = {each.headers["Authorization"] for each in self.api.requests}
        self.api.requests.clear()
        return keys


@pytest.fixture
def configuration(api: FakeAPI, tmp_path: Path) -> Configuration:
    api.serves(run(1), run(2))
    return Configuration(api, tmp_path)


@pytest.mark.parametrize("set_up", SET_UPS)
def test_accounts_are_named_as_the_metrics_name_them_whatever_the_set_up(
    configuration: Configuration, exporter: Command, queue: Command, set_up: str
) -> None:
    environment, expected = configuration.environment(set_up), SET_UPS[set_up][1]
    exported = exporter("--once", **environment)
    up = by("account", samples(exported.out, "nextmv_up"))
    assert up == dict.fromkeys(expected, 1), exported.err
    sent = configuration.sent()
    one_by_one = set()
    for account in expected:
        done = queue("--account", account, **environment)
        assert ids(done) == ["run-1", "run-2"]
        [key] = configuration.sent()
        one_by_one.add(key)
    assert one_by_one == sent, "the same accounts, read with the same keys"
    done = queue(**environment)
    assert configuration.sent() == sent
    several = len(expected) > 1
    assert done.out.startswith("ACCOUNT " if several else "ID ")
    assert len(ids(done)) == 2 * len(expected)
    assert not several or set(ids(done)) == expected
    objects = [json.loads(line) for line in queue("--json", **environment).out.splitlines()]
    assert {each.get("account") for each in objects} == (expected if several else {None})
    unknown = queue("--account=nowhere", **environment)
    assert (unknown.status, unknown.out) == (2, "")
    assert unknown.err.startswith("nextmv-queue: no account is named 'nowhere': choose one of")
    assert all(account in unknown.err for account in expected)


def test_an_account_of_a_profile_that_the_exporter_has_by_flag_is_found_too(
    configuration: Configuration, queue: Command
) -> None:
    environment = {"NEXTMV_CONFIG_FILE": str(configuration.config)}
    assert ids(queue("--account=staging", **environment)) == ["run-1", "run-2"]
    assert configuration.sent() == {"Bearer staging"}
    refused = queue("--account=staging", NEXTMV_API_KEY="k", **environment)
    assert refused.status == 2
    assert "--profile asks for staging, but NEXTMV_API_KEY" in refused.err


def test_the_settings_are_those_of_the_exporter_and_its_flags_go_first(
    configuration: Configuration, queue: Command
) -> None:
    environment = {"NEXTMV_CONFIG_FILE": "/nowhere", "NEXTMV_PROFILE": "*"}
    config = f"--config-file={configuration.config}"
    assert ids(queue(config, "--profile=staging", **environment))
    assert configuration.sent() == {"Bearer staging"}
    assert ids(queue(config, "--profile=default", "--profile=prod", **environment))
    assert configuration.sent() == {"Bearer prod", "Bearer def"}
    file = f"--api-key-file={configuration.file}"
    url = f"--endpoint={configuration.api.url}"
    assert ids(queue(file, url, NEXTMV_API_KEY="k", NEXTMV_ENDPOINT="http://127.0.0.1:9"))
    assert configuration.sent() == {"Bearer of-file"}
    configuration.api.requests.clear()
    queue(file, url, NEXTMV_EXPORTER_NEXTMV_SOURCE="application-runs")
    assert configuration.api.requests[0].path.startswith("/v1/applications?")
    limit = {"NEXTMV_EXPORTER_NEXTMV_MAX_RESPONSE_BYTES": "10"}
    done = queue(file, url, **limit)
    assert (done.status, done.out) == (1, "")
    assert "is larger than 10 bytes" in done.err


def test_of_several_accounts_a_failing_one_is_told_and_the_others_are_listed(
    configuration: Configuration, queue: Command
) -> None:
    profiles = json.loads(configuration.config.read_text())
    profiles["staging"]["endpoint"] = "http://127.0.0.1:9"
    del profiles["prod"]["endpoint"]
    configuration.config.write_text(json.dumps(profiles))
    done = queue(NEXTMV_CONFIG_FILE=str(configuration.config), NEXTMV_PROFILE="*")
    assert done.status == 1
    assert done.out.count("run-") == 2
    first, second = done.err.splitlines()
    assert first.startswith("nextmv-queue: cannot read the queue of staging: ")
    assert second.startswith("nextmv-queue: cannot read the queue of prod: there is no endpoint ")
    environment = {"NEXTMV_CONFIG_FILE": str(configuration.config), "NEXTMV_PROFILE": "*"}
    assert queue("--account=default", **environment).status == 0, "the others do not matter"
    assert queue("--account=prod", **environment).status == 2


# Exit statuses

BAD: tuple[tuple[tuple[str, ...], dict[str, str], str], ...] = (
    (("--limit", "-1"), {}, "--limit"),
    (("--timeout", "soon"), {}, "'--timeout': 'soon' is not a duration"),
    (("--key", "k"), {}, "--key"),
    (("extra",), {}, "extra"),
    (("--api-key-file", "/nowhere/key"), {}, "/nowhere/key"),
    (("--config-file", "/nowhere.yaml"), {"NEXTMV_API_KEY": ""}, "/nowhere.yaml"),
    (("--profile", "other"), {}, "--profile asks for other, but NEXTMV_API_KEY would replace"),
    (("--endpoint", "http://a b"), {}, "http://a b"),
    ((), {"NEXTMV_API_KEY": ""}, "has no API key: set NEXTMV_API_KEY"),
    ((), {"NEXTMV_PROFILE": "one,two"}, "NEXTMV_API_KEY or --api-key-file holds one key"),
    ((), {"NEXTMV_EXPORTER_NEXTMV_TIMEOUT": "5"}, "(from NEXTMV_EXPORTER_NEXTMV_TIMEOUT)"),
)


@with_key
def test_a_bad_configuration_is_one_line_and_status_2(queue: Command) -> None:
    for arguments, variables, named in BAD:
        done = queue(*arguments, **variables)
        assert (done.status, done.out) == (2, ""), done
        assert done.err.startswith("nextmv-queue: ")
        assert done.err.count("\n") == 1
        assert named in done.err
        assert "--nextmv" not in done.err


@with_key
def test_a_queue_that_cannot_be_read_is_one_line_and_status_1(api: FakeAPI, queue: Command) -> None:
    api.answers(401, f"unknown key {KEY}".encode())
    refused = queue()
    api.answers(200, b"<html>")
    failed = [refused, queue(), queue("--endpoint", "http://127.0.0.1:9")]
    api.answer.held_until = threading.Event()
    failed.append(queue("--timeout", "100ms"))
    api.answer.held_until.set()
    for done in failed:
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("nextmv-queue: cannot read the queue of default: ")
        assert done.err.count("\n") == 1
        assert KEY not in done.err
    assert "401" in refused.err


def catches_sigterm(process: subprocess.Popen[Any]) -> bool:
    """Whether it has handlers of its own by now; Python itself has none of SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@with_key
@pytest.mark.parametrize("during", ["imports", "request"])
def test_an_interrupt_ends_it_quietly(api: FakeAPI, during: str) -> None:
    api.answer.held_until = threading.Event()
    with subprocess.Popen(
        COMMAND,
        stderr=subprocess.PIPE,
        # A test run in the background of a shell ignores it, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        try:
            ready = (
                (lambda: api.requests)
                if during == "request"
                else (lambda: catches_sigterm(process))
            )
            until(ready, seconds=120, what="the start")
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=120)[1] == b""
        finally:
            api.answer.held_until.set()
            process.kill()
    assert process.returncode == 130


def test_help_and_version_are_printed(queue: Command) -> None:
    assert queue("--version").out == f"nextmv-queue {__version__}\n"
    for flag in ("-h", "--help"):
        done = queue(flag)
        assert done.out.startswith("Usage: nextmv-queue [OPTIONS]\n")
        for named in ("--account", "--profile", "--wide", "--timeout"):
            assert f"  {named} " in done.out
