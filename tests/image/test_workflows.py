"""The GitHub workflows: pinned, with few rights, and calling commands that exist."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PATHS = sorted(GITHUB.glob("workflows/*"))
WORKFLOWS: dict[str, Any] = {path.name: yaml.safe_load(path.read_text()) for path in PATHS}
CI, RELEASE = WORKFLOWS["ci.yml"]["jobs"], WORKFLOWS["release.yml"]["jobs"]
JOBS = [(file, name, job) for file, w in WORKFLOWS.items() for name, job in w["jobs"].items()]
SCRIPTS = [step["run"] for _, _, job in JOBS for step in job.get("steps", []) if "run" in step]
# What a job may write.
WRITERS = {
    ("release.yml", "pypi"): {"id-token"},
    ("release.yml", "image"): {"packages", "id-token", "attestations"},
    ("release.yml", "chart"): {"packages", "id-token", "attestations"},
}


@pytest.mark.system
def test_zizmor_finds_no_weakness() -> None:
    """Unpinned actions, tokens left behind, expressions in scripts and more."""
    zizmor = Path(sys.executable).with_name("zizmor")
    audit = subprocess.run(
        [zizmor, "--offline", "--no-progress", GITHUB], capture_output=True, text=True, check=False
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_actions_are_pinned_by_commit_with_their_version_as_a_comment() -> None:
    lines = re.findall(r"(?m)^.*\buses: (?!\./)(.*)$", "\n".join(map(Path.read_text, PATHS)))
    assert len(lines) > 20
    for line in lines:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_every_target_and_every_file_that_a_script_names_exists() -> None:
    text = "\n".join(SCRIPTS)
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    called = set(re.findall(r"\bmake ([a-z-]+)\b", text))
    assert {"lint", "generated", "test", "test-lowest"} <= called <= targets
    named = set(re.findall(r"(?<![\w/.$-])((?:tests|helm)/[\w/.-]+|[\w-]+\.txt)", text))
    assert len(named) > 3
    assert [each for each in named if not (ROOT / each).exists()] == []


def test_jobs_read_until_they_ask_for_more_and_end_in_time() -> None:
    for file, name, job in JOBS:
        writes = {right for right, how in job.get("permissions", {}).items() if how == "write"}
        assert writes == WRITERS.get((file, name), set())
        assert "uses" in job or job["timeout-minutes"] <= 30
    assert all(each["permissions"] == {"contents": "read"} for each in WORKFLOWS.values())


def test_nothing_is_published_before_what_it_needs() -> None:
    assert RELEASE["distribution"]["needs"] == "ci"
    # What is on PyPI can't be replaced, and the chart names the image.
    assert "image" in RELEASE["pypi"]["needs"]
    assert {"image", "chart-package"} <= set(RELEASE["chart"]["needs"])
    # Whoever can push the chart runs no code of the repository.
    assert not [s for s in RELEASE["chart"]["steps"] if "actions/checkout" in s.get("uses", "")]
    built = str(RELEASE["distribution"]["steps"])
    assert 'REPOSITORY_URL="$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" python -m hatchling' in built


@pytest.mark.parametrize("name", ["image", "chart"])
def test_what_is_pushed_is_signed_and_attested_by_digest(name: str) -> None:
    steps = RELEASE[name]["steps"]
    [signing] = [step for step in steps if "cosign sign" in step.get("run", "")]
    [attesting] = [s["with"] for s in steps if "actions/attest-build" in s.get("uses", "")]
    subject = f"{attesting['subject-name']}@{attesting['subject-digest']}"
    assert signing["env"]["SUBJECT"] == subject
    assert attesting["push-to-registry"] is True


def test_tests_run_on_every_python_that_the_project_claims() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert CI["test"]["strategy"]["matrix"]["python"] == claimed
    assert CI["lowest"]["container"] == f"python:{claimed[0]}"


def test_contributing_names_every_job() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert [name for _, name, _ in JOBS if f"`{name}`" not in text] == []
