"""Each of the dashboard's queries, run by a real Prometheus that scrapes a real exporter."""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from dashboard_file import ANNOTATION, OVERVIEW, PANELS, VARIABLES
from support.exporter import exporter_process
from support.programs import ask, prometheus, prometheus_config, simulated_account
from support.waiting import until

from nextmv_exporter.demo import DEMO_KEY

TARGETS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
NUMBERS = [
    pytest.param(panel["targets"][0]["expr"], id=panel["title"])
    for panel in OVERVIEW
    if panel["type"] == "stat" and panel["title"] != "Exporter up"
]
OVER_TIME = [
    pytest.param(target["expr"], id=panel["title"])
    for panel in OVERVIEW
    if panel["type"] in {"timeseries", "heatmap"}
    for target in panel["targets"]
]
WORST_GROUPS = next(panel for panel in OVERVIEW if panel["title"] == "Worst groups")


PROFILES = """\
empty: {{apikey: {key}, endpoint: {endpoint}}}
unreadable: {{apikey: revoked, endpoint: {endpoint}}}
"""


@dataclass(frozen=True)
class Viewer:
    """Looks at the dashboard with one account chosen, and all classes and applications."""

    prometheus_url: str
    account: str

    def filled_in(self, query: str) -> str:
        """Put values in place of variables, as Grafana does."""
        return (
            re.sub(r"\$execution_class|\$application", ".*", query)
            .replace("$account", self.account)
            .replace("$__rate_interval", "10s")
        )

    def series(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(
            self.prometheus_url, "query", query=self.filled_in(query)
        )["result"]
        return found

    def values(self, query: str) -> list[float]:
        return [float(each["value"][1]) for each in self.series(query)]

    def some_values(self, query: str) -> list[float]:
        """Wait for values: growth over time needs two readings, 15 seconds apart."""
        return until(lambda: self.values(query), seconds=60, what=query)


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Scrapes the demo, an account that is well and has no runs, and one whose key is refused."""
    demo, others = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("others")
    profiles = others / "config.yaml"
    with simulated_account(others, "--runs", "0") as endpoint:
        profiles.write_text(PROFILES.format(key=DEMO_KEY, endpoint=endpoint))
        flags = ["--nextmv.config-file", str(profiles)]
        flags += ["--nextmv.profile=empty", "--nextmv.profile=unreadable"]
        with (
            exporter_process("--demo") as first,
            exporter_process(*flags) as second,
            prometheus(demo, prometheus_config(first.address, second.address)) as url,
        ):
            for account in ("demo", "empty", "unreadable"):
                Viewer(url, account).some_values('nextmv_up{account="$account"}')
            yield url


@pytest.fixture
def demo(prometheus_url: str) -> Viewer:
    return Viewer(prometheus_url, "demo")


@pytest.fixture
def empty(prometheus_url: str) -> Viewer:
    return Viewer(prometheus_url, "empty")


@pytest.fixture
def unreadable(prometheus_url: str) -> Viewer:
    return Viewer(prometheus_url, "unreadable")


@pytest.mark.parametrize("query", TARGETS)
def test_each_query_finds_data_in_the_demo(demo: Viewer, query: str) -> None:
    demo.some_values(query)
    now = time.time()
    assert ask(
        demo.prometheus_url,
        "query_range",
        query=demo.filled_in(query),
        start=now - 5,
        end=now,
        step=1,
    )["result"]


@pytest.mark.parametrize(
    "variable", [each for each in VARIABLES.values() if each["type"] == "query"], ids=str
)
def test_each_variable_finds_something_to_choose(demo: Viewer, variable: dict[str, Any]) -> None:
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
    assert found
    assert ask(
        demo.prometheus_url, f"label/{found[2]}/values", **{"match[]": demo.filled_in(found[1])}
    )


def test_prometheus_understands_the_query_for_annotations(demo: Viewer) -> None:
    assert demo.values(ANNOTATION["expr"]) == []


@pytest.mark.parametrize("query", NUMBERS)
def test_a_number_is_0_for_a_healthy_account_with_an_empty_queue(empty: Viewer, query: str) -> None:
    assert empty.some_values(query) == [0]


@pytest.mark.parametrize("query", OVER_TIME)
def test_a_line_is_at_0_for_a_healthy_account_with_an_empty_queue(
    empty: Viewer, query: str
) -> None:
    assert empty.some_values(query) == [0]


@pytest.mark.parametrize("query", NUMBERS)
def test_a_number_is_unknown_for_an_unreadable_account(unreadable: Viewer, query: str) -> None:
    (value,) = unreadable.values(query)
    assert math.isnan(value)


@pytest.mark.parametrize("query", OVER_TIME)
def test_a_line_has_a_gap_for_an_unreadable_account(unreadable: Viewer, query: str) -> None:
    assert all(math.isnan(value) for value in unreadable.values(query))


def test_the_table_tells_an_empty_queue_from_an_unreadable_one(
    empty: Viewer, unreadable: Viewer
) -> None:
    oldest, queued = (target["expr"] for target in WORST_GROUPS["targets"][:2])
    assert empty.values(oldest) == empty.values(queued) == [0]
    assert all(math.isnan(value) for value in unreadable.values(oldest))
    assert unreadable.series(oldest)[0]["metric"] == {"account": "unreadable"}


def test_the_table_has_the_same_groups_in_each_column(demo: Viewer) -> None:
    def groups(query: str) -> set[tuple[str, ...]]:
        return {tuple(sorted(each["metric"].items())) for each in demo.series(query)}

    # In one query, since the demo's queue moves on between two.
    oldest, queued, running = (target["expr"] for target in WORST_GROUPS["targets"])
    on = "on (account, application_id, execution_class)"
    assert groups(oldest)
    assert groups(f"({oldest}) unless {on} ({queued})") == set()
    assert groups(f"({oldest}) unless {on} ({running})") == set()
