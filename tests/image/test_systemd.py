"""The systemd unit: by systemd's own tools, and what it starts."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.fake_api import KEY, RUN, FakeAPI

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "nextmv-exporter.service"
INSTALLED = "/opt/nextmv-exporter/bin"
HERE = str(Path(sys.executable).parent)
DROP_INS = re.findall(r"```ini\n(.*?)```", (ROOT / "docs" / "running.md").read_text(), re.DOTALL)


def systemd_analyze(*arguments: str | Path) -> str:
    """What systemd says against a unit; empty if it is content."""
    command = ["systemd-analyze", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 and not done.stderr else done.stdout + done.stderr


@pytest.mark.system
def test_systemd_accepts_the_unit_and_each_drop_in_of_the_documentation(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(INSTALLED, HERE))
    drop_ins = ["", *DROP_INS]
    assert len(drop_ins) >= 3
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    for drop_in in drop_ins:
        (folder / "override.conf").write_text(drop_in.replace(INSTALLED, HERE))
        assert systemd_analyze("verify", "--recursive-errors=no", unit) == "", drop_in
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=mostly"))
    assert "protect system value" in systemd_analyze("verify", "--recursive-errors=no", unit)


@pytest.mark.system
def test_systemd_finds_the_unit_well_protected(tmp_path: Path) -> None:
    # systemd calls an exposure of up to 2 "OK", and a service without any protection 9.6 "UNSAFE".
    judge = ("security", "--offline=yes", "--no-pager", "--threshold=15")
    assert systemd_analyze(*judge, UNIT) == ""
    bare = tmp_path / "bare.service"
    bare.write_text(f"[Service]\nExecStart={sys.executable}\n")
    assert systemd_analyze(*judge, bare) != ""


def test_its_command_reads_the_queue_with_the_key_of_the_credential(
    api: FakeAPI, tmp_path: Path
) -> None:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    api.serves(RUN)
    [command] = re.findall(r"(?m)^ExecStart=(.*)$", UNIT.read_text())
    program, *flags = shlex.split(command.replace("${CREDENTIALS_DIRECTORY}", str(tmp_path)))
    assert program == f"{INSTALLED}/nextmv-exporter"
    with exporter_process(*flags, environment={"NEXTMV_ENDPOINT": api.url}) as exporter:
        assert exporter.up() == {"default": 1}
        exporter.hang_up()  # as ExecReload does
        assert exporter.up() == {"default": 1}
    assert {each.headers["Authorization"] for each in api.requests} == {f"Bearer {KEY}"}


def test_memory_is_allocated_as_in_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    image = dict(re.findall(r'(MALLOC_\w+)="(\d+)"', dockerfile))
    assert image.keys() == {"MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"}
    assert dict(re.findall(r"(MALLOC_\w+)=(\d+)", UNIT.read_text())) == image
