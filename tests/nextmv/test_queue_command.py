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
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nextmv.cloud import Client as SdkClient  # type: ignore[import-untyped]
from nextmv.cloud.account import Queue as SdkQueue  # type: ignore[import-untyped]
from support.fake_api import KEY, RUN, FakeAPI
from support.programs import redirected
from support.waiting import until

from nextmv_exporter import __version__
from nextmv_exporter.nextmv import __main__ as queue_command

COMMAND = (sys.executable, "-m", "nextmv_exporter.nextmv")
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def run(number: int = 1, *, minutes: float = 1, **fields: Any) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(minutes=minutes)
    return {**RUN, "id": f"run-{number}", "created_at": created.isoformat(), **fields}


@dataclass(frozen=True)
class Done:
    """What the command has printed, and its status."""

    stdout: str
    stderr: str
    returncode: int


def queue(*arguments: str, **variables: str) -> Done:
    """Run the command in this process, as with its output in pipes."""
    with CliRunner().isolation(env=variables) as (stdout, stderr, _):
        with pytest.raises(SystemExit) as ended:
            queue_command.main(arguments)
        assert isinstance(ended.value.code, int)
        return Done(stdout.getvalue().decode(), stderr.getvalue().decode(), ended.value.code)


def ids(done: Done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()[1:]]


def on_terminal(
    *arguments: str, columns: int, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run the command on a terminal of a width; gives the lines that it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**variables, **(environment or {})},
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


@pytest.fixture(autouse=True)
def environment(api: FakeAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)


def test_it_is_installed_as_nextmv_queue() -> None:
    scripts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["nextmv-queue"].partition(":")
    assert getattr(sys.modules[module], function) is queue_command.main


# What is shown


def test_the_runs_are_a_table_with_the_oldest_first(api: FakeAPI) -> None:
    newest = run(1, minutes=2, name="Evening plan")
    oldest = run(3, minutes=90.5, status_v2="running")
    api.serves(newest, run(2, created_at=None), oldest)
    done = queue()
    assert done.returncode == 0
    assert done.stderr == ""
    header, *rows = [line.split(maxsplit=6) for line in done.stdout.splitlines()]
    assert header == ["ID", "STATUS", "AGE", "CLASS", "APPLICATION", "INSTANCE", "NAME"]
    places = ["6c9500mb870s", "routing", "production"]
    assert rows == [
        ["run-3", "running", "1h30m", *places, "Daily plan"],
        ["run-1", "queued", rows[1][2], *places, "Evening plan"],
        ["run-2", "queued", "-", *places, "Daily plan"],
    ]
    assert rows[1][2].startswith("2m")


def test_a_run_with_gos_zero_time_is_not_the_oldest(api: FakeAPI) -> None:
    api.serves(run(1, created_at="0001-01-01T00:00:00Z"), run(2))
    assert ids(queue()) == ["run-2", "run-1"]


def test_an_empty_queue_prints_no_table_and_is_no_failure(api: FakeAPI) -> None:
    api.serves()
    for arguments in ((), ("--json",)):
        done = queue(*arguments)
        assert done.returncode == 0
        assert done.stdout == ""
    assert queue().stderr == "No runs found.\n"


def test_the_oldest_twenty_are_shown_and_how_many_more_there_are(api: FakeAPI) -> None:
    api.serves(*(run(number, minutes=number) for number in range(25)))
    done = queue()
    assert ids(done) == [f"run-{number}" for number in range(24, 4, -1)]
    assert done.stderr == "5 more runs: --limit 0 prints all.\n"
    assert queue("--limit", "24").stderr == "1 more run: --limit 0 prints all.\n"
    assert len(ids(queue("--limit", "3"))) == 3
    everything = queue("--limit", "0")
    assert len(ids(everything)) == 25
    assert everything.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--status", "queued"), {"run-1", "run-4", "run-5"}),
        (("--status", "QUEUED"), {"run-1", "run-4", "run-5"}),
        (("--status", "running", "--status", "paused"), {"run-2", "run-3"}),
        (("--execution-class", "large"), {"run-3", "run-4"}),
        (("--execution-class", "unknown"), {"run-5"}),
        (("--application", "packing"), {"run-4"}),
        (("--application", "packing", "--application", "routing"), set("12345")),
        (("--status", "queued", "--execution-class", "large"), {"run-4"}),
        (("--status", "failed"), set()),
    ],
)
def test_runs_are_chosen_by_status_class_and_application(
    api: FakeAPI, arguments: tuple[str, ...], found: set[str]
) -> None:
    api.serves(
        run(1),
        run(2, status_v2="RUNNING"),
        run(3, status_v2="Paused", execution_class="large"),
        run(4, execution_class="large", application_id="packing"),
        run(5, execution_class=None),
    )
    numbers = {each.removeprefix("run-") for each in found}
    assert {each.removeprefix("run-") for each in ids(queue(*arguments))} == numbers


