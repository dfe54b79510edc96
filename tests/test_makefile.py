"""The Makefile on machines that lack something."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]


def make(venv: Path, python: str | Path) -> subprocess.CompletedProcess[str]:
    """Let make create a virtual environment."""
    return subprocess.run(
        ["make", "--no-print-directory", venv / "created", f"VENV={venv}", f"PYTHON={python}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_without_venv_names_the_missing_package_and_breaks_nothing(tmp_path: Path) -> None:
    """As Debian's does, the first Python leaves an environment behind that has no pip."""
    venv = tmp_path / "venv"
    half = f'case "$*" in *venv*) {sys.executable} -m venv --without-pip {venv}; exit 1;; esac'
    failed = make(venv, script(tmp_path / "python", half))
    assert failed.returncode != 0
    assert "python3-venv" in failed.stderr

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    later = make(venv, sys.executable)
    assert later.returncode == 0, later.stderr
    subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=True)


def test_a_python_that_is_too_old_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    pretend = "import sys; sys.version_info = (3, 10); exec(sys.argv[1])"
    old = script(tmp_path / "python", f"exec {sys.executable} -c '{pretend}' \"$2\"")
    failed = make(tmp_path / "venv", old)
    assert failed.returncode != 0
    assert "3.11" in failed.stderr
    assert not (tmp_path / "venv").exists()
