"""The README's and the runbooks' tables of metrics, flags and failure reasons against the code."""

import re
from pathlib import Path

import click
import pytest

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.metrics import METRICS, Metric
from nextmv_exporter.settings import ENVIRONMENT_PREFIX, OPTIONS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
OWN_RUNBOOKS = {
    Reason.AUTH: "NextmvAccountAuthFailed",
    Reason.RATE_LIMITED: "NextmvApiRateLimited",
}
"""Reasons with an alert of their own; NextmvAccountUnreadable is for the others."""

NOT_OPTIONS = {"--version", "-h", ""}
"""Rows of flags that click makes, and of the key, which has a variable only."""


def table(heading: str, file: Path = README) -> list[list[str]]:
    """The rows of the tables under a heading, cell by cell."""
    section = file.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def ticked(cell: str) -> list[str]:
    """What a cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


METRIC_ROWS = {ticked(row[0])[0]: row for row in table("Metrics")}
FLAG_ROWS = {(ticked(row[0]) or [""])[0]: row for row in table("Flags")}


def flag_of(option: click.Option) -> str:
    return option.opts[0]


def default_of(option: click.Option) -> str:
    if option.is_flag:
        return "off"
    if isinstance(option.default, list):
        return ", ".join(option.default)
    if isinstance(option.default, str):
        return option.default
    told = re.search(r"\[default: (.+)\]", option.help or "")
    return told[1] if told else ""


def words(text: str) -> str:
    """A help text or a cell of the README without what only one of them has."""
    text = re.sub(r"; repeatable| ?\[default: .*\]|`", "", text).removesuffix(".")
    return text[:1].lower() + text[1:]


def test_the_metrics_are_those_of_the_code() -> None:
    assert METRIC_ROWS.keys() <= {metric.name for metric in METRICS}
    assert len(table("Metrics")) == len(METRIC_ROWS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metrics_type_labels_and_help_are_those_of_the_code(metric: Metric) -> None:
    assert metric.name in METRIC_ROWS, f"README.md, Metrics: add a row for {metric.name}"
    _, kind, labels, meaning = METRIC_ROWS[metric.name]
    assert kind == metric.kind.replace("_", " ")
    assert tuple(ticked(labels)) == metric.labels
    assert words(meaning).startswith(words(metric.help))


def test_the_flags_are_those_of_the_code_in_its_order() -> None:
    for flag in map(flag_of, OPTIONS):
        assert flag in FLAG_ROWS, f"README.md, Flags: add a row for {flag}"
    assert [flag for flag in FLAG_ROWS if flag not in NOT_OPTIONS] == list(map(flag_of, OPTIONS))


@pytest.mark.parametrize("option", OPTIONS, ids=flag_of)
def test_a_flags_default_variables_and_help_are_those_of_the_code(option: click.Option) -> None:
    name, variables, default, meaning = FLAG_ROWS[flag_of(option)]
    assert default.replace("`", "") == default_of(option)
    assert ("(repeatable)" in name) == option.multiple
    envvar = option.envvar if isinstance(option.envvar, list) else []
    assert ticked(variables) == [v for v in envvar if not v.startswith(ENVIRONMENT_PREFIX)]
    assert words(meaning).startswith(words(option.help or ""))
    assert option.help


@pytest.mark.parametrize("option", OPTIONS, ids=flag_of)
def test_a_choice_is_named_in_full(option: click.Option) -> None:
    if isinstance(option.type, click.Choice):
        assert set(option.type.choices) <= set(ticked(FLAG_ROWS[flag_of(option)][3]))


def reasons(heading: str, file: Path, column: int) -> set[str]:
    """The failure reasons in a column of a table."""
    cells = [ticked(row[column]) for row in table(heading, file)]
    found = [re.fullmatch(r'(?:reason=)?"?([a-z_]+)"?', cell[0]) for cell in cells if cell]
    return {each[1] for each in found if each} - {"up"}


def test_the_failure_reasons_of_the_readme_are_those_of_the_code() -> None:
    listed = reasons("When things go wrong", README, 1)
    for reason in Reason:
        assert reason in listed, f"README.md, When things go wrong: add a row for {reason}"
    assert listed == set(Reason)


def test_the_failure_reasons_of_the_runbooks_are_those_of_the_code() -> None:
    listed = reasons("NextmvAccountUnreadable", RUNBOOKS, 0)
    for reason in set(Reason) - OWN_RUNBOOKS.keys():
        assert reason in listed, (
            f"docs/runbooks.md, NextmvAccountUnreadable: add a row for {reason}"
        )
    assert listed <= set(Reason)
    for alert in OWN_RUNBOOKS.values():
        assert f"\n## {alert}\n" in RUNBOOKS.read_text()
