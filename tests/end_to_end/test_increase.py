"""What Prometheus makes of the flow counters, against what the simulated account started."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.programs import ask, prometheus
from support.promql import queries_of
from support.waiting import until

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator

STEPS = 25
STEP_SECONDS = 6.0
"""Shorter than the shortest run, so that none is missed."""

STARTED = "nextmv_account_queue_runs_started_total"
WAITED = "nextmv_account_queue_start_wait_seconds_count"
ENDED = 'nextmv_account_queue_runs_left_total{status_v2="running"}'
QUERIES = queries_of(Path(__file__).parents[2] / "docs" / "metrics.md")


def by_class(url: str, query: str) -> dict[str, float]:
    result = ask(url, "query", query=query)["result"]
    return {each["metric"]["execution_class"]: float(each["value"][1]) for each in result}


def scrapes_done(url: str) -> float:
    """How many scrapes Prometheus has stored."""
    result = ask(url, "query", query="sum(count_over_time(up[1h]))")["result"]
    return float(result[0]["value"][1]) if result else 0


def test_increase_is_what_the_account_started(tmp_path: Path) -> None:
    """The account's clock stands still while Prometheus scrapes."""
    moment = time.time()
    simulator = Simulator(seed=2, start=moment)
    api = DemoAPI({DEMO_KEY: simulator}, clock=lambda: moment)
    job = {"job_name": "nextmv-exporter", "scrape_interval": "1s"}
    started: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    with (
        DemoServer(api) as nextmv,
        exporter_process(endpoint=nextmv.url, environment={"NEXTMV_API_KEY": DEMO_KEY}) as exporter,
        prometheus(
            tmp_path,
            {"scrape_configs": [job | {"static_configs": [{"targets": [exporter.address]}]}]},
        ) as url,
    ):
        until(lambda: scrapes_done(url) >= 2, what="the first scrapes")
        for _ in range(STEPS):
            before = {name: set(queue.running) for name, queue in simulator.queues.items()}
            moment += STEP_SECONDS
            scraped = scrapes_done(url)
            until(lambda: scrapes_done(url) >= scraped + 2, what="two more scrapes")  # noqa: B023
            for name, queue in simulator.queues.items():
                started[name] += len(queue.running.keys() - before[name])
                ended[name] += len(before[name] - queue.running.keys())
        increase = {
            series: by_class(url, f"sum by (execution_class) (increase({series}[1h]))")
            for series in (STARTED, WAITED, ENDED)
        }

    assert sum(started.values()) > 20
    # Prometheus extrapolates to both ends of the range, by half a scrape interval each.
    for series, happened in ((STARTED, started), (WAITED, started), (ENDED, ended)):
        counted = {name: number for name, number in increase[series].items() if number}
        assert counted == pytest.approx(+happened, rel=0.05), series


def test_every_query_of_the_documentation_is_answered(tmp_path: Path) -> None:
    job = {"job_name": "nextmv-exporter", "scrape_interval": "1s"}
    with (
        exporter_process("--demo") as exporter,
        prometheus(
            tmp_path,
            {"scrape_configs": [job | {"static_configs": [{"targets": [exporter.address]}]}]},
        ) as url,
    ):
        until(lambda: scrapes_done(url) >= 3, what="some scrapes")
        answers = {query: ask(url, "query", query=query)["result"] for query in QUERIES}

    now = [query for query in QUERIES if re.match(r"sum by|max by|histogram_quantile|topk", query)]
    assert len(now) > 10
    # Some need more than a few seconds, or ask for what is not the case.
    later = [query for query in now if re.search(r":5m\]|errors|> 0", query)]
    assert [query for query in now if not answers[query] and query not in later] == []
