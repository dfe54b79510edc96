"""The Makefile on machines that lack something."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make in the project's folder."""
    return subprocess.run(
        ["make", "--no-print-directory", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_without_venv_names_the_missing_package_and_breaks_nothing(tmp_path: Path) -> None:
    """As Debian's does, the first Python leaves an environment behind that has no pip."""
    venv = tmp_path / "venv"
    half = f'case "$*" in *venv*) {sys.executable} -m venv --without-pip {venv}; exit 1;; esac'
    without_venv = script(tmp_path / "python", half)

    failed = make(venv / "created", f"VENV={venv}", f"PYTHON={without_venv}")
    assert failed.returncode != 0
    assert "apt-get install python3-venv" in failed.stderr

    later = make(venv / "created", f"VENV={venv}", f"PYTHON={sys.executable}")
    assert later.returncode == 0, later.stderr
    subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=True)


def test_an_environment_that_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)

    made = make(venv / "created", f"VENV={venv}", f"PYTHON={sys.executable}")
    assert made.returncode == 0, made.stderr
    subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=True)


def test_a_whole_environment_is_kept(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    script(venv / "bin" / "python", "exit 0")
    never = script(tmp_path / "python", 'case "$*" in *venv*) echo no >&2; exit 1;; esac')

    assert make(venv / "created", f"VENV={venv}", f"PYTHON={never}").returncode == 0


def test_a_python_that_is_too_old_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    pretend = "import sys; sys.version_info = (3, 10); exec(sys.argv[1])"
    old = script(tmp_path / "python", f"exec {sys.executable} -c '{pretend}' \"$2\"")
    failed = make(tmp_path / "venv" / "created", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")

    assert failed.returncode != 0
    assert "Python 3.11 or newer is needed" in failed.stderr
    assert not (tmp_path / "venv").exists()


def test_tests_name_missing_programs_before_they_install_anything(tmp_path: Path) -> None:
    """As another user than root, who can't install them."""
    only = tmp_path / "bin"
    for command in ("sh", "make", "grep", "awk", "nproc", "expr", "python3"):
        found = subprocess.run(["which", command], capture_output=True, text=True, check=True)
        only.mkdir(exist_ok=True)
        (only / command).symlink_to(found.stdout.strip())
    script(only / "id", "echo 1000")
    venv = tmp_path / "venv"

    failed = make("test", f"VENV={venv}", PATH=str(only))

    assert failed.returncode != 0
    assert "prometheus" in failed.stderr
    assert "sudo apt-get install prometheus" in failed.stderr
    assert not venv.exists()


def test_help_lists_every_target_that_is_for_people() -> None:
    listed = {line.split()[0] for line in make("help").stdout.splitlines()}
    declared = {
        line.removeprefix(".PHONY: ")
        for line in (ROOT / "Makefile").read_text().splitlines()
        if line.startswith(".PHONY: ")
    }
    assert listed == declared - {"tools"}
