"""Log lines, as a process of its own writes them: logging belongs to the whole process."""

import json
import re
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys, warnings
import structlog
from nextmv_exporter import logs

logs.configure(*sys.argv[1:3])
log = structlog.get_logger()
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
    assert entry == {"level": "warning", "msg": "It failed", "account": "default", "runs": 3}


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warn", ["warning", "error"]),
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
    [line] = lines('log.info("x", err="one\\ntwo")')
    assert "one" in line
    assert "two" in line


def test_libraries_write_in_the_same_format() -> None:
    [line, warned] = lines(
        'logging.getLogger("some.library").warning("Something %s", "happened")\n'
        'warnings.warn("An old way")'
    )
    assert re.fullmatch(r'ts=\S+ level=warning msg="Something happened"', line)
    assert "level=warning" in warned
    assert "An old way" in warned


def test_the_servers_own_chatter_is_left_out_but_not_its_errors() -> None:
    [line] = lines(
        'logging.getLogger("uvicorn.access").info("GET /metrics")\n'
        'logging.getLogger("uvicorn.error").info("Started server process")\n'
        'logging.getLogger("uvicorn.error").error("Broken")'
    )
    assert "msg=Broken" in line
