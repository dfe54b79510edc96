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
CI, RELEASE = GITHUB / "workflows" / "ci.yml", GITHUB / "workflows" / "release.yml"
WORKFLOWS = [CI, RELEASE]
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
# What a job may write, and what for.
WRITERS = {
    ("release.yml", "pypi"): {"id-token"},
    ("release.yml", "image"): {"packages", "id-token", "attestations"},
    ("release.yml", "chart"): {"packages", "id-token", "attestations"},
}

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def test_there_are_no_other_workflows() -> None:
    assert sorted(GITHUB.glob("workflows/*")) == sorted(WORKFLOWS)


def test_zizmor_finds_no_weakness() -> None:
    """Unpinned actions, tokens left behind, expressions in scripts and more."""
    zizmor = Path(sys.executable).with_name("zizmor")
    audit = subprocess.run(
        [zizmor, "--offline", "--no-progress", GITHUB], capture_output=True, text=True, check=False
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_actions_are_pinned_by_commit_with_their_version_as_a_comment() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        lines = re.findall(r"(?m)^.*\buses: (?!\./)(.*)$", path.read_text())
        assert lines
        for line in lines:
            pin = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
            assert pin, line
            pins.setdefault(pin[1], set()).add(pin[2])
    assert {action: len(versions) for action, versions in pins.items()} == dict.fromkeys(pins, 1)


def test_every_make_target_exists() -> None:
    scripts = [run for path in WORKFLOWS for run in runs(path)]
    called = {target for run in scripts for target in re.findall(r"\bmake ([a-z-]+)\b", run)}
    assert {"lint", "generated", "test", "test-lowest"} <= called
    assert called <= TARGETS


@each_workflow
def test_every_file_that_a_script_names_exists(path: Path) -> None:
    named = {
        word
        for run in runs(path)
        for word in re.findall(r"(?<![\w/.$-])((?:tests|helm)/[\w/.-]+|[\w-]+\.txt)", run)
    }
    assert named
    assert [each for each in named if not (ROOT / each).exists()] == []


@each_workflow
def test_permissions_are_to_read_until_a_job_asks_for_more(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        writes = {right for right, how in job.get("permissions", {}).items() if how == "write"}
        assert writes == WRITERS.get((path.name, name), set())


def test_the_chart_is_packaged_without_write_access_and_pushed_as_an_artefact() -> None:
    jobs = load(RELEASE)["jobs"]
    [packager] = [name for name, job in jobs.items() if "helm package" in scripts(job)]
    [pusher] = [name for name, job in jobs.items() if "helm push" in scripts(job)]
    assert "permissions" not in jobs[packager]
    assert packager in jobs[pusher]["needs"]
    assert "image" in jobs[pusher]["needs"]
    assert actions(jobs[packager])[-1] == "actions/upload-artifact"
    assert "actions/download-artifact" in actions(jobs[pusher])
    # Whoever can push runs no code of the repository.
    assert "actions/checkout" not in actions(jobs[pusher])


@pytest.mark.parametrize("name", ["image", "chart"])
def test_what_is_pushed_is_signed_and_attested_by_digest(name: str) -> None:
    job = load(RELEASE)["jobs"][name]
    assert "sigstore/cosign-installer" in actions(job)
    [signing] = [step for step in job["steps"] if "cosign sign" in step.get("run", "")]
    [attesting] = [
        step for step in job["steps"] if step.get("uses", "").startswith("actions/attest-build-")
    ]
    subject = attesting["with"]
    assert signing["run"] == 'cosign sign --yes "$SUBJECT"'
    assert signing["env"]["SUBJECT"] == f"{subject['subject-name']}@{subject['subject-digest']}"
    assert subject["push-to-registry"] is True


@each_workflow
def test_every_job_that_runs_steps_ends_in_time(path: Path) -> None:
    for job in load(path)["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 30


@each_workflow
def test_contributing_names_every_job(path: Path) -> None:
    for job in load(path)["jobs"]:
        assert f"| `{job}` |" in CONTRIBUTING


def test_tests_run_on_every_python_that_the_project_supports_and_with_the_lowest_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [
        each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)
    ]
    jobs = load(CI)["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == claimed
    assert jobs["lowest"]["container"] == f"python:{claimed[0]}"
    assert "make test-lowest" in scripts(jobs["lowest"])


def test_promtool_comes_from_the_official_image_of_prometheus_3() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert re.match(
        r"(quay\.io/|docker\.io/)?prom(etheus)?/prometheus:v3\.",
        compose["services"]["prometheus"]["image"],
    )
    assert ".services.prometheus.image" in scripts(load(CI)["jobs"]["promtool"])


def test_images_are_for_both_architectures_with_their_bill_of_materials_and_provenance() -> None:
    builds = [
        step["with"]
        for path in WORKFLOWS
        for step in steps(path)
        if step.get("uses", "").startswith("docker/build-push-action@")
        and "platforms" in step["with"]
    ]
    assert len(builds) == 2
    for build in builds:
        assert build["platforms"] == "linux/amd64,linux/arm64"
        assert build["sbom"] is True
        assert build["provenance"] == "mode=max"


def test_dependabot_watches_every_kind_of_dependency() -> None:
    config = yaml.safe_load((GITHUB / "dependabot.yml").read_text())
    assert {each["package-ecosystem"] for each in config["updates"]} == {
        "docker",
        "docker-compose",
        "github-actions",
        "pip",
    }


def load(path: Path) -> Any:
    """A workflow; YAML reads its `on` as true, which nothing here asks for."""
    return yaml.safe_load(path.read_text())


def steps(path: Path) -> list[dict[str, Any]]:
    """The steps of all jobs."""
    return [step for job in load(path)["jobs"].values() for step in job.get("steps", [])]


def runs(path: Path) -> list[str]:
    """The scripts of all steps."""
    return [step["run"] for step in steps(path) if "run" in step]


def scripts(job: dict[str, Any]) -> str:
    """The scripts of a job, one after the other."""
    return "\n".join(step.get("run", "") for step in job.get("steps", []))


def actions(job: dict[str, Any]) -> list[str]:
    """The actions that a job uses, without their versions."""
    return [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
