"""The table of metrics: names, helps, and what an execution class's name tells."""

import re

import pytest

from nextmv_exporter.scrape.metrics import METRICS, Metric, max_run_seconds

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
