"""What is written: every family in every format, as the parsers of all clients read it."""

import gzip
import re
import subprocess
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.outcomes import ScrapedCollector, counters, failure, flowing, run, scrapes, success

from nextmv_exporter.collector import ProcessMetricsCollector
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.metrics import METRICS, families
from nextmv_exporter.scrape.outcome import Scrape

ESCAPINGS = ("values", "dots", "underscores", "allow-utf-8")
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
OPENMETRICS_1 = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping="
TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/"
    "openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
FORMATS = (OPENMETRICS, "text/plain;version=1.0.0")
OURS = {name for metric in METRICS for name in metric.series}
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"}
EXPOSED = (ScrapedCollector([flowing(), *scrapes(failure("bad"))]), ProcessMetricsCollector())


def parsed(body: bytes, content_type: str) -> dict[str, Metric]:
    text = body.decode()
    parse: Any = openmetrics.text_string_to_metric_families
    if content_type.startswith("text/plain"):
        parse = text_string_to_metric_families
    return {family.name: family for family in parse(text)}


def series(found: dict[str, Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in found.values()
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


@pytest.mark.parametrize(("form", "escaping"), [*product(FORMATS, ESCAPINGS)])
def test_names_are_the_same_under_every_escaping(form: str, escaping: str) -> None:
    body, headers = expose(EXPOSED, accept=f"{form};escaping={escaping}")
    content_type = headers["Content-Type"]
    assert content_type.startswith(form.replace(";", "; "))
    assert content_type.endswith(f"escaping={escaping}")
    found = parsed(body, content_type)
    names = {sample.name for family in found.values() for sample in family.samples}
    offsets = {"nextmv_api_clock_offset_seconds"}  # of no response here
    assert names >= OURS - offsets | PROCESS
    assert {name for name in names if name.startswith("nextmv")} == OURS - offsets
    plain, _ = expose(EXPOSED)
    assert series(found) == series(parsed(plain, "text/plain"))


@pytest.mark.parametrize("form", FORMATS)
def test_no_family_has_a_type_whose_series_it_does_not_keep(form: str) -> None:
    found = parsed(expose(EXPOSED, accept=form)[0], form)
    kinds = {metric.name.removesuffix("_total"): metric.kind for metric in METRICS}
    assert {name: family.type for name, family in found.items() if name in kinds} == kinds
    suffixes = {
        "histogram": {"_bucket", "_count", "_sum"},
        "counter": {"_total"},
        "gauge": {""},
        "unknown": {""},
    }
    for name, family in found.items():
        given = {sample.name.removeprefix(name) for sample in family.samples}
        assert given == suffixes[family.type] or not given, name
    waits = found["nextmv_account_queue_wait_seconds_bucket"].samples
    assert [sample.labels["le"] for sample in waits] == ["5.0", "60.0", "3600.0", "+Inf"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        (OPENMETRICS, f"{OPENMETRICS_1}underscores"),
        ("application/openmetrics-text;version=2.0.0;escaping=values", f"{OPENMETRICS_1}values"),
        (PROMETHEUS_3, f"{OPENMETRICS_1}allow-utf-8"),
        (PROMETHEUS_2, f"{OPENMETRICS_1}underscores"),
        ("application/openmetrics-text;version=1.x", TEXT),
        ("text/plain;version=latest", TEXT),
    ],
)
def test_the_format_is_the_one_asked_for(accept: str, content_type: str) -> None:
    body, headers = expose(EXPOSED, accept=accept)
    assert headers["Content-Type"] == content_type
    assert parsed(body, content_type)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_header_fails(accept: str, encoding: str) -> None:
    for header in (accept, f"{OPENMETRICS[:-5]}{accept}", f"text/plain;{accept}"):
        body, headers = expose((), accept=header, accept_encoding=encoding)
        assert headers["Content-Type"].startswith(("text/plain", "application/openmetrics-text"))
        assert body in {b"", b"# EOF\n"} or "Content-Encoding" in headers


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("", False), ("br", False), ("xgzip", False)],
)
def test_the_body_is_compressed_if_the_client_takes_it(encoding: str, compressed: bool) -> None:
    collectors = EXPOSED[:1]
    body, headers = expose(collectors, accept_encoding=encoding)
    assert (headers.get("Content-Encoding") == "gzip") == compressed
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert (gzip.decompress(body) if compressed else body) == expose(collectors)[0]


@pytest.mark.parametrize("accept", ["", *FORMATS])
def test_a_name_asks_for_that_series_alone(accept: str) -> None:
    every = set(expose(EXPOSED, accept=accept)[0].decode().splitlines())
    for name in PROCESS | OURS - {"nextmv_api_clock_offset_seconds"}:
        body, _ = expose(EXPOSED, names=[name], accept=accept)
        lines = {line for line in body.decode().splitlines() if not line.startswith("#")}
        assert lines
        assert all(re.match(rf"{name}[{{ ]", line) for line in lines)
        assert lines <= every or name.startswith("process_")


def test_an_unknown_name_gives_nothing_and_several_give_each() -> None:
    assert expose(EXPOSED, names=["nextmv_nothing"])[0] == b""
    body, _ = expose(EXPOSED, names=["nextmv_up", "python_info"], accept=OPENMETRICS)
    assert set(parsed(body, OPENMETRICS)) == {"nextmv_up", "python_info"}


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9
    )
)
def test_labels_of_any_characters_and_numbers_of_any_size_come_through(label: str) -> None:
    outcome = success('an \\ "account"\n', run("queued", label, label, "2026-11-23T11:59:00Z"))
    counted = counters()
    counted.requests[label, label] = 123_456_789_012
    collector = ScrapedCollector([Scrape(outcome, counted)])
    for form in ("", *FORMATS):
        found = series(parsed(expose([collector], accept=form)[0], form or "text/plain"))
        registry = CollectorRegistry()
        registry.register(collector)
        expected = generate_latest(registry).decode()
        assert found == series(parsed(expected.encode(), "text/plain"))
        assert 123_456_789_012 in found.values()


@pytest.mark.system
@pytest.mark.parametrize("collectors", [EXPOSED, EXPOSED[:1], [ScrapedCollector([])]], ids=len)
def test_promtool_has_nothing_to_say(collectors: Any) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=expose(collectors)[0],
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_what_is_described_is_what_is_collected() -> None:
    collected = [family.name for family in families([flowing()])]
    assert [family.name for family in families(())] == collected
    assert len(collected) == len(METRICS) - 1
