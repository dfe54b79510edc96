"""The README's tables of metrics and flags against the code."""

import re
from pathlib import Path

import click
import pytest

from nextmv_exporter.scrape.metrics import METRICS, Metric
from nextmv_exporter.settings import ENVIRONMENT_PREFIX, OPTIONS

README = Path(__file__).parents[1] / "README.md"
NOT_OPTIONS = {"--version", "-h", ""}
"""Rows of flags that click makes, and of the key, which has a variable only."""


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, cell by cell."""
    section = README.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
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


def test_the_metrics_are_those_of_the_code() -> None:
    rows = sorted(ticked(row[0])[0] for row in table("Metrics"))
    assert rows == sorted(metric.name for metric in METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metrics_type_and_labels_are_those_of_the_code(metric: Metric) -> None:
    _, kind, labels, meaning = METRIC_ROWS[metric.name]
    assert kind == metric.kind.replace("_", " ")
    assert tuple(ticked(labels)) == metric.labels
    assert meaning


def test_the_flags_are_those_of_the_code() -> None:
    assert [flag for flag in FLAG_ROWS if flag not in NOT_OPTIONS] == list(map(flag_of, OPTIONS))


@pytest.mark.parametrize("option", OPTIONS, ids=flag_of)
def test_a_flags_default_and_variables_are_those_of_the_code(option: click.Option) -> None:
    name, variables, default, meaning = FLAG_ROWS[flag_of(option)]
    assert default.replace("`", "") == default_of(option)
    assert ("(repeatable)" in name) == option.multiple
    envvar = option.envvar if isinstance(option.envvar, list) else []
    assert ticked(variables) == [v for v in envvar if not v.startswith(ENVIRONMENT_PREFIX)]
    assert meaning


@pytest.mark.parametrize("option", OPTIONS, ids=flag_of)
def test_a_choice_is_named_in_full(option: click.Option) -> None:
    if isinstance(option.type, click.Choice):
        assert set(option.type.choices) <= set(ticked(FLAG_ROWS[flag_of(option)][3]))
