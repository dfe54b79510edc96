"""The recipes of CONTRIBUTING.md: if a step is forgotten, the message names the file."""

import dataclasses
import re
from pathlib import Path

import pytest

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.settings import Settings
from nextmv_exporter.web.landing import ADVICE

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter" / "nextmv_exporter"
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def text_of(folder: Path, pattern: str) -> str:
    return "\n".join(file.read_text() for file in sorted(folder.rglob(pattern)))


TESTS = text_of(ROOT / "tests", "*.py")
CODE = text_of(PACKAGE, "*.py")


def test_a_flag_is_read() -> None:
    names = {field.name for field in dataclasses.fields(Settings)}
    assert {"demo", "nextmv_profile", "web_config_file"} <= names
    for name in names:
        assert re.search(rf"settings\.{name}\b", CODE), f"nothing reads settings.{name}"


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_reason_is_raised_explained_and_tested(reason: Reason) -> None:
    raised = f"Reason.{reason.name}" in text_of(PACKAGE / "nextmv", "*.py")
    assert raised, f"nextmv/errors.py: raise an error with {reason.name}"
    assert ADVICE.get(reason), f"web/landing.py: add advice for {reason.name} to ADVICE"
    row = f"`{reason}` |" in (ROOT / "docs/runbooks.md").read_text()
    assert row, f"docs/runbooks.md: add a row for {reason}"
    caused = f"Reason.{reason.name}" in TESTS or f'"{reason}"' in TESTS
    assert caused, f"tests/end_to_end/test_failures.py: add a case of {reason}"


def test_every_file_and_every_command_that_the_page_names_exists() -> None:
    named = re.findall(r"`([a-z_/]+(?:\.py|\.md|\.toml|/run|/))`", PAGE)
    assert len(named) > 15
    for name in named:
        places = (ROOT / name, PACKAGE / name, ROOT / "tests" / name)
        assert any(place.exists() for place in places), name
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    commands = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", PAGE))
    assert {"check", "test"} <= commands <= targets
