"""docs/running.md, and every flag that any documentation names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nextmv_exporter.settings import ENVIRONMENT_PREFIX, OPTIONS

ROOT = Path(__file__).parents[1]
RUNNING = ROOT / "docs" / "running.md"
DOCS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "systemd" / "nextmv-exporter.service",
]
FLAG = re.compile(r"--(?:nextmv|queue|web|log)\.[a-z.-]*[a-z]")
VARIABLE = re.compile(rf"\b{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]\b")

each_document = pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)


@each_document
def test_every_flag_that_is_named_exists(path: Path) -> None:
    known = {flag for option in OPTIONS for flag in option.opts}
    assert set(FLAG.findall(path.read_text())) <= known


@each_document
def test_every_variable_of_the_exporter_that_is_named_exists(path: Path) -> None:
    known = {name for option in OPTIONS for name in option.envvar or ()}
    assert set(VARIABLE.findall(path.read_text())) <= known | {f"{ENVIRONMENT_PREFIX}REVISION"}


def test_what_is_written_for_the_textfile_collector_is_valid_and_not_of_the_process() -> None:
    found = re.search(r"nextmv-exporter --once \| (grep .*?) \\\n", RUNNING.read_text())
    assert found
    command = f"{sys.executable} -m nextmv_exporter --demo --once | {found[1]}"
    text = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert 'nextmv_up{account="demo"} 1.0' in text
    # So node_exporter, which reads a histogram, finds no count and no sum in it.
    series = re.findall(r"(?m)^(nextmv_account_queue_wait_seconds\w*)\{", text)
    for name in set(series) - {"nextmv_account_queue_wait_seconds_bucket"}:
        assert f"`{name}`" in RUNNING.read_text()
    assert len(set(series)) == 3
    assert "nextmv_exporter_build_info" in text
    assert not re.search(r"(?m)^(# \w+ )?(process|python)_", text)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert checked.stdout + checked.stderr == ""
