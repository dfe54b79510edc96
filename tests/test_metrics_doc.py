"""`docs/metrics.md` against the code, and against Prometheus's own parser."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.promql import queries_of

from nextmv_exporter.scrape.metrics import METRICS

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"
QUERIES = queries_of(DOCUMENT)
ROW = re.compile(r"^\| `(nextmv_\w+)` \| (\w+) \| (.*?) \| .*\.", re.MULTILINE)


def test_the_table_has_each_metric_with_its_type_and_labels() -> None:
    rows = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(DOCUMENT.read_text("utf-8"))
    }
    table = {metric.name: (metric.kind, metric.labels) for metric in METRICS}
    assert rows == table, "docs/metrics.md: correct the rows"
    assert {"nextmv_up", "nextmv_account_queue_length", "nextmv_exporter_build_info"} <= rows.keys()


def test_each_metric_is_used_in_a_query_and_each_query_asks_for_what_exists() -> None:
    asked = {name for query in QUERIES for name in re.findall(r"nextmv_\w+", query)}
    assert len(QUERIES) > 20
    assert asked <= {name for metric in METRICS for name in metric.series}
    without = [metric.name for metric in METRICS if asked.isdisjoint(metric.series)]
    assert without == [], "docs/metrics.md: add a query"


@pytest.mark.system
def test_prometheus_takes_the_queries_as_they_are(tmp_path: Path) -> None:
    rules = [{"record": f"query_{n}", "expr": query} for n, query in enumerate(QUERIES)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert f"SUCCESS: {len(QUERIES)} rules found" in checked.stdout, checked.stderr
