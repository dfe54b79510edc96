"""`docs/logs.md` against each call in the code that logs a message."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter" / "nextmv_exporter"
TEXT = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)` \| ([\w, ]+) \| (.*?) ?\| (.*) \|$", TEXT, re.MULTILINE)

LEVELS = {"info": "info", "warning": "warn", "error": "error", "exception": "error"}
OF_CLIENTS = {"web/app.py", "web/listener.py", "web/scrapes.py", "web/toolkit/authentication.py"}
"""Modules whose messages get `repeated`, as the loggers that they declare have."""

Line = tuple[str, frozenset[str]]
"""Level and fields."""


def logged() -> dict[str, set[Line]]:
    """What the code logs, by message."""
    found: defaultdict[str, set[Line]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Attribute(ast.Name("log"), level), [ast.Constant(str(message))]):
                    fields = {str(keyword.arg) for keyword in node.keywords}
                    fields |= {"exception"} if level == "exception" else set()
                    fields |= {"repeated"} if module in OF_CLIENTS else set()
                    found[message].add((LEVELS[level], frozenset(fields)))
                case ast.Call(ast.Attribute(ast.Name("log"))):  # by `Reloaded`, which see below
                    assert module == "files.py"
                case ast.Call(ast.Name("Reloaded"), [_, _, ast.Constant(str(message))]):
                    found[message].add(("warn", frozenset({"err"})))
    return found


def test_each_message_is_documented_with_its_level_and_fields() -> None:
    documented = {
        message: {
            (level, frozenset(re.findall(r"`(\w+)`", fields))) for level in levels.split(", ")
        }
        for message, levels, fields, _ in ROWS
    }
    assert documented == logged()


def test_each_message_is_documented_once() -> None:
    assert len({message for message, *_ in ROWS}) == len(ROWS) > 20


def test_the_modules_of_clients_are_those_that_limit_how_often_they_log() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "get_logger(CLIENTS)" in path.read_text(encoding="utf-8")
    }
    assert found == OF_CLIENTS
