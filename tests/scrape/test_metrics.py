import pytest
from support.outcomes import BOUNDS, NOW, QUEUE, failure, run, scrapes, success

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape import metrics
from nextmv_exporter.scrape.metrics import METRICS, AccountMetrics, Family, Metric, families
from nextmv_exporter.scrape.outcome import Outcome

NOTHING_QUEUED = (run("running", "8c16gb120m", "routing", "2026-11-23T11:50:00Z"),)
GAUGES = [metric for metric in METRICS if metric.kind == "gauge"]
OF_THE_QUEUE = {gauge.name for gauge in GAUGES if "_account_queue_" in gauge.name}


def family_of(metric: Metric, *outcomes: Outcome) -> Family:
    [family] = [each for each in families(scrapes(*outcomes)) if each.metric is metric]
    return family


def samples(gauge: Metric, *outcomes: Outcome) -> dict[tuple[str, ...], float]:
    found = family_of(gauge, *outcomes).samples
    return {tuple(sample.labels.values()): sample.value for sample in found}


def test_no_name_is_taken_twice() -> None:
    series = [name for metric in METRICS for name in metric.series]
    assert len(series) == len(set(series))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_helps_are_as_prometheus_advises(metric: metrics.Metric) -> None:
    assert metric.name.startswith("nextmv_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help
    assert "\n" not in metric.help
    assert metric.labels[0] == "account" or metric is metrics.BUILD_INFO


def test_series_are_named_as_the_exposition_names_them() -> None:
    assert metrics.UP.series == ("nextmv_up",)
    assert metrics.SCRAPE_ERRORS.series == ("nextmv_scrape_errors_total",)
    assert metrics.WAIT.series == tuple(
        f"nextmv_account_queue_wait_seconds_{part}" for part in ("bucket", "gcount", "gsum")
    )
    assert metrics.API_REQUEST_DURATION.series == tuple(
        f"nextmv_api_request_duration_seconds_{part}" for part in ("bucket", "count", "sum")
    )


def test_length_is_told_for_each_group() -> None:
    assert samples(metrics.QUEUE_LENGTH, success()) == {
        ("default", "queued", "8c16gb120m", "routing"): 1,
        ("default", "running", "8c16gb120m", "routing"): 1,
    }


def test_the_oldest_run_has_an_age_and_a_timestamp() -> None:
    labels = ("default", "8c16gb120m", "routing")
    assert samples(metrics.OLDEST_AGE, success()) == {labels: 60}
    assert samples(metrics.OLDEST_CREATED, success()) == {labels: NOW - 60}


def test_where_none_is_queued_the_age_is_0_and_there_is_no_timestamp() -> None:
    outcome = success("default", *NOTHING_QUEUED)
    assert samples(metrics.OLDEST_AGE, outcome) == {("default", "8c16gb120m", "routing"): 0}
    assert samples(metrics.OLDEST_CREATED, outcome) == {}


def test_a_run_from_the_future_is_of_age_0_and_keeps_its_timestamp() -> None:
    outcome = success("default", run("queued", "c", "a", "2026-11-23T12:00:30Z"))
    assert samples(metrics.OLDEST_AGE, outcome) == {("default", "c", "a"): 0}
    assert samples(metrics.OLDEST_CREATED, outcome) == {("default", "c", "a"): NOW + 30}


def test_malformed_and_folded_are_told_also_at_0() -> None:
    assert samples(metrics.MALFORMED_RUNS, success()) == {("default",): 0}
    assert samples(metrics.FOLDED_GROUPS, success()) == {("default",): 0}
    bad = success("default", *QUEUE, run(), max_groups=1)
    assert samples(metrics.MALFORMED_RUNS, bad) == {("default",): 1}
    assert samples(metrics.FOLDED_GROUPS, bad) == {("default",): 3}


def test_up_tells_success_from_failure() -> None:
    assert samples(metrics.UP, success("a"), failure("b")) == {("a",): 1, ("b",): 0}


def test_a_failure_has_no_queue_series_but_its_duration_and_source() -> None:
    told = {gauge.name for gauge in GAUGES[:-1] if samples(gauge, failure())}
    assert told == {"nextmv_up", "nextmv_scrape_duration_seconds", "nextmv_source_info"}
    assert not told & OF_THE_QUEUE
    assert family_of(metrics.WAIT, failure()).samples == []


def test_a_failure_leaves_the_other_accounts_alone() -> None:
    assert samples(metrics.QUEUE_LENGTH, failure("a"), success("b")) == samples(
        metrics.QUEUE_LENGTH, success("b")
    )


def test_the_wait_histogram_ends_with_all_queued_runs() -> None:
    runs = (*QUEUE, run("queued", "8c16gb120m", "routing", None))
    family = family_of(metrics.WAIT, success("default", *runs))
    assert family.type == "gaugehistogram"
    assert {s.labels["le"]: s.value for s in family.samples if "le" in s.labels} == {
        "5.0": 0,
        "60.0": 1,
        "3600.0": 1,
        "+Inf": 2,
    }
    totals = {s.name.rpartition("_")[2]: s.value for s in family.samples if "le" not in s.labels}
    assert totals == {"gcount": 2, "gsum": 60}


def test_every_reason_is_there_from_the_start_at_0() -> None:
    counters = AccountMetrics("default", wait_buckets=BOUNDS, max_groups=10).copy()
    assert counters.errors == dict.fromkeys(Reason, 0)


def test_requests_are_counted_and_timed() -> None:
    metrics = AccountMetrics("default", wait_buckets=BOUNDS, max_groups=10)
    metrics.observe_request("v1/account/queue", "200", 0.2)
    metrics.observe_request("v1/account/queue", "error", 3.0)
    counters = metrics.copy()
    assert counters.requests == {("v1/account/queue", "200"): 1, ("v1/account/queue", "error"): 1}
    times = counters.request_times["v1/account/queue"]
    assert (times.count, times.sum) == (2, 3.2)
