import gzip
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from support.metrics import open_metrics, parse
from support.outcomes import ScrapedCollector, flowing

from nextmv_exporter.collector import ProcessMetricsCollector
from nextmv_exporter.scrape.exposition import concerns_accounts, expose
from nextmv_exporter.scrape.metrics import METRICS


def exposition(*names: str, accept: str = "", encoding: str = "") -> tuple[bytes, dict[str, str]]:
    return expose(
        [ScrapedCollector([flowing()]), ProcessMetricsCollector()],
        names=names,
        accept=accept,
        accept_encoding=encoding,
    )


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
        ("garbage;;==,", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_is_the_one_asked_for(accept: str, content_type: str) -> None:
    body, headers = exposition(accept=accept)
    assert headers["Content-Type"].startswith(content_type)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert "Content-Encoding" not in headers


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
    assert concerns_accounts(names) is needed


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "text/plain;version=1.0.0",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "application/openmetrics-text;version=1.0.0",
        "application/openmetrics-text;version=1.0.0;escaping=underscores",
    ],
)
@given(
    label=st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    value=st.floats() | st.integers(0, 10**18),
    help_text=st.text(st.sampled_from('ab \\"\n'), max_size=12),
)
def test_each_family_is_written_as_prometheus_client_writes_it(
    accept: str, label: str, value: float, help_text: str
) -> None:
    gauge = GaugeMetricFamily("some_gauge", help_text, labels=("b", "a"))
    gauge.add_metric((label, "plain"), value)
    gauge.add_metric(("plain", label), 1)
    bare = GaugeMetricFamily("bare_gauge", help_text, value=value)
    counter = CounterMetricFamily("some_counter", help_text, labels=("a",))
    counter.add_metric((label,), 3)

    class Families(Collector):
        def __init__(self, *families: Metric) -> None:
            self._families = families

        def collect(self) -> Iterable[Metric]:
            return self._families

    ours, headers = expose([Families(gauge, bare, counter)], accept=accept)

    encode, content_type = choose_encoder(accept)
    assert ours == encode(Families(gauge, bare, counter))
    assert headers["Content-Type"] == content_type
