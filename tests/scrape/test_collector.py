"""What a whole exposition looks like to Prometheus."""

import platform
import subprocess

import pytest
from prometheus_client.core import Metric as Family
from support.metrics import open_metrics, parse, value
from support.outcomes import ScrapedCollector, failure, flowing, run, scrapes, success

from nextmv_exporter import __version__
from nextmv_exporter.collector import ProcessMetricsCollector
from nextmv_exporter.scrape import metrics
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.metrics import METRICS
from nextmv_exporter.scrape.outcome import Outcome

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
KINDS = {"gauge_histogram": "gaugehistogram"}
NASTY = [
    'quote " in it',
    "back\\slash",
    "new\nline",
    "carriage\rreturn",
    "\\n not a new line",
    "trailing \\",
    '{le="+Inf"} 7',
    "# HELP me",
    "ünïcode ✓ 🚚",
    "\u2028 line separator",
    "\x85 next line",
    "\x1c\x1d\x1e separators",
    "\t tab",
    "\0 NUL",
    "\ud800 surrogate",
    " ",
    "x" * 100_000,
]


def collectors(*outcomes: Outcome) -> list[ScrapedCollector | ProcessMetricsCollector]:
    return [ScrapedCollector(scrapes(*outcomes)), ProcessMetricsCollector()]


def text(*outcomes: Outcome) -> str:
    return expose(collectors(*outcomes))[0].decode()


def families(*outcomes: Outcome) -> dict[str, Family]:
    body = expose(collectors(*outcomes), accept=OPENMETRICS)[0].decode()
    return {family.name: family for family in open_metrics(body)}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_exposed_with_its_kind_help_and_labels(metric: metrics.Metric) -> None:
    body = expose([ScrapedCollector([flowing()]), ProcessMetricsCollector()], accept=OPENMETRICS)
    family = {f.name: f for f in open_metrics(body[0].decode())}[metric.name.removesuffix("_total")]
    assert family.type == KINDS.get(metric.kind, metric.kind)
    assert family.documentation == metric.help
    assert {sample.name for sample in family.samples} == set(metric.series)
    assert {frozenset(sample.labels) - {"le"} for sample in family.samples} == {
        frozenset(metric.labels)
    }


def test_nothing_is_exposed_that_is_no_metric_of_ours_or_of_the_client_library() -> None:
    known = {series for metric in METRICS for series in metric.series}
    exposed = {name for name, _ in parse(text(success()))}
    assert {name for name in exposed - known if not name.startswith(("process_", "python_"))} == (
        set()
    )


@pytest.mark.parametrize(
    "outcomes",
    [(), (success(),), (failure(),), (success("a"), failure("b"))],
    ids=["none", "success", "failure", "both"],
)
def test_promtool_has_nothing_to_say(outcomes: tuple[Outcome, ...]) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text(*outcomes).encode(),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("label", NASTY, ids=lambda label: ascii(label[:16]))
def test_labels_of_any_characters_come_through(label: str) -> None:
    runs = [
        run("queued", label, "routing", "2026-11-23T11:59:00Z"),
        run("queued", "8c16gb120m", label, "2026-11-23T11:59:00Z"),
        run(label, "8c16gb120m", "routing", "2026-11-23T11:59:00Z"),
    ]
    as_text, openly = text(success("default", *runs)), families(success("default", *runs))
    expected = label[:256].replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    for labels in ({"execution_class": expected}, {"application_id": expected}):
        assert value(as_text, "nextmv_account_queue_length", **labels) == 1
    length = openly["nextmv_account_queue_length"].samples
    assert {s.labels["status_v2"] for s in length} == {"queued", expected}
    assert sum(s.value for s in length) == 3
    promtool = subprocess.run(
        ["promtool", "check", "metrics"], input=as_text.encode(), capture_output=True, check=False
    )
    assert promtool.returncode == 0, promtool.stderr


def test_what_is_described_is_what_is_collected() -> None:
    [accounts, _] = collectors(success())
    described, collected = list(accounts.describe()), list(accounts.collect())
    assert [(f.name, f.type) for f in described] == [(f.name, f.type) for f in collected]


def test_no_created_series_are_exposed() -> None:
    assert "_created{" not in text(success())


def test_the_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTMV_EXPORTER_REVISION", "0123abc")
    labels = {
        "version": __version__,
        "revision": "0123abc",
        "pythonversion": platform.python_version(),
    }
    assert value(text(), "nextmv_exporter_build_info", **labels) == 1


def test_a_build_without_a_revision_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXTMV_EXPORTER_REVISION", raising=False)
    assert value(text(), "nextmv_exporter_build_info", revision="unknown") == 1


def test_the_process_is_told() -> None:
    exposed = text()
    assert value(exposed, "process_resident_memory_bytes") > 0
    assert value(exposed, "process_open_fds") > 0
    assert value(exposed, "python_info") == 1
