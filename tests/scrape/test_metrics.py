import math
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Histogram
from support.outcomes import (
    BOUNDS,
    NOW,
    QUEUE,
    ScrapedCollector,
    failure,
    flowing,
    run,
    scrapes,
    success,
)

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape import metrics
from nextmv_exporter.scrape.counters import RECENT, REQUEST_BUCKETS, AccountMetrics, Counters
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.metrics import METRICS, Family, Metric, families
from nextmv_exporter.scrape.outcome import Outcome
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.summary import OTHER, Backlog, Group, take_snapshot

MINUTE_AGO = "2026-11-23T11:59:00Z"
NOTHING_QUEUED = (run("running", "8c16gb120m", "routing", "2026-11-23T11:50:00Z"),)
GAUGES = [metric for metric in METRICS if metric.kind == "gauge"]
OF_THE_QUEUE = {gauge.name for gauge in GAUGES if "_account_queue_" in gauge.name}


@dataclass
class Account:
    """An account whose queue is looked at every few seconds, the last time at `now`."""

    max_groups: int = 100
    every: float = 15.0
    now: float = NOW - 30
    baseline: Baseline | None = None

    def __post_init__(self) -> None:
        self.metrics = AccountMetrics(wait_buckets=BOUNDS, max_groups=self.max_groups)

    def sees(self, *runs: Run) -> None:
        self.now += self.every
        self.baseline, change = compare(self.baseline, take_snapshot(runs, self.now))
        self.metrics.add_flow(change)

    def counters(self) -> Counters:
        return self.metrics.copy()


def named(name: str) -> Metric:
    """The metric of that name, less the prefix."""
    [metric] = [each for each in METRICS if each.name == f"nextmv_{name}"]
    return metric


def family_of(metric: Metric, *outcomes: Outcome) -> Family:
    [family] = [each for each in families(scrapes(*outcomes)) if each.metric is metric]
    return family


def samples(gauge: Metric, *outcomes: Outcome) -> dict[tuple[str, ...], float]:
    found = family_of(gauge, *outcomes).samples
    return {tuple(sample.labels.values()): sample.value for sample in found}


def test_no_name_is_taken_twice() -> None:
    series = [name for metric in METRICS for name in metric.series]
    assert len(series) == len(set(series))


