import gzip
import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from support.metrics import open_metrics, parse
from support.outcomes import ScrapedCollector, flowing

from nextmv_exporter.collector import ProcessMetricsCollector
from nextmv_exporter.scrape import metrics
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.metrics import METRICS, Family
from nextmv_exporter.scrape.summary import Distribution


def exposition(*names: str, accept: str = "", encoding: str = "") -> tuple[bytes, dict[str, str]]:
    return expose(
        [ScrapedCollector([flowing()]), ProcessMetricsCollector()],
        names=names,
        accept=accept,
        accept_encoding=encoding,
    )


TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_TEXT = "text/plain; version=1.0.0; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html,application/xhtml+xml", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
        (  # as Prometheus 3 asks
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
                "application/openmetrics-text;version=0.0.1;q=0.4,"
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
                "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
            ),
            "application/openmetrics-text",
        ),
        ("garbage;;==,", TEXT),
        ("text/plain;version=0.0.4;q=1, application/openmetrics-text;version=1.0.0;q=0.1", TEXT),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=0,text/plain", TEXT),
        ("application/openmetrics-text; Q=0.000", TEXT),
        ("text/plain;q=0, application/openmetrics-text;q=0.001", "application/openmetrics-text"),
        ("text/plain;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.3", TEXT),
        ("text/plain;q=0.5,application/openmetrics-text ; q=0.6;version=1.0.0", OPEN_METRICS),
        ("application/OpenMetrics-Text;Version=1.0.0", OPEN_METRICS),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=2.0.0;version=1.0.0", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=1.0.0", OPEN_TEXT),
        ("application/openmetrics-text;version=a.b", TEXT),
        ("text/plain;version=2.0.0", TEXT),
        ("text/plain;q=0", TEXT),
        ("*/*;q=0", TEXT),
        ("application/openmetrics-text;q=soon", "application/openmetrics-text"),
        ("application/openmetrics-text;version=1.0.0;q=1,text/plain", OPEN_METRICS),
        (  # as Prometheus 3 asks with scrape_protocols [PrometheusText0.0.4, OpenMetricsText1.0.0]
            (
                "text/plain;version=0.0.4;q=0.4,"
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2"
            ),
            TEXT,
        ),
    ],
)
def test_the_format_is_the_one_asked_for(accept: str, content_type: str) -> None:
    body, headers = exposition(accept=accept)
    assert headers["Content-Type"].startswith(content_type)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert "Content-Encoding" not in headers


@given(
    st.text(st.sampled_from(";,=q. 01v/*\t") | st.characters(), max_size=60)
    | st.text(";q=", max_size=9)
)
def test_no_header_fails_or_gives_another_format(text: str) -> None:
    for accept in (text, f"text/plain;{text}", f"application/openmetrics-text;version={text}"):
        _, headers = expose([], accept=accept)
        assert headers["Content-Type"].startswith((TEXT, OPEN_TEXT, OPEN_METRICS))


def test_both_formats_tell_the_same() -> None:
    text, _ = exposition("nextmv_account_queue_length")
    openly, _ = exposition("nextmv_account_queue_length", accept="application/openmetrics-text")
    told = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in open_metrics(openly.decode())
        for sample in family.samples
    }
    assert told == parse(text.decode())


@pytest.mark.parametrize("encoding", ["gzip", "deflate, gzip;q=1.0", "GZIP", "gzip; q=0.001"])
def test_the_body_is_compressed_if_the_client_takes_it(encoding: str) -> None:
    body, headers = exposition("nextmv_up", encoding=encoding)
    assert headers["Content-Encoding"] == "gzip"
    assert parse(gzip.decompress(body).decode()) == parse(exposition("nextmv_up")[0].decode())
    assert body[4:8] == bytes(4), "no time of compression"


@pytest.mark.parametrize(
    "encoding", ["", "identity", "br, deflate", "gzip;q=0", "br, gzip ; Q=0.000", "x-gzip"]
)
def test_the_body_is_plain_if_the_client_does_not(encoding: str) -> None:
    body, headers = exposition(encoding=encoding)
    assert "Content-Encoding" not in headers
    assert body.startswith(b"# HELP")


@pytest.mark.parametrize(
    "name", [series for metric in METRICS for series in metric.series] + ["python_info"]
)
def test_a_name_asks_for_that_series_alone(name: str) -> None:
    assert {series for series, _ in parse(exposition(name)[0].decode())} == {name}


def test_several_names_ask_for_each_of_them() -> None:
    body, _ = exposition("nextmv_up", "nextmv_account_queue_runs")
    assert {name for name, _ in parse(body.decode())} == {"nextmv_up", "nextmv_account_queue_runs"}


