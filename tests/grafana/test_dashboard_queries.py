"""Each of the dashboard's queries, run by a real Prometheus that scrapes real exporters.

Four accounts are in four states: the demo, one with an empty queue, one whose key was revoked, and
one whose exporter is gone. With Prometheus 3 on the PATH, histograms are tested in both forms.
"""

import math
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dashboard_file import ANNOTATION, OVERVIEW, QUERIES, VARIABLES, filled_in
from support.exporter import Process, exporter_process
from support.programs import (
    ask,
    prometheus,
    prometheus_config,
    prometheus_major,
    simulated_account,
)
from support.waiting import until

from nextmv_exporter.demo import DEMO_KEY

STATES = ("demo", "empty", "unreadable", "gone")
OF_THE_QUEUE = [
    f"{panel['title']} {target['refId']}"
    for panel in OVERVIEW
    for target in panel["targets"]
    if not panel["title"].startswith("Account readable")
]
NUMBERS = [
    f"{panel['title']} A"
    for panel in OVERVIEW
    if panel["type"] == "stat" and panel["title"] != "Account readable"
]
COUNTS_OVER_TIME = [
    "Queued by execution class A",
    "Queued by application A",
    "Running by execution class A",
    "Oldest queued run by execution class A",
]
each_query = pytest.mark.parametrize("panel", QUERIES)
each_query_of_the_queue = pytest.mark.parametrize("panel", OF_THE_QUEUE)


# How Prometheus keeps histograms: as series of buckets, or converted to native histograms.
HISTOGRAMS: dict[str, dict[str, Any]] = {"classic": {}}
if prometheus_major() >= 3:
    HISTOGRAMS["custom-buckets"] = {
        "convert_classic_histograms_to_nhcb": True,
        "scrape_protocols": ["PrometheusText0.0.4"],
    }


@dataclass(frozen=True)
class Viewer:
    """Looks at the dashboard with one account chosen, and all classes and applications."""

    prometheus_url: str
    account: str
    histograms: str

    @property
    def job(self) -> str:
        return f"{self.account}-{self.histograms}"

    def query(self, panel: str) -> str:
        """Return a panel's query, or any other, as Grafana sends it."""
        short = {"window": "15s", "__rate_interval": "15s"}
        return filled_in(QUERIES.get(panel, panel), job=self.job, account=self.account, **short)

    def series(self, panel: str) -> list[dict[str, Any]]:
        query = self.query(panel)
        found: list[dict[str, Any]] = ask(self.prometheus_url, "query", query=query)["result"]
        return found

    def values(self, panel: str) -> list[float]:
        return [float(each["value"][1]) for each in self.series(panel)]

    def some_values(self, panel: str) -> list[float]:
        """Wait for values: a rate needs two samples, a wait at start needs a start."""
        return until(lambda: self.values(panel), seconds=90, what=panel)


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Prometheus that knows an account in each state, by jobs of its name."""
    directory = tmp_path_factory.mktemp("accounts")
    idle, busy = tmp_path_factory.mktemp("idle"), tmp_path_factory.mktemp("busy")
    with (
        simulated_account(idle, "--runs", "0") as idle_url,
        simulated_account(busy) as busy_url,
        exporter_process("--demo") as demo,
        exporter_of("empty", idle_url, directory) as empty,
        exporter_of("unreadable", busy_url, directory) as unreadable,
        exporter_of("gone", busy_url, directory) as gone,
        prometheus(directory, jobs(demo, empty, unreadable, gone)) as url,
    ):
        viewers = [Viewer(url, state, each) for state in STATES for each in HISTOGRAMS]
        for viewer in viewers:
            viewer.some_values('nextmv_up{job="$job"} == 1')
            if viewer.account in {"unreadable", "gone"}:
                # There is a past, which must not be taken for the present.
                viewer.some_values("Wait at start A")
        profile(directory, "unreadable", busy_url, key="revoked")
        gone.process.kill()
        for viewer in viewers:
            if viewer.account == "unreadable":
                viewer.some_values('nextmv_up{job="$job"} == 0')
            if viewer.account == "gone":
                viewer.some_values('up{job="$job"} == 0')
        yield url


def exporter_of(account: str, endpoint: str, directory: Path) -> AbstractContextManager[Process]:
    """Run an exporter of one account."""
    file = profile(directory, account, endpoint)
    return exporter_process(f"--nextmv.config-file={file}", f"--nextmv.profile={account}")


def profile(directory: Path, account: str, endpoint: str, key: str = DEMO_KEY) -> Path:
    """Write a configuration file with an account's profile."""
    file = directory / f"{account}.yaml"
    file.write_text(f"{account}: {{apikey: {key}, endpoint: {endpoint}}}\n")
    return file


