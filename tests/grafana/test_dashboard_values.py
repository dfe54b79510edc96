"""What the dashboard's queries return for series that are given, evaluated by promtool."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_file import OVERVIEW, QUERIES, filled_in
from support.programs import run

pytestmark = pytest.mark.system

QUEUE = "nextmv_account_queue_"
GROUP = {"execution_class": "small", "application_id": "routing"}
NUMBERS = [panel["title"] for panel in OVERVIEW if panel["type"] == "stat"]
OLDEST = "Oldest queued run"
BY_CLASS = "Oldest queued run by execution class"
AGAINST = "Oldest queued run against its bound"


class Evaluation:
    """Evaluates queries 30 minutes after the first sample of each series."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "queries.test.yaml"

    def __call__(
        self, given: Mapping[str, str], expected: Mapping[str, Mapping[str, float]], **chosen: str
    ) -> None:
        """Check queries' results.

        Args:
            given: series and their values, in promtool's notation, a sample a minute.
            expected: by the query's panel and letter, values by labels; NaN as None.
            chosen: variables of the dashboard.
        """
        checks: list[dict[str, Any]] = []
        for panel, samples in expected.items():
            query = filled_in(QUERIES.get(panel) or QUERIES[f"{panel} A"], **chosen)
            # Unlike any other value, NaN is not equal to itself.
            readable = {labels: value for labels, value in samples.items() if value == value}
            for expr, results in (
                (f"round(({query}) == ({query}), 0.001)", readable),
                (
                    f"0 * group without () (({query}) != ({query}))",
                    {labels: 0.0 for labels in samples.keys() - readable.keys()},
                ),
            ):
                listed = [{"labels": each, "value": value} for each, value in results.items()]
                checks.append({"expr": expr, "eval_time": "30m", "exp_samples": listed})
        series = [{"series": name, "values": values} for name, values in given.items()]
        test = {"interval": "1m", "input_series": series, "promql_expr_test": checks}
        self._file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
        run("promtool", "test", "rules", self._file)


@pytest.fixture
def check(tmp_path: Path) -> Evaluation:
    return Evaluation(tmp_path)


def labels(**values: str) -> str:
    """Write labels of the account, and others, as Prometheus does."""
    given = {"job": "exporter", "account": "production"} | values
    return "{" + ", ".join(f'{name}="{value}"' for name, value in given.items()) + "}"


def series(metric: str, values: float | str, /, **own: str) -> dict[str, str]:
    """Give a series of an account."""
    name = metric + labels(**{"instance": "a:10057"} | own)
    return {name: values if isinstance(values, str) else f"{values}x30"}


def up(value: int = 1, /, **own: str) -> dict[str, str]:
    return series("nextmv_up", value, **own)


def queued(runs: int, age: float | None = None, /, **own: str) -> dict[str, str]:
    """Give a group's queued runs, and the age of the oldest if it is known."""
    found = series(QUEUE + "length", runs, status_v2="queued", **GROUP | own)
    if age is not None:
        found |= series(QUEUE + "oldest_queued_run_age_seconds", age, **GROUP | own)
    return found


def running(runs: int, age: float, /, **own: str) -> dict[str, str]:
    found = series(QUEUE + "length", runs, status_v2="running", **GROUP | own)
    return found | series(QUEUE + "oldest_running_run_age_seconds", age, **GROUP | own)


def started(values: str, /, **own: str) -> dict[str, str]:
    return series(QUEUE + "runs_started_total", values, **GROUP | own)


def totals(runs: int, /, **own: str) -> dict[str, str]:
    found = series(QUEUE + "runs", runs, status_v2="queued", **own)
    return found | series(QUEUE + "runs", 0, status_v2="running", **own)