def test_an_unknown_name_gives_nothing() -> None:
    assert exposition("no_such_metric")[0].strip() == b""


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        ([], True),
        (["nextmv_up"], True),
        (["nextmv_account_queue_wait_seconds_bucket"], True),
        (["nextmv_account_queue_wait_seconds"], True),
        (["python_info", "nextmv_scrape_errors_total"], True),
        (["python_info", "process_open_fds"], False),
        (["nextmv_exporter_build_info"], False),
        (["no_such_metric"], False),
    ],
)
def test_the_api_is_asked_only_if_a_name_needs_it(names: list[str], needed: bool) -> None:
    collected = []

    class Collected(ScrapedCollector):
        def collect(self) -> Iterator[Family]:
            collected.append(self)
            return super().collect()

    expose([Collected([flowing()]), ProcessMetricsCollector()], names=names)
    assert bool(collected) is needed


ACCEPTED = [
    "",
    "text/plain;version=1.0.0",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=dots",
    "text/plain;version=1.0.0;escaping=values",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=underscores",
    "application/openmetrics-text;version=1.0.0;escaping=dots",
    "application/openmetrics-text;version=1.0.0;escaping=values",
]
label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
helps = st.text(st.sampled_from('ab \\"\n'), max_size=12)
numbers = st.floats() | st.integers(-(10**18), 10**18) | st.sampled_from([0, 999999, 1e6, 1e-7])
counts = st.integers(0, 10**9)
distributions = st.builds(
    lambda bounds, buckets, total: Distribution(tuple(bounds), buckets[: len(bounds)], 7, total),
    st.lists(st.floats(0, 1e9), max_size=4, unique=True).map(sorted),
    st.lists(counts, min_size=4, max_size=4),
    st.floats(allow_nan=False) | counts,
)
LABELS = ("account", "status_v2", "execution_class", "application_id")
HISTOGRAM_LABELS = ("account", "execution_class", "application_id")


class Families(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@st.composite
def ours_and_theirs(draw: st.DrawFn) -> tuple[Family, Metric]:
    """A family of ours, and the same made with prometheus-client's classes."""
    kind = draw(st.sampled_from(list(THEIR_CLASSES)))
    of_kind = HISTOGRAM_LABELS if "histogram" in kind else LABELS
    labels = of_kind[: draw(st.integers(1, 4))]
    name = "some_metric_total" if kind == "counter" else "some_metric"
    metric = metrics.Metric(name, draw(helps), kind, labels)
    theirs = THEIR_CLASSES[kind](metric.name, metric.help, labels=labels)
    values = st.tuples(*[label_values] * len(labels))
    number = distributions if "histogram" in kind else numbers
    rows = draw(st.lists(st.tuples(values, number), max_size=4))
    for row_labels, value in rows:
        if isinstance(value, Distribution):
            bounds = [*map(floatToGoString, value.bounds), "+Inf"]
            pairs = [*zip(bounds, [*value.buckets, value.count], strict=True)]
            theirs.add_metric(row_labels, pairs, value.sum)
        else:
            theirs.add_metric(row_labels, value)
    accounts = [(account, [(tuple(others), value)]) for (account, *others), value in rows]
    return Family(metric, accounts), theirs


THEIR_CLASSES: dict[metrics.Kind, Any] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
    "gauge_histogram": GaugeHistogramMetricFamily,
}


@pytest.mark.parametrize("accept", ACCEPTED)
@given(pairs=st.lists(ours_and_theirs(), max_size=3))
def test_each_family_is_written_as_prometheus_client_writes_it(
    accept: str, pairs: list[tuple[Family, Metric]]
) -> None:
    written, headers = expose([Families(*(ours for ours, _ in pairs))], accept=accept)
    encode, content_type = choose_encoder(accept)
    assert written == encode(Families(*(theirs for _, theirs in pairs)))
    assert headers["Content-Type"] == content_type


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "size", [0, 1, 999_999, 1_000_000, 10_000_000, 10**21, 0.1, 999_999.5, 1e6, 1e21, math.inf]
)
def test_numbers_of_any_size_are_written_as_prometheus_client_writes_them(
    size: float, sign: int
) -> None:
    metric = metrics.Metric("some_metric", "Some.", "gauge", ("account",))
    theirs = GaugeMetricFamily("some_metric", "Some.", labels=("account",))
    theirs.add_metric(("default",), sign * size)
    written, _ = expose([Families(Family(metric, [("default", [((), sign * size)])]))])
    assert written == choose_encoder("")[0](Families(theirs))


@given(ours_and_theirs())
def test_each_family_has_the_samples_that_prometheus_client_gives_it(
    pair: tuple[Family, Metric],
) -> None:
    ours, theirs = pair
    for one, other in zip(ours.samples, theirs.samples, strict=True):
        assert (one.name, one.labels) == (other.name, other.labels)
        value = float(other.value)  # prometheus-client keeps integers, of any size
        assert one.value == value or math.isnan(value)


@pytest.mark.parametrize("accept", ACCEPTED)
def test_families_of_others_are_written_too(accept: str) -> None:
    bare = GaugeMetricFamily("bare_gauge", "Bare.", value=7)
    written, _ = expose([Families(bare)], accept=accept)
    assert written == choose_encoder(accept)[0](Families(bare))