def jobs(*exporters: Process) -> dict[str, Any]:
    """Return a configuration with a job for each state and kind of histograms."""
    return prometheus_config() | {
        "scrape_configs": [
            {
                "job_name": f"{state}-{histograms}",
                "static_configs": [{"targets": [exporter.address]}],
                **settings,
            }
            for state, exporter in zip(STATES, exporters, strict=True)
            for histograms, settings in HISTOGRAMS.items()
        ]
    }


@pytest.fixture(params=HISTOGRAMS)
def histograms(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def demo(prometheus_url: str, histograms: str) -> Viewer:
    return Viewer(prometheus_url, "demo", histograms)


@pytest.fixture
def empty(prometheus_url: str, histograms: str) -> Viewer:
    return Viewer(prometheus_url, "empty", histograms)


@pytest.fixture
def unreadable(prometheus_url: str, histograms: str) -> Viewer:
    return Viewer(prometheus_url, "unreadable", histograms)


@pytest.fixture
def gone(prometheus_url: str, histograms: str) -> Viewer:
    return Viewer(prometheus_url, "gone", histograms)


@each_query
def test_each_query_finds_data_in_the_demo(demo: Viewer, panel: str) -> None:
    demo.some_values(panel)
    now = time.time()
    assert ask(
        demo.prometheus_url,
        "query_range",
        query=demo.query(panel),
        start=now - 5,
        end=now,
        step=1,
    )["result"]


@pytest.mark.parametrize(
    "name", [name for name, each in VARIABLES.items() if each["type"] == "query"]
)
def test_each_variable_finds_what_there_is_to_choose(demo: Viewer, name: str) -> None:
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["query"]["query"])
    assert found
    values = ask(
        demo.prometheus_url, f"label/{found[2]}/values", **{"match[]": demo.query(found[1])}
    )
    # Nothing has given a target here a cluster or a namespace.
    assert bool(values) == (name not in {"cluster", "namespace"})


def test_prometheus_understands_the_query_for_annotations(demo: Viewer) -> None:
    assert demo.values(ANNOTATION["expr"]) == []


@pytest.mark.parametrize("panel", NUMBERS)
def test_a_number_is_0_for_a_healthy_account_with_an_empty_queue(empty: Viewer, panel: str) -> None:
    assert empty.values(panel) == [0]


@pytest.mark.parametrize("panel", COUNTS_OVER_TIME)
def test_a_line_at_0_stands_for_a_healthy_account_with_an_empty_queue(
    empty: Viewer, panel: str
) -> None:
    (line,) = empty.series(panel)
    assert float(line["value"][1]) == 0
    assert {"nothing queued", "nothing running"} & set(line["metric"].values())


@each_query_of_the_queue
def test_an_empty_queue_has_no_other_value_than_0(empty: Viewer, panel: str) -> None:
    assert set(empty.values(panel)) <= {0}


@pytest.mark.parametrize("panel", NUMBERS)
def test_a_number_is_unknown_for_an_unreadable_account(unreadable: Viewer, panel: str) -> None:
    (value,) = unreadable.values(panel)
    assert math.isnan(value)


@each_query_of_the_queue
def test_nothing_is_said_of_the_queue_of_an_unreadable_account(
    unreadable: Viewer, panel: str
) -> None:
    for each in unreadable.series(panel):
        assert math.isnan(float(each["value"][1]))
        assert {"nothing queued", "nothing running"}.isdisjoint(each["metric"].values())


def test_why_an_account_is_unreadable_is_shown(unreadable: Viewer) -> None:
    assert unreadable.values("Account readable A") == [0]
    reasons = {
        each["metric"]["reason"]: float(each["value"][1])
        for each in unreadable.series("Errors by reason A")
    }
    assert reasons.pop("auth") > 0
    assert set(reasons.values()) == {0}


@each_query
def test_nothing_is_said_of_an_account_whose_exporter_is_gone(gone: Viewer, panel: str) -> None:
    assert gone.values(panel) == []


def test_the_table_distinguishes_an_empty_queue_from_an_unreadable_one(
    empty: Viewer, unreadable: Viewer
) -> None:
    assert empty.values("Worst groups queued") == [0]
    assert empty.values("Worst groups age") == []
    for column in ("age", "queued"):
        (row,) = unreadable.series(f"Worst groups {column}")
        assert row["metric"] == {"account": "unreadable", "job": unreadable.job}


def test_the_table_has_the_same_groups_in_each_column(demo: Viewer) -> None:
    # In one query, since the demo's queue moves on between two.
    oldest, queued, running = (
        demo.query(f"Worst groups {column}") for column in ("age", "queued", "running")
    )
    on = "on (job, account, application_id, execution_class)"
    assert demo.values(oldest)
    for first, second in ((oldest, queued), (queued, oldest), (oldest, running)):
        assert demo.values(f"({first}) unless {on} ({second})") == []
