"""The GitHub workflows: readable, modest in what they may do, and calling commands that exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@each_workflow
def test_every_make_target_exists(path: Path) -> None:
    called = {target for run in runs(path) for target in re.findall(r"\bmake ([a-z-]+)", run)}
    assert called <= TARGETS


@each_workflow
def test_permissions_are_to_read_until_a_job_asks_for_more(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        wider = {name for name, right in job.get("permissions", {}).items() if right == "write"}
        assert wider <= {"packages", "id-token"}


@each_workflow
def test_actions_are_pinned_to_a_version(path: Path) -> None:
    for step in steps(path):
        if action := step.get("uses"):
            assert re.search(r"@(v\d+|release/v\d+|[0-9a-f]{40})$", action), action


@each_workflow
def test_checkouts_leave_no_token_behind(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_no_expression_is_pasted_into_a_shell(path: Path) -> None:
    assert [run for run in runs(path) if "${{" in run] == []


@each_workflow
def test_every_job_that_runs_steps_ends_in_time(path: Path) -> None:
    for job in load(path)["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 30


def test_tests_run_on_every_python_that_the_project_claims() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [
        each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)
    ]
    matrix = load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == claimed


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
    config = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())
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