def test_json_is_an_object_a_line_with_all_fields_as_the_sdk_reads_them(api: FakeAPI) -> None:
    queued = [run(1, minutes=1), run(2, minutes=2, name="Plan\n\x1b[31m計画"), run(3, minutes=3)]
    api.serves(*queued)
    done = queue("--json", "--limit", "0")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert done.stdout.count("\n") == 3
    ours = [json.loads(line) for line in done.stdout.splitlines()]
    client = SdkClient(api_key=KEY, url=api.url)
    read = client.request(method="GET", endpoint="v1/account/queue").json()
    theirs = [each.to_dict() for each in SdkQueue.from_dict(read).runs]
    assert [each["id"] for each in ours] == ["run-3", "run-2", "run-1"]
    for mine, their in zip(ours, reversed(theirs), strict=True):
        assert mine.keys() == RUN.keys()
        for field in RUN.keys() - {"created_at", "status"}:
            assert mine[field] == their[field]
        created = [datetime.fromisoformat(each["created_at"]) for each in (mine, their)]
        assert created[0] == created[1]


def test_json_keeps_the_fields_that_a_run_lacks(api: FakeAPI) -> None:
    api.serves({"id": "run-1"})
    assert json.loads(queue("--json").stdout) == dict.fromkeys(RUN) | {"id": "run-1"}


def test_addresses_are_printed_only_when_they_are_asked_for(api: FakeAPI) -> None:
    api.serves(run())
    address = RUN["user_email"]
    assert address not in queue().stdout
    assert address in queue("--wide").stdout
    assert address in queue("--json").stdout


# Terminals and pipes


@pytest.mark.parametrize("columns", [200, 80, 40, 10])
def test_lines_fit_the_terminal_and_the_id_is_whole(api: FakeAPI, columns: int) -> None:
    api.serves(run(1, name="Plan " * 30, id="production-jArKh7YyO"))
    header, line = on_terminal(columns=columns)
    assert line.startswith("production-jArKh7YyO  queued  1m")
    assert len(line) <= max(columns, len("production-jArKh7YyO  queued  1m59s"))
    assert ("…" in line) == ("NAME" in header)


def test_wide_lines_are_whole_on_any_terminal(api: FakeAPI) -> None:
    api.serves(run(1, name="Plan " * 30))
    shown = "".join(on_terminal("--wide", columns=60))
    assert RUN["user_email"] in shown
    assert shown.endswith(("Plan " * 30).strip())


def test_columns_can_be_set_in_the_environment(api: FakeAPI) -> None:
    api.serves(run(1, name="Plan " * 30))
    assert len(on_terminal(columns=80, environment={"COLUMNS": "120"})[1]) == 120


def test_a_terminal_that_does_not_know_its_width_has_80_columns(api: FakeAPI) -> None:
    api.serves(run(1, name="Plan " * 30))
    assert len(on_terminal(columns=0)[1]) == 80


def test_a_pipe_gets_whole_lines_on_any_terminal(api: FakeAPI) -> None:
    api.serves(run(1, name="Plan " * 30))
    assert queue(COLUMNS="40").stdout.endswith(("Plan " * 30).strip() + "\n")


