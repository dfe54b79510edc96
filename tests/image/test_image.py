"""The Dockerfile, checked as far as files and processes go: no container engine is needed."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from support.exporter import exporter_process

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = DockerfileParser(fileobj=io.BytesIO((ROOT / "Dockerfile").read_bytes())).structure
LAST_FROM = max(i for i, each in enumerate(STAGES) if each["instruction"] == "FROM")
BUILD, FINAL = STAGES[:LAST_FROM], STAGES[LAST_FROM:]


def commands(stage: list[dict[str, str]]) -> list[list[str]]:
    """The words of every command that a stage runs."""
    return [
        shlex.split(command)
        for each in stage
        if each["instruction"] == "RUN"
        for command in each["value"].split("&&")
    ]


def instruction(name: str) -> str:
    """What follows the one instruction of a name in the final stage."""
    [value] = [each["value"] for each in FINAL if each["instruction"] == name]
    return str(value)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_stages_are_of_one_slim_python_by_digest_which_the_project_supports() -> None:
    base, *stages = [each["value"] for each in STAGES if each["instruction"] == "FROM"]
    pinned = re.fullmatch(r"python:(3\.\d+)-slim@sha256:[0-9a-f]{64} AS base", base)
    assert pinned
    assert [stage.split()[0] for stage in stages] == ["base", "base"]
    assert f"Programming Language :: Python :: {pinned[1]}" in PROJECT["classifiers"]


def test_the_build_installs_by_hash_from_wheels_and_the_image_has_no_pip() -> None:
    pip = [words for words in commands(BUILD) if words[:3] == ["python", "-m", "pip"]]
    pinned = [words for words in pip if "--requirement" in words]
    assert [words[-1] for words in pinned] == ["requirements-build.txt", "requirements.txt"]
    for words in pinned:
        assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(words)
    own = [words for words in pip if "--requirement" not in words]
    assert len(own) == 2
    assert all({"--no-index", "--no-deps"} <= set(words) for words in own)
    assert any(words[:4] == ["python", "-m", "pip", "uninstall"] for words in commands(FINAL))


def test_the_exporter_is_the_first_process_and_not_root() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["nextmv-exporter"]
    assert instruction("USER") == "65532:65532"
    assert 'org.opencontainers.image.version="${VERSION}"' in instruction("LABEL")
    assert 'NEXTMV_EXPORTER_REVISION="${REVISION}"' in instruction("ENV")


def test_the_build_is_sent_all_that_it_copies_and_little_else() -> None:
    copied = {
        word
        for each in BUILD
        if each["instruction"] == "COPY"
        for word in each["value"].split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_health_check_follows_the_state_of_the_exporter() -> None:
    command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"

    def healthy(port: int) -> bool:
        here = [word.replace(":10057/", f":{port}/") for word in command]
        # A proxy that does not exist: the check must not use one.
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, *here[1:]], env=environment, capture_output=True, check=False
        )
        return done.returncode == 0

    with exporter_process("--demo") as exporter:
        assert healthy(exporter.port)
    assert not healthy(exporter.port)


@pytest.mark.system
def test_the_pinned_wheels_install_by_hash_and_run(tmp_path: Path) -> None:
    """What the build stage does, in an environment of this machine's own."""
    tools, image = tmp_path / "tools", tmp_path / "image"
    for environment_path in (tools, image):
        run(sys.executable, "-m", "venv", "--without-pip", environment_path)
    install = [
        sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python",
    ]  # fmt: skip
    pinned = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "-r"]
    own = ["--no-index", "--no-deps", "--no-build-isolation"]
    run(*install, tools, "install", *pinned, ROOT / "requirements-build.txt")
    run(*install, image, "install", *pinned, ROOT / "requirements.txt")
    run(*install, tools, "wheel", *own, "--wheel-dir", tmp_path / "wheels", ROOT)
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    run(*install, image, "install", "--no-index", "--no-deps", "--no-compile", wheel)
    told = run(image / "bin" / "nextmv-exporter", "--demo", "--once", cwd=tmp_path)
    assert 'nextmv_up{account="demo"} 1.0' in told
