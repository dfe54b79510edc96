"""The recipes of CONTRIBUTING.md: where a step is forgotten, the message names the next file."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape import metrics
from nextmv_exporter.scrape.metrics import METRICS, Metric
from nextmv_exporter.settings import Settings
from nextmv_exporter.web.landing import ADVICE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
PACKAGE = ROOT / "exporter" / "nextmv_exporter"
DECLARED = {name: value for name, value in vars(metrics).items() if isinstance(value, Metric)}


def text_of(*files: Path) -> str:
    return "\n".join(file.read_text() for file in files)


# A new metric


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_metric_is_exported(name: str) -> None:
    assert DECLARED[name] in METRICS, f"scrape/metrics.py: add {name} to OF_ACCOUNTS"


@pytest.mark.parametrize("name", DECLARED)
def test_a_metric_has_a_test_of_its_value(name: str) -> None:
    tests = text_of(*(ROOT / "tests" / "scrape").glob("test_*.py"), ROOT / "tests" / "test_cli.py")
    tested = f"metrics.{name}" in tests or f'"{DECLARED[name].name}' in tests
    assert tested, f"tests/scrape/test_metrics.py: add a test of metrics.{name}"


# A new flag


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_a_setting_has_the_name_of_its_flag(field: dataclasses.Field[object]) -> None:
    flag = field.metadata["option"].opts[0]
    name = flag.removeprefix("--").replace(".", "_").replace("-", "_")
    assert field.name == name, f"settings.py: the field of {flag} must be called {name}"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Settings)])
def test_a_setting_is_used(field: str) -> None:
    used = re.search(rf"settings\.{field}\b", text_of(*PACKAGE.rglob("*.py")))
    assert used, f"nothing reads settings.{field}: use it, for example in program.py or accounts.py"


# A new failure reason


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_raised(reason: Reason) -> None:
    raised = f"Reason.{reason.name}" in text_of(*(PACKAGE / "nextmv").glob("*.py"))
    assert raised, f"nextmv/errors.py or nextmv/failures.py: raise an error with it: {reason.name}"


@pytest.mark.parametrize("reason", Reason)
def test_the_status_page_says_what_to_do_about_a_reason(reason: Reason) -> None:
    assert ADVICE.get(reason), f"web/landing.py: add advice for Reason.{reason.name} to ADVICE"


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_has_a_test_that_causes_it(reason: Reason) -> None:
    folders = ("api", "end_to_end", "faults")
    tests = text_of(*(file for each in folders for file in (ROOT / "tests" / each).glob("*.py")))
    caused = f"Reason.{reason.name}" in tests or f'"{reason}"' in tests
    assert caused, f"tests/end_to_end/test_failures.py: add a case of {reason}"


# The page itself


def test_every_file_that_the_page_names_exists() -> None:
    named = re.findall(r"`([a-z_/]+(?:\.py|\.md|\.toml|/run|/))`", PAGE.read_text())
    assert len(named) > 20
    for name in named:
        places = (ROOT / name, PACKAGE / name, ROOT / "tests" / name)
        assert any(place.exists() for place in places), name


def test_every_command_that_the_page_names_is_a_target() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    lines = re.findall(r"(?m)^make ([a-z -]+?)(?:  |$)", PAGE.read_text())
    assert lines
    assert {name for line in lines for name in line.split()} <= targets


def test_every_job_of_the_ci_workflow_is_named() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    for job in set(workflow["jobs"]) - {"lint"}:
        assert f"`{job}`" in PAGE.read_text(), f"CONTRIBUTING.md, Set-up: name the job {job}"