def test_no_escape_sequence_of_the_api_is_printed(api: FakeAPI) -> None:
    odd = "\x1b]0;owned\x07\x1b[2Jname\r\nnext\u202e\x9b1m"
    api.serves({field: odd for field in RUN if field not in ("created_at", "user_email")})
    for arguments in ((), ("--wide",), ("--json",)):
        text = queue(*arguments).stdout.replace("\n", "")
        assert text
        assert text.isprintable()


def test_an_error_message_of_the_api_is_cleaned_too(api: FakeAPI) -> None:
    api.answers(500, "\x1b[2J\nsorry \u202e".encode())
    done = queue()
    assert done.returncode == 1
    assert done.stderr.endswith("\n")
    assert done.stderr[:-1].isprintable()


def test_what_the_encoding_lacks_is_replaced(api: FakeAPI) -> None:
    api.serves(run(1, name="Plan 計画"))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, check=True)
    assert "Plan ??" in done.stdout


def test_a_closed_pipe_is_no_failure(api: FakeAPI) -> None:
    api.serves(*(run(number, name="x" * 100) for number in range(2000)))
    for arguments in ((), ("--json",)):
        with subprocess.Popen(
            [*COMMAND, "--limit", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 0


def test_an_output_that_is_closed_or_full_gives_no_traceback(api: FakeAPI) -> None:
    api.serves(run())
    done = subprocess.run(
        redirected(">&-", *COMMAND), stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "nextmv-queue: cannot write to stdout: it is closed\n"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "nextmv-queue: cannot write to stdout: No space left on device\n"


def test_a_note_that_can_not_be_written_is_no_failure(api: FakeAPI) -> None:
    api.serves(run(1), run(2))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--limit=1"], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert done.returncode == 0
    assert done.stdout.count("run-") == 1


# Credentials


def test_the_key_comes_from_a_profile_of_the_configuration_file(
    api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEXTMV_API_KEY")
    monkeypatch.delenv("NEXTMV_ENDPOINT")
    api.serves(run())
    config = tmp_path / "config.yaml"
    config.write_text(
        f"apikey: key-of-default\nendpoint: {api.url}\n"
        f"staging:\n  apikey: key-of-staging\n  endpoint: {api.url}\n"
    )
    assert ids(queue("--config-file", str(config))) == ["run-1"]
    assert ids(queue("--config-file", str(config), "--profile", "staging")) == ["run-1"]
    assert ids(queue(NEXTMV_CONFIG_FILE=str(config), NEXTMV_PROFILE="staging")) == ["run-1"]
    flag_first = queue("--profile", "default", NEXTMV_CONFIG_FILE=str(config), NEXTMV_PROFILE="x")
    assert ids(flag_first) == ["run-1"]
    assert [each.headers["Authorization"] for each in api.requests] == [
        "Bearer key-of-default",
        "Bearer key-of-staging",
        "Bearer key-of-staging",
        "Bearer key-of-default",
    ]


@pytest.mark.parametrize(
    ("arguments", "variables", "given", "choices"),
    [
        ((), {"NEXTMV_PROFILE": "*"}, "NEXTMV_PROFILE is *", "default, staging"),
        (
            (),
            {"NEXTMV_EXPORTER_NEXTMV_PROFILE": "*,eu"},
            "NEXTMV_EXPORTER_NEXTMV_PROFILE is *,eu",
            "default, staging",
        ),
        ((), {"NEXTMV_PROFILE": "eu,us"}, "NEXTMV_PROFILE is eu,us", "eu, us"),
        (("--profile=*",), {"NEXTMV_PROFILE": "eu"}, "--profile is *", "default, staging"),
    ],
)
def test_several_profiles_are_refused_with_those_to_choose_from(
    tmp_path: Path,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    given: str,
    choices: str,
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("apikey: a\nstaging:\n  apikey: b\nkeyless:\n  endpoint: x\n")
    done = queue("--config-file", str(config), *arguments, **variables)
    refused = f"{given}, but only one profile can be read: choose one of {choices}"
    assert (done.returncode, done.stderr) == (2, f"nextmv-queue: {refused} (see --profile)\n")


def test_several_profiles_are_refused_also_where_none_has_a_key(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("keyless:\n  endpoint: x\n")
    done = queue("--config-file", str(config), NEXTMV_PROFILE="*")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "but only one profile can be read: none has an API key (see --profile)\n"
    )


def test_a_key_file_goes_before_the_variable(api: FakeAPI, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("key-of-file\n")
    api.serves(run())
    assert ids(queue("--api-key-file", str(file))) == ["run-1"]
    assert ids(queue(NEXTMV_API_KEY_FILE=str(file))) == ["run-1"]
    assert ids(queue(NEXTMV_EXPORTER_NEXTMV_API_KEY_FILE=str(file))) == ["run-1"]
    assert {each.headers["Authorization"] for each in api.requests} == {"Bearer key-of-file"}


def test_the_endpoint_flag_goes_before_the_variable(api: FakeAPI) -> None:
    api.serves(run())
    assert ids(queue("--endpoint", api.url, NEXTMV_ENDPOINT="http://127.0.0.1:9")) == ["run-1"]


# Exit statuses


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (("--limit", "-1"), {}, "--limit"),
        (("--timeout", "soon"), {}, "--timeout"),
        (("--key", "k"), {}, "--key"),
        (("extra",), {}, "extra"),
        (("--api-key-file", "/nowhere/key"), {}, "/nowhere/key"),
        (("--config-file", "/nowhere.yaml"), {"NEXTMV_API_KEY": ""}, "/nowhere.yaml"),
        (("--profile", "other"), {"NEXTMV_API_KEY": ""}, "other"),
        (("--endpoint", "http://a b"), {}, "http://a b"),
        (("--endpoint", "http://a b"), {}, "(see --endpoint)"),
        ((), {"NEXTMV_API_KEY": ""}, "NEXTMV_API_KEY"),
        ((), {"NEXTMV_API_KEY": ""}, "--api-key-file"),
        ((), {"NEXTMV_PROFILE": "one,two"}, "one, two"),
        ((), {"NEXTMV_PROFILE": "*"}, "--profile"),
    ],
    ids=str,
)
def test_a_bad_configuration_is_one_line_and_status_2(
    arguments: tuple[str, ...], variables: dict[str, str], named: str
) -> None:
    done = queue(*arguments, **variables)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("nextmv-queue: ")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
    assert "--nextmv" not in done.stderr


def test_a_queue_that_cannot_be_read_is_one_line_and_status_1(api: FakeAPI) -> None:
    api.answers(401, f"unknown key {KEY}".encode())
    refused = queue()
    api.answers(200, b"<html>")
    unexpected = queue()
    unreachable = queue("--endpoint", "http://127.0.0.1:9")
    for done in (refused, unexpected, unreachable):
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("nextmv-queue: cannot read the queue: ")
        assert done.stderr.count("\n") == 1
        assert KEY not in done.stderr
    assert "401" in refused.stderr


def test_a_response_that_takes_longer_than_the_timeout_ends_the_wait(api: FakeAPI) -> None:
    api.answer.held_until = threading.Event()
    try:
        done = queue("--timeout", "100ms")
    finally:
        api.answer.held_until.set()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_an_interrupt_ends_it_quietly(api: FakeAPI) -> None:
    api.answer.held_until = threading.Event()
    with subprocess.Popen(
        COMMAND,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores it, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        try:
            until(lambda: api.requests, seconds=30, what="the request")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            api.answer.held_until.set()
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_help_and_version_are_printed() -> None:
    assert queue("--version").stdout == f"nextmv-queue {__version__}\n"
    for flag in ("-h", "--help"):
        done = queue(flag)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: nextmv-queue [OPTIONS]\n")


@pytest.mark.parametrize(
    "text",
    [
        "Only runs with this status; repeatable.",
        "Only runs of this class; repeatable.",
        "Only runs of this application; repeatable.",
        "Maximum number of runs to print; 0 for all.",
        "truncate nothing",
        "Profile of the configuration file. [default: the default profile]",
        "Nextmv configuration file. [default: ~/.nextmv/config.yaml]",
        "File that holds the API key.",
        "Base URL of the API. [default: https://api.cloud.nextmv.io]",
        "Longest time that reading the queue may take. [default: 10s]",
    ],
)
def test_help_says_what_each_flag_does(text: str) -> None:
    assert text in " ".join(queue("--help").stdout.split())
