"""Log lines, as a process of its own writes them: logging belongs to the whole process."""

import json
import re
import subprocess
import sys

import pytest
from support.programs import redirected

PROGRAM = """
import logging, sys, warnings
from nextmv_exporter.logs import get_logger
from nextmv_exporter import logs

logs.configure(*sys.argv[1:3])
log = get_logger()
"""


def lines(code: str, level: str = "info", log_format: str = "logfmt") -> list[str]:
    """What the code logs."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + code, level, log_format],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    assert ended.stdout == ""
    return ended.stderr.removesuffix("\n").split("\n")


def test_a_line_is_logfmt_on_stderr_with_the_time_first() -> None:
    [line] = lines('log.info("Started up", account="default", runs=3, on=True, err="no \\"way\\"")')
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z level=info msg=\"Started up\" "
        r'account=default runs=3 on=true err="no \\"way\\""',
        line,
    )


def test_a_line_may_be_json() -> None:
    [line] = lines('log.warning("It failed", account="default", runs=3)', log_format="json")
    entry = json.loads(line)
    assert entry.pop("ts").endswith("Z")
    assert entry == {"level": "warn", "msg": "It failed", "account": "default", "runs": 3}


def test_how_a_host_program_configures_structlog_does_not_matter() -> None:
    code = """
import structlog
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
get_logger().warning("It failed")
"""
    [line] = lines(code)
    assert 'msg="It failed"' in line


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_left_out(level: str, logged: list[str]) -> None:
    code = 'for each in ("debug", "info", "warning", "error"): getattr(log, each)("x")'
    found = [json.loads(line)["level"] for line in lines(code, level, "json")]
    assert found == logged


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_an_exception_stays_on_its_one_line(log_format: str) -> None:
    [line] = lines(
        'try: 1 / 0\nexcept ZeroDivisionError: log.exception("A bug")', log_format=log_format
    )
    assert "ZeroDivisionError" in line
    assert "Traceback" in line


def test_a_value_of_several_lines_stays_on_one() -> None:
    [line] = lines('log.info("x", err="one two\\nthree")')
    assert line.endswith(r'msg=x err="one two\nthree"')


def test_characters_that_control_a_terminal_are_escaped() -> None:
    code = r'log.warning("a\x1b[2Jb", value="\x1b]0;c\x07\u200b\x85", label="né")'
    [line] = lines(code)
    assert line.endswith(r"msg=a\x1b[2Jb value=\x1b]0;c\x07\u200b\x85 label=né")
    [line] = lines(code, log_format="json")
    assert json.loads(line)["msg"] == "a\x1b[2Jb"


def test_a_value_that_can_not_be_encoded_is_escaped() -> None:
    code = r'import pathlib; log.info("a", file=pathlib.Path("b\udcff")); log.info("c")'
    first, second = lines(code)
    assert first.endswith(r"msg=a file=b\udcff")
    assert second.endswith("msg=c")


def test_libraries_write_in_the_same_format() -> None:
    [line, warned] = lines(
        'logging.getLogger("some.library").warning("Something %s", "happened")\n'
        'warnings.warn("An old way")'
    )
    assert re.fullmatch(r'ts=\S+ level=warn msg="Something happened"', line)
    assert "level=warn" in warned
    assert "An old way" in warned


def test_what_the_program_logs_itself_is_left_out_of_uvicorns_messages() -> None:
    [line] = lines(
        'logging.getLogger("uvicorn.access").info("GET /metrics")\n'
        'logging.getLogger("uvicorn.error").info("Started server process")\n'
        'logging.getLogger("uvicorn.error").error("Broken")'
    )
    assert line.endswith(" level=error msg=Broken")


def test_headers_of_a_server_are_not_quoted_by_urllib3() -> None:
    [line] = lines(
        'logging.getLogger("urllib3.connection").warning("Failed to parse headers: KEY")\n'
        'logging.getLogger("urllib3.connection").error("Broken")'
    )
    assert line.endswith(" level=error msg=Broken")


def test_what_clients_cause_is_logged_once_a_minute_with_the_number_of_repetitions() -> None:
    code = """
import freezegun
clients = get_logger(logs.CLIENTS)
with freezegun.freeze_time() as clock:
    for seconds in (0, 1, 58, 1, 30):
        clock.tick(seconds)
        clients.warning("Malformed", value=seconds)
        log.warning("Mine")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        logging.getLogger("asyncio").error("Fatal error on transport")
