"""What Prometheus makes of the flow counters, and of the documented queries."""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.exporter import exporter_process
from support.fake_api import FakeAPI
from support.programs import ask, prometheus
from support.promql import queries_of
from support.waiting import until

pytestmark = pytest.mark.system

STEPS = 20
CLASSES = ("6c9500mb870s", "8c16gb120m")
QUERIES = queries_of(Path(__file__).parents[2] / "docs" / "metrics.md")


def by_class(url: str, query: str) -> dict[str, float]:
    result = ask(url, "query", query=query)["result"]
    return {each["metric"]["execution_class"]: float(each["value"][1]) for each in result}


def scrapes_done(url: str) -> float:
    """How many scrapes Prometheus has stored."""
    result = ask(url, "query", query="sum(count_over_time(up[1h]))")["result"]
    return float(result[0]["value"][1]) if result else 0


def config(address: str) -> dict[str, Any]:
    targets = {"scrape_interval": "1s", "static_configs": [{"targets": [address]}]}
    return {"scrape_configs": [{"job_name": "nextmv", **targets}]}


def test_increase_is_what_the_account_started_and_ended(tmp_path: Path, api: FakeAPI) -> None:
    random, runs = Random(3), list[dict[str, Any]]()
    started: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    entered = 0

    def step() -> None:
        nonlocal entered
        for run in list(runs):
            if run["status_v2"] == "queued" and random.random() < 0.5:
                run["status_v2"] = "running"
                started[run["execution_class"]] += 1
            elif run["status_v2"] == "running" and random.random() < 0.4:
                runs.remove(run)
                ended[run["execution_class"]] += 1
        for _ in range(random.randrange(4)):
            entered += 1
            runs.append(
                {
                    "id": f"run-{entered}",
                    "status_v2": "queued",
                    "execution_class": random.choice(CLASSES),
                    "application_id": "routing",
                    "created_at": datetime.now(UTC).isoformat(),
                }
            )
        api.serves(*runs)

    for _ in range(8):
        step()
    started.clear()
    ended.clear()
    with (
        exporter_process(endpoint=api.url) as exporter,
        prometheus(tmp_path, config(exporter.address)) as url,
    ):
        until(lambda: scrapes_done(url) >= 2, what="the first scrapes", seconds=60)
        for _ in range(STEPS):
            step()
            scraped = scrapes_done(url)
            until(lambda: scrapes_done(url) >= scraped + 2, seconds=60)  # noqa: B023
        increase = "sum by (execution_class) (increase(nextmv_account_queue_{}[1h]))"
        # Prometheus extrapolates to both ends of the range, by half a scrape interval each.
        for series, happened in (
            ("runs_started_total", started),
            ("start_wait_seconds_count", started),
            ('runs_left_total{status_v2="running"}', ended),
        ):
            assert by_class(url, increase.format(series)) == pytest.approx(happened, rel=0.06)
    assert min(started.values()) > 5


def test_every_query_of_the_documentation_is_answered(tmp_path: Path) -> None:
    with (
        exporter_process("--demo") as exporter,
        prometheus(tmp_path, config(exporter.address)) as url,
    ):
        until(lambda: scrapes_done(url) >= 3, what="some scrapes", seconds=60)
        answers = {query: ask(url, "query", query=query)["result"] for query in QUERIES}

    now = [query for query in QUERIES if re.match(r"sum by|max by|histogram_quantile|topk", query)]
    assert len(now) > 10
    # Some need more than a few seconds, or ask for what is not the case.
    later = [query for query in now if re.search(r":5m\]|errors|> 0", query)]
    assert [query for query in now if not answers[query] and query not in later] == []
