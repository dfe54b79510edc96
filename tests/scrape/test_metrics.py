"""The table of metrics: names, helps, and what an execution class's name tells."""

import re

import pytest
from support.outcomes import NOW, failure, flowing, scrapes, success

from nextmv_exporter.scrape.metrics import METRICS, Metric, families, max_run_seconds
from nextmv_exporter.scrape.outcome import Scrape
from nextmv_exporter.scrape.summary import Backlog

UNITS = ("seconds", "info", "up", "length", "runs", "groups", "total", "bucket")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_helps_are_as_prometheus_advises(metric: Metric) -> None:
    assert re.fullmatch(r"nextmv_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith(UNITS)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.labels[:1] == ("account",) or metric.name.endswith("build_info")
    assert metric.help.endswith(".")
    assert not set(metric.help) & set('"\\\n'), "the exposition does not escape it"
    assert "endpoint" not in metric.labels, "service monitors and Datadog set it themselves"


def test_no_name_is_taken_twice() -> None:
    series = [name for metric in METRICS for name in metric.series]
    assert len(series) == len(set(series)) > 25


def values(scrape: Scrape, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric, by the values of their labels without the account."""
    [family] = [each for each in families([scrape]) if each.metric.name == name]
    return {tuple(sample.labels.values())[1:]: sample.value for sample in family.samples}


def test_a_failure_has_no_queue_series_but_what_was_counted_stays() -> None:
    [bad, good] = scrapes(failure("bad"), success("good"))
    reported = {
        f.metric.name: {s.labels["account"] for s in f.samples} for f in families([bad, good])
    }
    queue = {name for name, accounts in reported.items() if accounts == {"good"}}
    assert {"nextmv_account_queue_runs", "nextmv_account_queue_wait_seconds_bucket"} <= queue
    assert not {"nextmv_up", "nextmv_scrape_errors_total", "nextmv_source_info"} & queue
    assert values(bad, "nextmv_up") == {(): 0}
    seen = Scrape(failure(), flowing().counters)
    assert values(seen, "nextmv_account_queue_last_start_timestamp_seconds") == {
        ("8c16gb120m",): NOW
    }
    assert values(seen, "nextmv_execution_class_max_run_seconds") == {("8c16gb120m",): 7200}
    counted = values(seen, "nextmv_account_queue_runs_started_total")
    assert counted == {Backlog("8c16gb120m", "routing"): 1}
    assert values(seen, "nextmv_api_clock_offset_seconds") == {}


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("6c9500mb870s", 870),
        ("8c16gb120m", 7200),
        ("16c60gb12h", 43200),
        ("16c60gb1d", 86400),
        ("gpu-90min", 5400),
        ("1h30m", 5400),
        ("a.1d2h3min4s", 93784),
        ("x90m15s", 5415),
        ("v2.120m", None),  # what is before the unit is not a whole number
        ("1.5h", None),
        ("1,5h", None),
        ("c1.5h30m", None),
        ("30m1h", None),
        ("1h1h", None),
        ("x1000ms", None),
        ("500mb", None),
        ("16gb", None),
        ("12H", None),
        ("120M", None),
        ("0s", None),
        ("0h0m", None),
        ("s", None),
        ("12", None),
        ("12h ", None),
        ("12h\n", None),
        ("12hours", None),
        ("१२h", None),
        ("9" * 200 + "d", None),
        ("unknown", None),
        ("__other__", None),
        ("", None),
    ],
)
def test_the_longest_run_of_a_class_is_the_time_that_its_name_ends_in(
    name: str, seconds: float | None
) -> None:
    assert max_run_seconds(name) == seconds
