"""The flow counters of accounts over real HTTP: sources, failures, scrapes at once, restarts."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.exporter import settings_of
from support.fake_api import KEY, RUN, FakeAPI
from support.harness import Watched, profile, write_yaml
from support.metrics import Series, parse
from support.waiting import until

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.collector import QueueCollector
from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator
from nextmv_exporter.nextmv import Account, Client

START = 1_800_000_000.0
FLOW = ("entered", "started", "left")


def scrape(collector: QueueCollector) -> dict[Series, float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return parse(generate_latest(registry).decode())


def flow(collector: QueueCollector) -> dict[Series, float]:
    """The flow counters, without those at 0 and without the account."""
    return {
        (series, frozenset({pair for pair in labels if pair[0] != "account"})): value
        for (series, labels), value in scrape(collector).items()
        if series in {f"nextmv_account_queue_runs_{part}_total" for part in FLOW} and value
    }


def totals(collector: QueueCollector) -> dict[str, float]:
    sums = dict.fromkeys(FLOW, 0.0)
    for (series, _), value in flow(collector).items():
        sums[series.split("_")[4]] += value
    return sums


def of_queue(url: str, key: str = KEY, **options: Any) -> QueueCollector:
    return QueueCollector({"default": Account(client=Client(key, url))}, **options)


def runs(*names: str, status: str = "queued") -> list[dict[str, Any]]:
    return [{**RUN, "id": name, "status_v2": status} for name in names]


def test_twenty_scrapes_at_once_count_each_run_once(api: FakeAPI) -> None:
    released = threading.Event()
    collector = of_queue(api.url)
    api.serves()
    scrape(collector)
    api.serves(*runs("a", "b"))
    api.answer.held_until = released
    with ThreadPoolExecutor(20) as pool:
        scrapes = [pool.submit(totals, collector) for _ in range(20)]
        until(lambda: len(api.requests) == 2)
        released.set()
        found = [each.result() for each in scrapes]
    assert {each["entered"] for each in found} == {2.0}


def test_a_failed_scrape_changes_nothing_and_still_reports_the_counters(api: FakeAPI) -> None:
    collector = of_queue(api.url)
    api.serves(*runs("a"))
    scrape(collector)
    api.serves(*runs("a", "b"))
    before = flow(collector)
    api.answers(500)
    down = scrape(collector)
    assert down["nextmv_up", frozenset({("account", "default")})] == 0
    assert flow(collector) == before
    api.serves(*runs("c", status="running"))
    assert totals(collector) == {"entered": 2.0, "started": 1.0, "left": 2.0}


def test_after_a_restart_the_first_scrape_counts_nothing(api: FakeAPI) -> None:
    api.serves(*runs("a", "b"))
    assert not flow(of_queue(api.url))
    assert not flow(of_queue(api.url))


def test_an_account_that_is_removed_and_added_again_starts_anew(
    api: FakeAPI, tmp_path: Path
) -> None:
    both = {"kept": profile(api.url, KEY), "gone": profile(api.url, KEY)}
    config = write_yaml(tmp_path / "config.yaml", both)
    accounts = Accounts(settings_of("--nextmv.config-file", str(config), "--nextmv.profile", "*"))

    def entered(names: set[str]) -> dict[str, float]:
        collector = QueueCollector({name: accounts.targets[name] for name in names})
        return {
            dict(labels)["account"]: value
            for (series, labels), value in scrape(collector).items()
            if series == "nextmv_account_queue_runs_entered_total"
        }

    api.serves()
    entered({"kept", "gone"})
    api.serves(*runs("a"))
    assert entered({"kept", "gone"}) == {"kept": 1, "gone": 1}
    write_yaml(config, {"kept": both["kept"]})
    accounts.reload()
    write_yaml(config, both)
    accounts.reload()
    assert entered({"kept", "gone"}) == {"kept": 1, "gone": 0}
    api.serves(*runs("a", "b"))
    assert entered({"kept", "gone"}) == {"kept": 2, "gone": 1}


class Demo:
    """The simulated account at a time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = START
        account = Simulator(seed=11, start=START)
        self.api = Watched(DemoAPI({DEMO_KEY: account}, clock=lambda: self.now, page_size=20))
        self.server = DemoServer(self.api)

    def collector(self, source: str) -> QueueCollector:
        return of_queue(self.server.url, DEMO_KEY, source=source, run_lookback=1e9)


@pytest.fixture
def demo() -> Iterator[Demo]:
    started = Demo()
    with started.server:
        yield started


def test_both_sources_count_the_same_at_each_scrape(demo: Demo) -> None:
    queue, listed = demo.collector("account-queue"), demo.collector("application-runs")
    for _ in range(40):
        assert flow(queue) == flow(listed)
        demo.now += 30
    assert min(totals(queue).values()) > 50


def test_a_run_that_a_page_boundary_hides_for_one_scrape_does_not_count_twice(
    api: FakeAPI,
) -> None:
    collector = of_queue(api.url, source="application-runs")

    def serve(*entries: dict[str, Any]) -> dict[str, float]:
        # The one response is both the list of applications and the application's runs.
        api.answers(200, json.dumps({"items": [{"id": "routing"}], "runs": entries}).encode())
        return totals(collector)

    a, b = runs("a", "b")
    serve(a, b)
    assert serve(a) == {"entered": 0, "started": 0, "left": 0}
    assert serve(a, b) == {"entered": 0, "started": 0, "left": 0}
    assert serve(a, {**b, "status_v2": "succeeded"}) == {"entered": 0, "started": 0, "left": 1}
    serve()
    assert serve() == {"entered": 0, "started": 0, "left": 2}
