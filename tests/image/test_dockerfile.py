"""The Dockerfile, checked as far as files and processes go: no container engine is needed."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from dockerfile_parse import DockerfileParser
from support.certificates import Authority
from support.exporter import exporter_process
from support.harness import write_yaml
from support.programs import free_port

ROOT = Path(__file__).parents[2]
STAGES = DockerfileParser(fileobj=io.BytesIO((ROOT / "Dockerfile").read_bytes())).structure
LAST_FROM = max(i for i, each in enumerate(STAGES) if each["instruction"] == "FROM")
BUILD, FINAL = STAGES[:LAST_FROM], STAGES[LAST_FROM:]


def test_both_stages_are_of_one_slim_python_by_digest_which_the_project_supports() -> None:
    base, *stages = [each["value"] for each in STAGES if each["instruction"] == "FROM"]
    assert [stage.split()[0] for stage in stages] == ["base", "base"]
    pinned = re.fullmatch(r"python:(3\.\d+)-slim@sha256:[0-9a-f]{64} AS base", base)
    assert pinned
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {pinned[1]}" in project["classifiers"]


def test_dependabot_follows_the_digest() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    assert {"package-ecosystem": "docker", "directory": "/"}.items() <= max(
        updates, key=lambda each: each["package-ecosystem"] == "docker"
    ).items()


def test_dependencies_are_installed_by_hash_from_wheels_alone() -> None:
    installs = [words for words in pip_commands(BUILD) if "--requirement" in words]
    assert [words[-1] for words in installs] == ["requirements-build.txt", "requirements.txt"]
    for words in installs:
        assert {"--require-hashes", "--no-deps"} <= set(words)
        assert words[words.index("--only-binary") + 1] == ":all:"


def test_the_projects_own_wheel_is_built_and_installed_without_a_registry() -> None:
    own = [words for words in pip_commands(BUILD) if "--requirement" not in words]
    assert len(own) == 2
    assert all({"--no-index", "--no-deps"} <= set(words) for words in own)


def test_the_final_stage_has_no_pip_and_takes_only_the_finished_environment() -> None:
    assert any(words[:4] == ["python", "-m", "pip", "uninstall"] for words in commands(FINAL))
    assert not [words for words in pip_commands(FINAL) if "install" in words]
    assert [each["value"] for each in FINAL if each["instruction"] in {"COPY", "ADD"}] == [
        "--from=build /opt/nextmv-exporter /opt/nextmv-exporter"
    ]


def test_bytecode_is_compiled_and_never_written_at_run_time() -> None:
    for stage in (BUILD, FINAL):
        assert any("compileall" in words for words in commands(stage))
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_it_runs_as_a_numeric_user_that_is_not_root() -> None:
    assert instruction("USER") == "65532:65532"


def test_the_exporter_is_the_first_process_so_that_signals_reach_it() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["nextmv-exporter"]


def test_version_and_revision_are_arguments_of_the_build() -> None:
    arguments = {each["value"].partition("=")[0] for each in FINAL if each["instruction"] == "ARG"}
    assert arguments == {"VERSION", "REVISION"}
    labels = instruction("LABEL")
    assert 'org.opencontainers.image.version="${VERSION}"' in labels
    assert 'org.opencontainers.image.revision="${REVISION}"' in labels
    assert environment()["NEXTMV_EXPORTER_REVISION"] == "${REVISION}"


def test_the_build_is_sent_all_that_it_copies_and_little_else() -> None:
    copied = {
        word
        for each in BUILD
        if each["instruction"] == "COPY"
        for word in each["value"].split()[:-1]
    }
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_health_check_asks_where_the_exporter_listens_and_as_it_serves(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server")
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    file = write_yaml(tmp_path / "web.yml", {"tls_server_config": tls})
    with exporter_process("--demo", f"--web.config.file={file}", *addresses(2)) as exporter:
        done = health_check(exporter.pid)
        assert done.returncode == 0
        assert done.stdout.count("status 200") == 2


def test_the_health_check_follows_the_environment() -> None:
    variable = {"NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS": f"127.0.0.1:{free_port()}"}
    with exporter_process("--demo", environment=variable) as exporter:
        assert health_check(exporter.pid, **variable).returncode == 0


def test_the_health_check_fails_with_status_1_where_the_exporter_does_not_respond() -> None:
    with exporter_process("--demo", *addresses(1)) as exporter:
        exporter.process.send_signal(signal.SIGSTOP)
        try:
            assert health_check(exporter.pid).returncode == 1
        finally:
            exporter.process.send_signal(signal.SIGCONT)


def addresses(count: int) -> list[str]:
    return [f"--web.listen-address=127.0.0.1:{free_port()}" for _ in range(count)]


def health_check(pid: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the image's health check for an exporter that is not the first process."""
    options, _, command = instruction("HEALTHCHECK").partition("CMD ")
    assert "--interval" in options
    assert "/proc/1/" in command
    return subprocess.run(
        ["/bin/sh", "-c", command.replace("/proc/1/", f"/proc/{pid}/")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_terminated_exporter_ends_by_itself_and_well() -> None:
    with exporter_process("--demo") as exporter:
        exporter.process.terminate()
        assert exporter.process.wait(timeout=10) == 0


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
    run(sys.executable, "-m", "compileall", "-q", image / "lib")
    told = run(image / "bin" / "nextmv-exporter", "--demo", "--once", cwd=tmp_path)
    assert 'nextmv_up{account="demo"} 1.0' in told


def commands(stage: list[dict[str, str]]) -> list[list[str]]:
    """The words of every command that a stage runs."""
    return [
        shlex.split(command)
        for each in stage
        if each["instruction"] == "RUN"
        for command in each["value"].split("&&")
    ]


def pip_commands(stage: list[dict[str, str]]) -> list[list[str]]:
    """The words of those commands that are pip's."""
    return [words for words in commands(stage) if words[:3] == ["python", "-m", "pip"]]


def instruction(name: str) -> str:
    """What follows the one instruction of a name in the final stage."""
    [value] = [each["value"] for each in FINAL if each["instruction"] == name]
    return str(value)


def environment() -> dict[str, str]:
    """The variables that the image sets."""
    return dict(word.split("=", 1) for word in shlex.split(instruction("ENV")))


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