"""
    logged = [json.loads(line) for line in lines(code, log_format="json")]
    [first, second] = [line for line in logged if line["msg"] == "Malformed"]
    assert "repeated" not in first
    assert second["repeated"] == 2
    assert sum(line["msg"] == "Mine" for line in logged) == 5
    assert sum(line["msg"] == "Invalid HTTP request received." for line in logged) == 2
    assert sum(line["msg"] == "Fatal error on transport" for line in logged) == 2


def test_each_message_of_clients_has_its_own_minute() -> None:
    code = """
clients = get_logger(logs.CLIENTS)
clients.warning("One")
clients.warning("Two")
"""
    assert len(lines(code)) == 2


def test_a_blocked_stderr_blocks_nothing_and_the_dropped_lines_are_counted() -> None:
    code = """
for number in range(5000): log.info("x" * 100, number=number)
print("went on", flush=True)
sys.stdin.readline()
log.info("last")
"""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code, "info", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "went on\n"
        logged = [json.loads(process.stderr.readline())]
        while "count" not in logged[-1]:
            logged.append(json.loads(process.stderr.readline()))
        process.stdin.write("\n")
        process.stdin.flush()
        rest = process.stderr.read()
        assert process.wait(30) == 0
    numbers = [line["number"] for line in logged[:-1]]
    # Which ones are dropped depends on how far the thread was when the others were queued.
    assert numbers == sorted(set(numbers))
    assert numbers[:1000] == list(range(1000))
    assert logged[-1]["count"] == 5000 - len(numbers) > 0
    assert json.loads(rest)["msg"] == "last"


STDERR_BLOCKS = """
import os, threading
blocked, released, write = threading.Event(), threading.Event(), os.write
def write_when_released(descriptor, line):
    blocked.set()
    released.wait()
    return write(descriptor, line)
os.write = write_when_released
log.info("the first line")
blocked.wait()
"""
"""The thread that writes has the first line, and stays with it until `released`."""


def test_a_thousand_lines_wait_while_stderr_is_blocked() -> None:
    code = """
for number in range(1005): log.info("waiting", number=number)
released.set()
handler = logging.root.handlers[0]
handler._lines.join()
assert "log" in [thread.name for thread in threading.enumerate()]
handler._dropped += 2  # as if it were blocked again
log.info("more")
handler._lines.join()
"""
    logged = [json.loads(line) for line in lines(STDERR_BLOCKS + code, log_format="json")]
    assert [line["number"] for line in logged if "number" in line] == list(range(1000))
    message = "Dropped log lines while stderr was blocked"
    dropped = [line | {"ts": ""} for line in logged if line["msg"] == message]
    assert dropped == [
        {"ts": "", "level": "warn", "msg": message, "count": count} for count in (5, 2)
    ]


def test_lines_are_waited_for_until_they_are_written_and_for_a_second_at_most() -> None:
    code = """
from unittest import mock
wait = threading.Condition.wait_for
with mock.patch.object(threading.Condition, "wait_for", autospec=True, side_effect=wait) as waits:
    logs.flush()
    released.set()
    logs.flush()
assert not logging.root.handlers[0]._lines.unfinished_tasks
assert [call.args[2] for call in waits.call_args_list] == [1, 1], waits.call_args_list
"""
    assert len(lines(STDERR_BLOCKS + code)) == 1


def test_a_stderr_that_stays_blocked_does_not_keep_the_program_from_ending() -> None:
    code = 'for number in range(5000): log.info("x" * 100)'
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code, "info", "json"], stderr=subprocess.PIPE
    ) as process:
        assert process.wait(30) == 0


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 >&- | true"])
def test_a_stderr_that_cannot_be_written_to_changes_nothing(redirection: str) -> None:
    code = PROGRAM + 'log.warning("x"); sys.exit(5)'
    ended = subprocess.run(
        redirected(redirection, sys.executable, "-c", code, "info", "json"),
        stdout=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (5, b"")


def test_in_another_program_the_lines_go_through_its_own_logging_with_the_fields() -> None:
    code = """
import logging
logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
from nextmv_exporter.logs import get_logger
get_logger().warning("Scrape failed", account="a", err="x y")
try:
    1 / 0
except ZeroDivisionError:
    get_logger().exception("Unexpected error")
get_logger().info("below the level")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=30
    )
    assert ended.stdout == ""
    first, second, *traceback = ended.stderr.splitlines()
    assert first == 'WARNING nextmv_exporter Scrape failed account=a err="x y"'
    assert second == "ERROR nextmv_exporter Unexpected error"
    assert traceback[-1] == "ZeroDivisionError: division by zero"
