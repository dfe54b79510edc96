"""Both ways to scrape the exporter, by a real Prometheus: one target, or one for each account."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support.exporter import Process, exporter_process
from support.fake_api import FakeAPI
from support.metrics import samples
from support.programs import ROOT, ask, prometheus, simulated_account
from support.waiting import until

pytestmark = pytest.mark.system

RUNS, ACCOUNTS = 12, 2
RECIPES = {
    path.name: yaml.safe_load(path.read_text())
    for path in (ROOT / "grafana").glob("prometheus*.yml")
}
OWN_JOB = RECIPES["prometheus-sd.yml"]["scrape_configs"][1]
OWN_METRICS = OWN_JOB["params"]["name[]"]


def recipe_for(recipe: str, address: str) -> dict[str, Any]:
    """Return a recipe's configuration for an exporter, without rules, at a short interval."""
    jobs = yaml.safe_dump(RECIPES[recipe]["scrape_configs"]).replace("exporter:10057", address)
    short = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    return {"global": short, "scrape_configs": yaml.safe_load(jobs)}


def test_there_are_two_recipes() -> None:
    assert set(RECIPES) == {"prometheus.yml", "prometheus-sd.yml"}
    common = [{**each, "scrape_configs": ()} for each in RECIPES.values()]
    assert common[0] == common[1]


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("accounts")
    profiles = directory / "config.yaml"
    flags = ["--runs", str(RUNS), "--accounts", str(ACCOUNTS), "--config-file", str(profiles)]
    with (
        simulated_account(directory, *flags),
        exporter_process(f"--nextmv.config-file={profiles}", "--nextmv.profile=*") as running,
    ):
        yield running


@pytest.fixture(scope="module", params=RECIPES)
def prometheus_url(
    request: pytest.FixtureRequest, exporter: Process, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    config = recipe_for(request.param, exporter.address)
    with prometheus(tmp_path_factory.mktemp("prometheus"), config) as url:
        until(lambda: values(url, "nextmv_exporter_build_info"), what="the exporter's own metrics")
        until(lambda: len(values(url, "nextmv_up == 1")) == ACCOUNTS, what="the accounts")
        yield url


def values(url: str, query: str) -> list[float]:
    return [float(each["value"][1]) for each in ask(url, "query", query=query)["result"]]


def test_each_series_is_there_once_with_its_true_value_and_the_job_that_alerts_select_by(
    prometheus_url: str,
) -> None:
    query = '{__name__=~"nextmv_.+|process_.+|python_info"}'
    found = [each["metric"] for each in ask(prometheus_url, "query", query=query)["result"]]
    assert {each["__name__"] for each in found} > set(OWN_METRICS)
    series = Counter(tuple(sorted((each | {"instance": ""}).items())) for each in found)
    assert max(series.values()) == 1
    assert {each["job"] for each in found} == {"nextmv-exporter"}
    for metric in ("length", "runs"):
        assert values(prometheus_url, f"sum(nextmv_account_queue_{metric})") == [RUNS * ACCOUNTS]


def test_the_second_job_asks_for_all_that_the_exporter_says_of_itself_and_reads_no_queue() -> None:
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        query = "&".join(f"name[]={name}" for name in OWN_METRICS)
        told = exporter.scrape(f"?{query}")
        assert api.requests == []
        lines = [line for line in exporter.scrape().splitlines() if not line.startswith("#")]
    own = {re.split(r"[{ ]", line)[0] for line in lines if 'account="' not in line}
    assert own == set(OWN_METRICS)
    assert all(samples(told, name) for name in OWN_METRICS)
