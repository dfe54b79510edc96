"""`docs/metrics.md` against the code, the recording rules, and Prometheus's own parser."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.promql import queries_of

from nextmv_exporter.scrape.metrics import METRICS, Metric

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "metrics.md"
RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
TEXT = DOCUMENT.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"\n### `(\w+)`\n(.*?)(?=\n##)", TEXT, re.DOTALL))
QUERIES = queries_of(DOCUMENT)


def recorded() -> set[str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def test_each_metric_has_a_section_of_its_own() -> None:
    assert sorted(SECTIONS) == sorted(metric.name for metric in METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metrics_type_and_labels_are_those_of_the_code(metric: Metric) -> None:
    first = SECTIONS[metric.name].strip().splitlines()[0]
    assert first.lower().startswith(metric.kind.replace("_", " ") + " by ")
    assert tuple(re.findall(r"`(\w+)`", first)) == metric.labels


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_each_metric_is_used_in_a_query(metric: Metric) -> None:
    assert any(series in query for series in metric.series for query in queries_in(metric.name))


def queries_in(name: str) -> list[str]:
    return [query for query in QUERIES if query in SECTIONS[name]]


@pytest.mark.parametrize("query", QUERIES)
def test_what_a_query_asks_for_exists(query: str) -> None:
    series = {name for metric in METRICS for name in metric.series}
    asked = set(re.findall(r"(?:\w+:)?nextmv_\w+(?::\w+)?", query))
    assert asked
    assert asked <= series | recorded()


def test_the_recording_rules_exist() -> None:
    named = re.findall(r"`(\w+:nextmv_\w+:\w+)`", TEXT)
    assert named
    assert set(named) <= recorded()


def test_prometheus_takes_the_queries_as_they_are(tmp_path: Path) -> None:
    rules = [{"record": f"query_{n}", "expr": query} for n, query in enumerate(QUERIES)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"SUCCESS: {len(QUERIES)} rules found" in checked.stdout