@pytest.mark.parametrize("metric", METRICS[:-1], ids=lambda metric: metric.name)
def test_the_account_is_the_first_label_and_the_bound_of_a_bucket_the_last(metric: Metric) -> None:
    names = [*metric.labels, "le"] if "histogram" in metric.kind else [*metric.labels]
    assert min(names) == names[0] == "account"
    assert max(names) == names[-1] or "histogram" not in metric.kind


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_helps_are_as_prometheus_advises(metric: metrics.Metric) -> None:
    assert metric.name.startswith("nextmv_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help
    assert "\n" not in metric.help
    assert metric.help.endswith(".")
    assert metric.labels[0] == "account" or metric is metrics.BUILD_INFO


def test_series_are_named_as_the_exposition_names_them() -> None:
    assert named("up").series == ("nextmv_up",)
    assert named("scrape_errors_total").series == ("nextmv_scrape_errors_total",)
    assert named("account_queue_wait_seconds").series == tuple(
        f"nextmv_account_queue_wait_seconds_{part}" for part in ("bucket", "gcount", "gsum")
    )
    assert named("api_request_duration_seconds").series == tuple(
        f"nextmv_api_request_duration_seconds_{part}" for part in ("bucket", "count", "sum")
    )


def test_length_is_told_for_each_group() -> None:
    assert samples(named("account_queue_length"), success()) == {
        ("default", "queued", "8c16gb120m", "routing"): 1,
        ("default", "running", "8c16gb120m", "routing"): 1,
    }


def test_the_oldest_run_has_an_age_and_a_timestamp() -> None:
    labels = ("default", "8c16gb120m", "routing")
    assert samples(named("account_queue_oldest_queued_run_age_seconds"), success()) == {labels: 60}
    assert samples(
        named("account_queue_oldest_queued_run_created_timestamp_seconds"), success()
    ) == {labels: NOW - 60}


def test_where_none_is_queued_the_age_is_0_and_there_is_no_timestamp() -> None:
    outcome = success("default", *NOTHING_QUEUED)
    assert samples(named("account_queue_oldest_queued_run_age_seconds"), outcome) == {
        ("default", "8c16gb120m", "routing"): 0
    }
    assert (
        samples(named("account_queue_oldest_queued_run_created_timestamp_seconds"), outcome) == {}
    )


def test_a_run_from_the_future_is_of_age_0_and_keeps_its_timestamp() -> None:
    outcome = success("default", run("queued", "c", "a", "2026-11-23T12:00:30Z"))
    assert samples(named("account_queue_oldest_queued_run_age_seconds"), outcome) == {
        ("default", "c", "a"): 0
    }
    assert samples(named("account_queue_oldest_queued_run_created_timestamp_seconds"), outcome) == {
        ("default", "c", "a"): NOW + 30
    }


def test_malformed_and_folded_are_told_also_at_0() -> None:
    assert samples(named("account_queue_malformed_runs"), success()) == {("default",): 0}
    assert samples(named("account_queue_folded_groups"), success()) == {("default",): 0}
    bad = success("default", *QUEUE, run(), max_groups=1)
    assert samples(named("account_queue_malformed_runs"), bad) == {("default",): 1}
    assert samples(named("account_queue_folded_groups"), bad) == {("default",): 3}


def test_up_tells_success_from_failure() -> None:
    assert samples(named("up"), success("a"), failure("b")) == {("a",): 1, ("b",): 0}


def test_a_failure_has_no_queue_series_but_its_duration_and_source() -> None:
    told = {gauge.name for gauge in GAUGES[:-1] if samples(gauge, failure())}
    assert told == {"nextmv_up", "nextmv_scrape_duration_seconds", "nextmv_source_info"}
    assert not told & OF_THE_QUEUE
    assert family_of(named("account_queue_wait_seconds"), failure()).samples == []


def test_a_failure_leaves_the_other_accounts_alone() -> None:
    assert samples(named("account_queue_length"), failure("a"), success("b")) == samples(
        named("account_queue_length"), success("b")
    )


def test_the_wait_histogram_ends_with_all_queued_runs() -> None:
    runs = (*QUEUE, run("queued", "8c16gb120m", "routing", None))
    family = family_of(named("account_queue_wait_seconds"), success("default", *runs))
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
    counters = AccountMetrics(wait_buckets=BOUNDS, max_groups=10).copy()
    assert counters.errors == dict.fromkeys(Reason, 0)


def test_requests_are_counted_and_timed() -> None:
    metrics = AccountMetrics(wait_buckets=BOUNDS, max_groups=10)
    metrics.observe_request("v1/account/queue", "200", 0.2)
    metrics.observe_request("v1/account/queue", "error", 3.0)
    counters = metrics.copy()
    assert counters.requests == {("v1/account/queue", "200"): 1, ("v1/account/queue", "error"): 1}
    times = counters.request_times["v1/account/queue"]
    assert (times.count, times.sum) == (2, 3.2)


# Flow


def test_a_started_run_is_reported_with_its_wait_and_age() -> None:
    labels = ("default", "8c16gb120m", "routing")
    reported = {
        family.metric.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in families([flowing()])
    }
    assert reported["nextmv_account_queue_runs_started_total"] == {labels: 1}
    assert reported["nextmv_account_queue_runs_entered_total"] == {labels: 0}
    assert set(reported["nextmv_account_queue_runs_left_total"].values()) == {0}
    assert reported["nextmv_account_queue_oldest_running_run_age_seconds"] == {labels: 600}
    wait = named("account_queue_start_wait_seconds")
    [waits] = [family for family in families([flowing()]) if family.metric is wait]
    # Ten minutes old, and started in the middle of 15 seconds.
    assert [sample.value for sample in waits.samples[-2:]] == [1, 592.5]


def test_the_counters_of_a_group_are_there_at_0_as_soon_as_it_is_seen() -> None:
    account = Account()
    account.sees(run("queued", "c", "a", id="1"))
    counters = account.counters()
    assert counters.entered == counters.started == {Backlog("c", "a"): 0}
    assert counters.left == {Group("queued", "c", "a"): 0, Group("running", "c", "a"): 0}
    assert counters.start_waits["c"].count == 0


def test_flow_adds_up_from_scrape_to_scrape() -> None:
    account = Account()
    account.sees()
    account.sees(run("queued", "c", "a", MINUTE_AGO, "1"), run("queued", "c", "b", MINUTE_AGO, "2"))
    account.sees(run("running", "c", "a", MINUTE_AGO, "1"))
    account.sees(run("queued", "c", "a", MINUTE_AGO, "3"))
    counters = account.counters()
    assert counters.entered == {Backlog("c", "a"): 2, Backlog("c", "b"): 1}
    assert counters.started == {Backlog("c", "a"): 1, Backlog("c", "b"): 0}
    assert {group: n for group, n in counters.left.items() if n} == {
        Group("queued", "c", "b"): 1,
        Group("running", "c", "a"): 1,
    }
    assert counters.start_waits["c"].count == 1


def test_the_counters_of_a_drained_group_stay() -> None:
    account = Account()
    account.sees(run("queued", "c", "a", id="1"))
    account.sees()
    before = account.counters()
    account.sees()
    assert account.counters() == before
    assert before.left[Group("queued", "c", "a")] == 1


def test_a_wait_counts_in_the_buckets_of_its_class() -> None:
    account = Account()
    account.sees(run("queued", "c", "a", MINUTE_AGO, "1"))
    account.sees(run("running", "c", "a", MINUTE_AGO, "1"))
    waits = account.counters().start_waits["c"]
    # A minute before `NOW`, and started in the middle of 15 seconds.
    assert (waits.bounds, waits.buckets, waits.count, waits.sum) == (BOUNDS, [0, 1, 1], 1, 52.5)


def test_groups_beyond_the_limit_count_as_other_and_sums_stay_exact() -> None:
    account = Account(max_groups=2)
    account.sees()
    account.sees(*(run("queued", "c", f"app-{n}", id=str(n)) for n in range(10)))
    account.sees(*(run("running", "c", f"app-{n}", id=str(n)) for n in range(10)))
    account.sees()
    counters = account.counters()
    assert (
        counters.entered
        == counters.started
        == {
            Backlog("c", "app-0"): 1,
            Backlog("c", "app-1"): 1,
            Backlog("c", OTHER): 8,
        }
    )
    assert counters.left[Group("running", "c", OTHER)] == 8


def test_no_stream_of_new_labels_grows_the_counters_for_ever() -> None:
    account = Account(max_groups=5)
    for n in range(200):
        account.sees(run(f"status-{n}", f"class-{n}", f"app-{n}", MINUTE_AGO, f"{n}"))
        account.sees(run("running", f"class-{n}", f"app-{n}", MINUTE_AGO, f"{n} too"))
    counters = account.counters()
    assert len(counters.entered) <= 6
    assert len(counters.left) <= 30
    assert len(counters.start_waits) <= 6
    assert sum(counters.entered.values()) == sum(counters.left.values()) == 399
    assert all(
        len(by_class) <= 6
        for _, entered, started in counters.recent
        for by_class in (entered, started)
    )


def test_a_copy_does_not_change_when_more_is_counted() -> None:
    account = Account()
    account.sees()
    before = account.counters()
    account.sees(run("queued", "c", "a", id="1"))
    account.metrics.observe_request("v1/account/queue", "200", 0.1)
    account.metrics.count_error(Reason.TIMEOUT)
    assert not before.entered
    assert not before.requests
    assert not any(before.errors.values())


def test_the_flow_of_the_last_minutes_is_told_by_class() -> None:
    account = Account(every=100)
    account.sees()
    account.sees(run("queued", "old", "a", id="1"))
    account.sees(run("running", "old", "a", id="1"), run("queued", "new", "a", id="2"))
    account.sees(run("running", "old", "a", id="1"), run("queued", "new", "b", id="3"))
    counters, now = account.counters(), account.now
    assert counters.recent_flow(now) == {"old": (1, 1), "new": (2, 0)}
    assert counters.recent_flow(now + RECENT - 150) == {"old": (0, 1), "new": (2, 0)}
    assert counters.recent_flow(now + RECENT) == {"new": (1, 0)}
    assert counters.recent_flow(now + RECENT + 1) == {}


def test_requests_have_the_buckets_of_prometheus_clients_histograms() -> None:
    assert (*REQUEST_BUCKETS, math.inf) == Histogram.DEFAULT_BUCKETS
    assert REQUEST_BUCKETS[0] == 0.005
    assert REQUEST_BUCKETS[-1] == 10


def test_flow_of_less_than_a_second_ago_counts_too() -> None:
    account = Account(every=0.25)
    account.sees()
    account.sees(run("queued", "c", "a", id="1"))
    account.sees(run("queued", "c", "a", id="2"))
    assert account.counters().recent_flow(account.now) == {"c": (2, 0)}


def test_after_the_clock_was_set_back_the_recent_flow_begins_anew() -> None:
    account = Account(every=10)
    account.sees()
    account.sees(run("queued", "c", "a", id="1"))
    account.now -= 86_400
    for number in range(2, 100):
        account.sees(run("queued", "c", "a", id=str(number)))
    counters = account.counters()
    assert counters.recent_flow(account.now) == {"c": (RECENT // 10 + 1, 0)}
    assert len(counters.recent) == RECENT // 10 + 1


@pytest.mark.parametrize("metric", METRICS[:-1], ids=lambda metric: metric.name)
def test_samples_are_those_of_the_family_that_prometheus_client_makes(metric: Metric) -> None:
    [family] = [each for each in families([flowing()]) if each.metric is metric]
    registry = CollectorRegistry()
    registry.register(ScrapedCollector([flowing()]))
    restricted = registry.restricted_registry(metric.series).collect()
    assert [each.samples for each in restricted] == [family.samples]
    assert {sample.name for sample in family.samples} == set(metric.series)
    assert all(isinstance(sample.value, float) for sample in family.samples)
    assert all(isinstance(v, str) for sample in family.samples for v in sample.labels.values())


def test_what_others_make_of_the_samples_is_kept() -> None:
    [family, *_] = families([flowing()])
    family.samples = [sample._replace(value=7) for sample in family.samples]
    assert {sample.value for sample in family.samples} == {7}
