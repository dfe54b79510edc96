"""What the program says and how it exits, above all where its configuration is bad."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import structlog
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import value, values

from exporter import __version__
from exporter.cli import main

FAULTS = Path(__file__).parent / "nextmv" / "testdata"
SECRET = "nxmvv1_SECRET"
WITH_KEY = {"NEXTMV_API_KEY": SECRET}


@pytest.fixture
def own_logging() -> Iterator[None]:
    """The program takes all logging over; give it back."""
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


Refused = Callable[..., str]


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_logging: None
) -> Refused:
    """Runs the program, which must exit with 2, and gives its one line."""

    def run(*flags: str, environment: Mapping[str, str] | None = None) -> str:
        for name, text in (environment or {}).items():
            monkeypatch.setenv(name, text)
        with pytest.raises(SystemExit) as exit_:
            main(["--web.listen-address=127.0.0.1:0", *flags])
        written = capsys.readouterr()
        assert exit_.value.code == 2
        assert written.out == ""
        assert written.err.startswith("nextmv-exporter: ")
        assert written.err.endswith("\n")
        assert written.err.count("\n") == 1
        assert "SECR" not in written.err
        return written.err

    return run


BAD_CREDENTIALS: Sequence[tuple[str, Sequence[str], Mapping[str, str], Sequence[str]]] = [
    ("no key anywhere", [], {}, ["no API key", "NEXTMV_API_KEY", "--nextmv.api-key-file"]),
    ("a key that is empty", [], {"NEXTMV_API_KEY": ""}, ["no API key", "--demo"]),
    (
        "an unknown profile",
        [f"--nextmv.config-file={FAULTS / 'good.yaml'}", "--nextmv.profile=nobody"],
        {},
        ["'nobody'", "good.yaml", "default, staging"],
    ),
    (
        "an unknown profile in the environment",
        [f"--nextmv.config-file={FAULTS / 'good.yaml'}"],
        {"NEXTMV_PROFILE": "nobody"},
        ["'nobody'", "good.yaml", "nextmv configuration create"],
    ),
    ("a profile without any file", ["--nextmv.profile=staging"], {}, ["'staging'", "config.yaml"]),
    (
        "a pkce profile",
        ["--nextmv.profile=sso-user"],
        {"NEXTMV_CONFIG_FILE": str(FAULTS / "pkce.yaml")},
        ["'sso-user'", "pkce", "create an API key"],
    ),
    (
        "an empty key file",
        [f"--nextmv.api-key-file={FAULTS / 'empty.key'}"],
        {},
        ["empty.key", "is empty"],
    ),
    (
        "a key file that cannot be read",
        [],
        {"NEXTMV_API_KEY_FILE": str(FAULTS)},
        ["testdata", "can't be read: Is a directory"],
    ),
    (
        "a key file of two lines",
        [f"--nextmv.api-key-file={FAULTS / 'two_lines.key'}"],
        {},
        ["two_lines.key", "white space"],
    ),
    (
        "a configuration file that is missing",
        ["--nextmv.config-file=/no/such/file.yaml"],
        {},
        ["/no/such/file.yaml", "does not exist", "--nextmv.config-file"],
    ),
    (
        "a configuration file that cannot be read",
        [f"--nextmv.config-file={FAULTS}"],
        {},
        ["testdata", "can't be read: Is a directory"],
    ),
    (
        "a configuration file that is a list",
        [f"--nextmv.config-file={FAULTS / 'list.yaml'}"],
        {},
        ["list.yaml", "YAML list where a mapping belongs"],
    ),
    (
        "a configuration file that is broken",
        [f"--nextmv.config-file={FAULTS / 'invalid.yaml'}"],
        {},
        ["invalid.yaml", "not valid YAML (line 2)"],
    ),
    (
        "a key with a line end",
        [],
        {"NEXTMV_API_KEY": f"{SECRET}\n"},
        ["NEXTMV_API_KEY", "white space"],
    ),
    ("a key that is not ASCII", [], {"NEXTMV_API_KEY": "ключ"}, ["NEXTMV_API_KEY", "non-ASCII"]),
    (
        "a key of two lines in the file",
        [f"--nextmv.config-file={FAULTS / 'bad_keys.yaml'}"],
        {"NEXTMV_PROFILE": "newline"},
        ["bad_keys.yaml", "'newline'", "white space"],
    ),
    (
        "several profiles and one key",
        ["--nextmv.profile=default", "--nextmv.profile=staging"],
        WITH_KEY,
        ["NEXTMV_API_KEY", "several profiles"],
    ),
    (
        "several profiles and one key file",
        [f"--nextmv.api-key-file={FAULTS / 'good.key'}"],
        {"NEXTMV_PROFILE": "default, staging"},
        ["--nextmv.api-key-file", "several profiles"],
    ),
    (
        "all profiles of a file that has none with a key",
        ["--nextmv.profile=*", f"--nextmv.config-file={FAULTS / 'pkce.yaml'}"],
        {},
        ["pkce.yaml", "no profile"],
    ),
    ("a bad URL", ["--nextmv.endpoint=ftp://a.b"], WITH_KEY, ["'ftp://a.b'", "--nextmv.endpoint"]),
    (
        "a bad URL in the environment",
        [],
        {**WITH_KEY, "NEXTMV_ENDPOINT": "not a host"},
        ["'not a host'", "NEXTMV_ENDPOINT"],
    ),
    (
        "a URL with a password",
        [f"--nextmv.endpoint=https://user:{SECRET}@a.b"],
        WITH_KEY,
        ["a.b", "user"],
    ),
]


@pytest.mark.parametrize(
    ("flags", "environment", "parts"),
    [pytest.param(*rest, id=name) for name, *rest in BAD_CREDENTIALS],
)
def test_bad_credentials_end_the_program_with_one_line(
    refused: Refused, flags: Sequence[str], environment: Mapping[str, str], parts: Sequence[str]
) -> None:
    line = refused(*flags, environment=environment)
    assert [part for part in parts if part not in line] == []


BAD_VALUES = [
    ("--web.listen-address", "nonsense", "is not host:port"),
    ("--web.listen-address", "10057", "is not host:port"),
    ("--web.listen-address", ":99999", "is not host:port"),
    ("--web.listen-address", "::1:10057", "[::]:10057"),
    ("--web.listen-address", "192.0.2.1:10057", "can't listen on 192.0.2.1:10057"),
    ("--web.listen-address", "no-such-host.invalid:0", "can't listen on no-such-host.invalid"),
    ("--nextmv.timeout", "soon", "is not a duration: write it like 500ms"),
    ("--nextmv.timeout", "10", "is not a duration"),
    ("--nextmv.timeout", "-1s", "is not a duration"),
    ("--nextmv.timeout", "0s", "must be longer than 0"),
    ("--queue.zero-retention", "5 minutes", "is not a duration"),
    ("--nextmv.run-lookback", "", "is not a duration"),
    ("--web.timeout-offset", "1s500", "is not a duration"),
    ("--queue.wait-buckets", "1m,5s", "is not in ascending order"),
    ("--queue.wait-buckets", "5s,5s", "is not in ascending order"),
    ("--queue.wait-buckets", "5s,,10s", "is not a duration"),
    ("--queue.max-groups", "0", "0 is not in the range"),
    ("--queue.max-groups", "many", "is not a valid integer"),
    ("--nextmv.max-response-bytes", "64 MB/s", "is not a size: write it like 64MiB"),
    ("--nextmv.max-response-bytes", "0", "is not a size"),
    ("--nextmv.source", "guess", "'account-queue'"),
    ("--web.telemetry-path", "metrics", "write it like /metrics"),
    ("--web.telemetry-path", "/-/ready", "is not a free path"),
    ("--web.telemetry-path", "/sd", "is not a free path"),
    ("--web.external-url", "exporter:10057", "is not a URL"),
    ("--web.config.file", "/no/such/web.yml", "/no/such/web.yml"),
    ("--log.level", "loud", "'warn'"),
    ("--log.format", "xml", "'logfmt'"),
]


@pytest.mark.parametrize(("flag", "text", "part"), BAD_VALUES)
def test_a_bad_value_ends_the_program_with_one_line_that_names_its_flag(
    refused: Refused, flag: str, text: str, part: str
) -> None:
    line = refused(f"{flag}={text}", environment=WITH_KEY)
    assert part in line
    assert flag in line or text in line


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("NEXTMV_EXPORTER_NEXTMV_TIMEOUT", "soon"),
        ("NEXTMV_EXPORTER_NEXTMV__TIMEOUT", "soon"),
        ("NEXTMV_EXPORTER_QUEUE_WAIT_BUCKETS", "5m,1m"),
        ("NEXTMV_EXPORTER_DEMO", "perhaps"),
        ("NEXTMV_EXPORTER_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_in_the_environment_is_told_with_its_variable(
    refused: Refused, variable: str, text: str
) -> None:
    line = refused(environment={**WITH_KEY, variable: text})
    assert text in line
    assert f"(from {variable})" in line


@pytest.mark.parametrize(
    "argument", ["--nextmv.api-key=secret", "--no.such-flag", "-x", "no-flag-at-all"]
)
def test_an_unknown_argument_ends_the_program(refused: Refused, argument: str) -> None:
    assert argument.partition("=")[0].lstrip("-") in refused(argument, environment=WITH_KEY)


def test_a_port_in_use_ends_the_program_with_the_address_and_the_flag(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(f"--web.listen-address={address}", environment=WITH_KEY)
    assert f"{address}: Address already in use" in line
    assert "--web.listen-address" in line


def program(
    *flags: str, home: Path, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run the program to its end in an environment of its own."""
    return subprocess.run(
        [sys.executable, "-m", "exporter", *flags],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **(environment or {})},
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_for_real_too_bad_configuration_gives_one_line_and_no_traceback(tmp_path: Path) -> None:
    ended = program(home=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr.startswith(b"nextmv-exporter: no API key: set NEXTMV_API_KEY")
    assert ended.stderr.count(b"\n") == 1


def test_bad_configuration_sends_nothing(tmp_path: Path, api: FakeAPI) -> None:
    flags = ["--once", "--nextmv.timeout=soon", f"--nextmv.endpoint={api.url}"]
    assert program(*flags, home=tmp_path, environment=WITH_KEY).returncode == 2
    assert api.requests == []


def test_the_console_script_is_the_same_program(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("nextmv-exporter")
    ended = subprocess.run([script, "--version"], capture_output=True, check=True, text=True)
    assert ended.stdout == f"nextmv-exporter {__version__}\n"
    module = program("--version", home=tmp_path)
    assert module.stdout.decode() == ended.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_tells_the_flags_and_that_the_key_is_none(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([flag])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--web.listen-address" in text
    assert "NEXTMV_API_KEY" in text


def test_once_prints_a_scrape_and_exits_with_0_if_the_account_is_up(
    tmp_path: Path, api: FakeAPI
) -> None:
    api.serves(RUN)
    ended = program(
        "--once", home=tmp_path, environment={"NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url}
    )
    assert ended.returncode == 0
    text = ended.stdout.decode()
    assert value(text, "nextmv_up", account="default") == 1
    assert value(text, "nextmv_account_queue_length", status_v2="queued") == 1
    assert value(text, "nextmv_exporter_build_info", version=__version__) == 1
    assert ended.stderr == b""
    assert len(api.requests) == 1


def test_once_exits_with_1_if_the_account_is_down_and_prints_the_metrics_all_the_same(
    tmp_path: Path, api: FakeAPI
) -> None:
    api.answers(401, b"who are you?")
    ended = program(
        "--once", home=tmp_path, environment={"NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url}
    )
    assert ended.returncode == 1
    text = ended.stdout.decode()
    assert value(text, "nextmv_up") == 0
    assert value(text, "nextmv_scrape_errors_total", reason="auth") == 1
    assert values(text, "nextmv_account_queue_runs") == []
    assert b"reason=auth" in ended.stderr
    assert KEY.encode() not in ended.stderr + ended.stdout


def test_once_exits_with_1_if_one_of_several_accounts_is_down(tmp_path: Path, api: FakeAPI) -> None:
    config = tmp_path / "config.yaml"
    nowhere = "http://127.0.0.1:1"
    config.write_text(
        f"apikey: one\nendpoint: {api.url}\nother: {{apikey: two, endpoint: '{nowhere}'}}\n"
    )
    api.serves(RUN)
    ended = program("--once", "--nextmv.profile=*", f"--nextmv.config-file={config}", home=tmp_path)
    assert ended.returncode == 1
    text = ended.stdout.decode()
    assert value(text, "nextmv_up", account="default") == 1
    assert value(text, "nextmv_up", account="other") == 0


def test_once_ends_within_its_timeout_whatever_hangs(tmp_path: Path, api: FakeAPI) -> None:
    released = threading.Event()
    api.answer.held_until = released
    try:
        ended = program(
            "--once",
            "--nextmv.timeout=300ms",
            home=tmp_path,
            environment={"NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url},
        )
    finally:
        released.set()
    assert ended.returncode == 1
    assert value(ended.stdout.decode(), "nextmv_scrape_errors_total", reason="timeout") == 1


def test_once_writes_utf8_whatever_the_terminal_speaks(tmp_path: Path, api: FakeAPI) -> None:
    api.serves({**RUN, "application_id": "配送"})
    ended = program(
        "--once",
        home=tmp_path,
        environment={
            "NEXTMV_API_KEY": KEY,
            "NEXTMV_ENDPOINT": api.url,
            "PYTHONIOENCODING": "latin-1",
        },
    )
    assert ended.returncode == 0
    text = ended.stdout.decode()
    assert value(text, "nextmv_account_queue_length", application_id="配送") == 1


def test_the_demo_needs_neither_key_nor_network_nor_the_proxy_of_the_network(
    tmp_path: Path,
) -> None:
    proxy = "http://127.0.0.1:1"
    ended = program(
        "--demo",
        "--once",
        home=tmp_path,
        environment={"HTTP_PROXY": proxy, "http_proxy": proxy, "no_proxy": "intranet.example"},
    )
    assert ended.returncode == 0, ended.stderr
    text = ended.stdout.decode()
    assert value(text, "nextmv_up", account="demo") == 1
    assert sum(values(text, "nextmv_account_queue_length")) > 0
