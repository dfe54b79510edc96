"""A real Prometheus scrapes the exporter, which scrapes a simulated account."""

import time
from pathlib import Path

import requests
from support.exporter import exporter_process
from support.programs import ask, prometheus
from support.waiting import until

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator

STEPS = 6
STEP_SECONDS = 45.0


def length_in(url: str) -> float:
    result = ask(url, "query", query="sum(nextmv_account_queue_length)")["result"]
    return float(result[0]["value"][1]) if result else -1


def scrapes_done(url: str) -> float:
    """How many scrapes of the exporter Prometheus has stored."""
    query = 'count_over_time(up{job="nextmv-exporter"}[1h])'
    result = ask(url, "query", query=query)["result"]
    return float(result[0]["value"][1]) if result else 0


def test_prometheus_sees_the_queue_that_the_api_reports_at_each_moment(tmp_path: Path) -> None:
    """The account's clock stands still between steps, so that both are asked of one moment."""
    moment = time.time()
    api = DemoAPI({DEMO_KEY: Simulator(seed=3, start=moment)}, clock=lambda: moment)
    lengths = set()
    with (
        DemoServer(api) as nextmv,
        exporter_process(endpoint=nextmv.url, environment={"NEXTMV_API_KEY": DEMO_KEY}) as exporter,
        prometheus(
            tmp_path,
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "nextmv-exporter",
                        "static_configs": [{"targets": [exporter.address]}],
                    }
                ],
            },
        ) as url,
    ):
        for _ in range(STEPS):
            moment += STEP_SECONDS
            queue = requests.get(
                f"{nextmv.url}/v1/account/queue",
                headers={"Authorization": f"Bearer {DEMO_KEY}"},
                timeout=10,
            ).json()
            scraped = scrapes_done(url)
            until(lambda: scrapes_done(url) >= scraped + 2, seconds=30, what="two more scrapes")  # noqa: B023
            assert length_in(url) == len(queue["runs"])
            lengths.add(len(queue["runs"]))

        [active] = ask(url, "targets")["activeTargets"]
        ups = ask(url, "query", query='min_over_time(up{job="nextmv-exporter"}[1h])')
        errors = ask(url, "query", query="sum(nextmv_scrape_errors_total)")
        log = (tmp_path / "prometheus.log").read_text().splitlines()

    assert len(lengths) > 1, "the queue moved"
    assert active["health"] == "up"
    assert active["lastError"] == ""
    assert [float(series["value"][1]) for series in ups["result"]] == [1]
    assert float(errors["result"][0]["value"][1]) == 0
    assert not [line for line in log if "level=warn" in line or "level=error" in line]


def test_prometheus_scrapes_the_demo_without_any_configuration_of_it(tmp_path: Path) -> None:
    with (
        exporter_process("--demo") as exporter,
        prometheus(
            tmp_path,
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {"job_name": "demo", "static_configs": [{"targets": [exporter.address]}]}
                ],
            },
        ) as url,
    ):
        until(lambda: length_in(url) > 0, seconds=30, what="a queue in Prometheus")
        up = ask(url, "query", query='nextmv_up{account="demo"}')["result"]

    assert [series["value"][1] for series in up] == ["1"]
