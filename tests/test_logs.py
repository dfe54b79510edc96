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
        timeout=120,
    )
    assert ended.stdout == ""
    return ended.stderr.removesuffix("\n").split("\n")


def test_a_line_is_logfmt_on_stderr_with_the_time_first() -> None:
    [line] = lines('log.info("Started up", account="default", runs=3, none="", err="no \\"way\\"")')
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z level=info msg=\"Started up\" "
        r'account=default runs=3 none= err="no \\"way\\""',
        line,
    )


def test_a_line_may_be_json_and_begins_with_time_level_and_message() -> None:
    code = 'log.warning("It failed", account="default", runs=3)\nlogging.getLogger("x").error("y")'
    ours, theirs = lines(code, log_format="json")
    entry = json.loads(ours)
    assert list(entry) == ["ts", "level", "msg", "account", "runs"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", entry.pop("ts"))
    assert entry == {"level": "warn", "msg": "It failed", "account": "default", "runs": 3}
    assert list(json.loads(theirs).items())[1:] == [("level", "error"), ("msg", "y")]


def test_lines_below_the_level_are_left_out() -> None:
    code = 'for each in ("debug", "info", "warning", "error"): getattr(log, each)("x")'
    levels = ["debug", "info", "warn", "error"]
    for number, level in enumerate(levels):
        found = [json.loads(line)["level"] for line in lines(code, level, "json")]
        assert found == levels[number:]


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_an_exception_stays_on_its_one_line(log_format: str) -> None:
    [line] = lines(
        'try: 1 / 0\nexcept ZeroDivisionError: log.exception("A bug", err="x")',
        log_format=log_format,
    )
    assert "Traceback" in line
    assert "ZeroDivisionError: division by zero" in line


def test_characters_that_control_a_terminal_or_break_a_line_are_escaped() -> None:
    code = r'log.warning("a\x1b[2Jb", value="\x1b]0;c\x07\u200b\x85\x7f", err="a\nb", label="né")'
    [line] = lines(code)
    assert line.isprintable()
    assert r'msg="a\u001b[2Jb" value="\u001b]0;c\u0007\u200b\u0085\u007f" err="a\nb"' in line
    assert line.endswith("label=né")
    [line] = lines(code, log_format="json")
    assert json.loads(line)["msg"] == "a\x1b[2Jb"
    [line] = lines(r'log.warning("x", name="\udcff")')
    assert line.endswith(r'name="\udcff"')


def test_libraries_log_in_the_same_format_and_less() -> None:
    code = """
logging.getLogger("asyncio").error("%s broke", "It")
warnings.warn("Old")
logging.getLogger("uvicorn.error").info("Started server process")
logging.getLogger("urllib3.connection").warning("Failed to parse headers: KEY")
"""
    first, second = lines(code)
    assert first.endswith('level=error msg="It broke"')
    assert 'level=warn msg="<string>' in second


def test_what_clients_cause_is_logged_once_a_minute_with_the_number_of_repetitions() -> None:
    code = """
import freezegun
clients = get_logger(logs.CLIENTS)
with freezegun.freeze_time() as clock:
    for seconds in (0, 1, 58, 1, 30):
        clock.tick(seconds)
        for message in ("Malformed", "Other"):  # each has its own minute
            clients.warning(message, value=seconds)
        log.warning("Mine")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        logging.getLogger("asyncio").error(f"Fatal error on transport {seconds}")
"""
    logged = [json.loads(line) for line in lines(code, log_format="json")]
    for message in ("Malformed", "Other", "Invalid HTTP request received.", "Fatal error"):
        first, second = [line for line in logged if line["msg"].startswith(message)]
        assert "repeated" not in first
        assert second["repeated"] == 2
    assert sum(line["msg"] == "Mine" for line in logged) == 5


def test_a_blocked_stderr_blocks_nothing_and_drops_what_comes_beyond_a_thousand_lines() -> None:
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
        logged = [json.loads(process.stderr.readline()) for _ in range(1000)]
        process.stdin.write("\n")
        process.stdin.flush()
        logged += map(json.loads, process.stderr.read().splitlines())
        assert process.wait(120) == 0
    numbers = [line["number"] for line in logged if "number" in line]
    # Which ones are dropped depends on how far the thread was when the others were queued.
    assert numbers == sorted(set(numbers))
    assert numbers[:1000] == list(range(1000))
    assert len(numbers) < 5000
    assert logged[-1]["msg"] == "last"


def test_a_stderr_that_stays_blocked_does_not_keep_the_program_from_ending() -> None:
    code = 'for number in range(5000): log.info("x" * 100)\nlogs.flush()\nsys.exit(5)'
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code, "info", "json"], stderr=subprocess.PIPE
    ) as process:
        assert process.wait(120) == 5


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 >&- | true"])
def test_a_stderr_that_cannot_be_written_to_changes_nothing(redirection: str) -> None:
    code = PROGRAM + 'log.warning("x"); sys.exit(5)'
    ended = subprocess.run(
        redirected(redirection, sys.executable, "-c", code, "info", "json"),
        stdout=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (5, b"")


def test_in_another_program_the_lines_go_through_its_own_logging_with_the_fields() -> None:
    code = """
import logging
logging.basicConfig(format="%(levelname)s %(name)s %(funcName)s %(message)s")
from nextmv_exporter.logs import get_logger
def caller(): get_logger().warning("Scrape failed: 5 %", account="a", err="x y")
caller()
try:
    1 / 0
except ZeroDivisionError:
    get_logger().exception("Unexpected error")
get_logger().info("below the level")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=120
    )
    assert ended.stdout == ""
    first, second, *traceback = ended.stderr.splitlines()
    assert first == 'WARNING nextmv_exporter caller Scrape failed: 5 % account=a err="x y"'
    assert second == "ERROR nextmv_exporter <module> Unexpected error"
    assert traceback[-1] == "ZeroDivisionError: division by zero"
