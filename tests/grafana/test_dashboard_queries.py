"""Each of the dashboard's queries finds data in a real Prometheus that scrapes the demo.

With Prometheus 3 on the PATH, histograms are tested as classic and as native ones.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from dashboard_file import ANNOTATION, QUERIES, VARIABLES, filled_in
from support.exporter import exporter_process
from support.programs import ask, prometheus, prometheus_config, prometheus_major
from support.waiting import until

pytestmark = pytest.mark.system

HISTOGRAMS: dict[str, dict[str, Any]] = {"classic": {}}
if prometheus_major() >= 3:
    HISTOGRAMS["native"] = {"convert_classic_histograms_to_nhcb": True}
# The demo's runs do not wait for half of what their classes may take.
NOT_IN_THE_DEMO = {"Oldest queued run orange", "Oldest queued run red"}


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with exporter_process("--demo") as demo:
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [demo.address]}], **settings}
            for name, settings in HISTOGRAMS.items()
        ]
        config = prometheus_config() | {"scrape_configs": jobs}
        with prometheus(tmp_path_factory.mktemp("demo"), config) as url:
            yield url


def found(url: str, query: str, **chosen: str) -> list[Any]:
    times = {"window": "15s", "__rate_interval": "15s"}
    result: list[Any] = ask(url, "query", query=filled_in(query, **times, **chosen))["result"]
    return result


@pytest.mark.parametrize("job", HISTOGRAMS)
def test_each_query_finds_data_in_the_demo(prometheus_url: str, job: str) -> None:
    assert QUERIES.keys() > NOT_IN_THE_DEMO
    for panel, query in QUERIES.items():
        if panel in NOT_IN_THE_DEMO:
            assert found(prometheus_url, query, job=job) == []
        else:
            # A rate needs two samples, a wait at start needs a start.
            until(partial(found, prometheus_url, query, job=job), seconds=90, what=panel)
    assert found(prometheus_url, ANNOTATION["expr"]) == []


def test_each_variable_finds_what_there_is_to_choose(prometheus_url: str) -> None:
    until(partial(found, prometheus_url, QUERIES["Runs queued A"]), seconds=90, what="the demo")
    queried = {name: each for name, each in VARIABLES.items() if each["type"] == "query"}
    assert len(queried) == 6
    for name, variable in queried.items():
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert asked
        path, series = f"label/{asked[2]}/values", {"match[]": filled_in(asked[1])}
        # Nothing here has given a target a cluster or a namespace.
        assert bool(ask(prometheus_url, path, **series)) == (name not in {"cluster", "namespace"})
