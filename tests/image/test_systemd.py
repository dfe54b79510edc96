"""The systemd unit: by systemd's own tools, and what it starts."""

import ctypes
import re
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.fake_api import KEY, RUN, FakeAPI
from support.malloc import IMAGE_MALLOC

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "nextmv-exporter.service"
INSTALLED = "/opt/nextmv-exporter/bin"
HIGHEST_EXPOSURE = 1.5
"""systemd calls up to 2 "OK", and a service without any protection 9.6 "UNSAFE"."""

DROP_INS = re.findall(r"```ini\n(.*?)```", (ROOT / "docs" / "running.md").read_text(), re.DOTALL)


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the program where it is here."""
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace(INSTALLED, str(Path(sys.executable).parent)))
    return here


def test_systemd_has_nothing_to_say_against_it(unit: Path) -> None:
    verified = systemd_analyze("verify", "--recursive-errors=no", unit)
    assert verified.stdout + verified.stderr == ""
    assert verified.returncode == 0


def test_systemd_would_complain_of_a_fault(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=mostly"))
    verified = systemd_analyze("verify", "--recursive-errors=no", unit)
    assert "Failed to parse protect system value" in verified.stderr


@pytest.mark.parametrize("drop_in", DROP_INS, ids=range(len(DROP_INS)))
def test_what_the_documentation_adds_is_valid_too(unit: Path, drop_in: str) -> None:
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    here = drop_in.replace(INSTALLED, str(Path(sys.executable).parent))
    (folder / "override.conf").write_text(here)
    verified = systemd_analyze("verify", "--recursive-errors=no", unit)
    assert verified.stdout + verified.stderr == ""
    assert verified.returncode == 0


def test_memory_is_allocated_as_in_the_image() -> None:
    [settings] = re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert dict(each.split("=") for each in settings.split()) == IMAGE_MALLOC
    assert IMAGE_MALLOC.keys() == {"MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"}


def test_systemd_finds_it_well_protected(unit: Path) -> None:
    threshold = f"--threshold={HIGHEST_EXPOSURE * 10:.0f}"
    judged = systemd_analyze("security", "--offline=yes", "--no-pager", threshold, unit)
    assert judged.returncode == 0, judged.stdout


def test_a_unit_without_protection_would_not_pass(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text(f"[Service]\nExecStart={sys.executable}\n")
    judged = systemd_analyze("security", "--offline=yes", "--no-pager", "--threshold=15", bare)
    assert judged.returncode != 0


def settings() -> dict[str, str]:
    """The last value of each of the service's settings."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_it_keeps_the_key_from_everyone_and_starts_again_after_a_crash() -> None:
    found = settings()
    assert found["DynamicUser"] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found["LoadCredential"].startswith("api-key:")
    assert found["Restart"] == "on-failure"
    assert found["RestartPreventExitStatus"] == "2"


def test_its_command_reads_the_queue_with_the_key_of_the_credential(
    api: FakeAPI, tmp_path: Path
) -> None:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    api.serves(RUN)
    command = settings()["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", str(tmp_path))
    program, *flags = shlex.split(command)
    assert program == f"{INSTALLED}/nextmv-exporter"
    with exporter_process(*flags, environment={"NEXTMV_ENDPOINT": api.url}) as exporter:
        assert exporter.up() == {"default": 1}
        exporter.hang_up()  # as ExecReload does
        assert exporter.up() == {"default": 1}
    assert {each.headers["Authorization"] for each in api.requests} == {f"Bearer {KEY}"}


DENY_WRITE_EXECUTE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)"
"""What `MemoryDenyWriteExecute=` does, on Linux 6.3 or newer."""


@pytest.mark.skipif(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0, reason="Linux is too old")
def test_the_program_needs_no_memory_that_is_writable_and_executable() -> None:
    code = f"{DENY_WRITE_EXECUTE}; os.execv(sys.argv[1], sys.argv[1:])"
    with exporter_process(
        "--demo", python=(sys.executable, "-c", code, sys.executable)
    ) as exporter:
        assert exporter.up() == {"demo": 1}
