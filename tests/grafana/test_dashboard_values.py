"""What the dashboard's queries return for series that are given, evaluated by promtool."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from dashboard_file import QUERIES, filled_in
from support.programs import run

LENGTH = "nextmv_account_queue_length"
AGE = "nextmv_account_queue_oldest_queued_run_age_seconds"
STARTED = "nextmv_account_queue_runs_started_total"
BOTH = ("production", "staging")


class Evaluation:
    """Evaluates queries 30 minutes after the first sample of each series."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "queries.test.yaml"

    def returns(
        self,
        series: Mapping[str, str],
        panel: str,
        expected: Mapping[str, float],
        unreadable: tuple[str, ...] = (),
        /,
        **chosen: str,
    ) -> None:
        """Check a query's result.

        Args:
            series: series and their values, in promtool's notation, a sample a minute.
            panel: title of the panel and letter of its query.
            expected: values by labels, NaN left out.
            unreadable: accounts whose value is NaN.
            chosen: variables of the dashboard.
        """
        query = filled_in(QUERIES[panel], **chosen)
        nan = f"count by (account) (({query}) != ({query}))"
        tests = {
            f"round(({query}) == ({query}), 0.001)": expected,
            nan: {f'{{account="{account}"}}': 1 for account in unreadable},
        }
        self._file.write_text(
            yaml.safe_dump(
                {
                    "evaluation_interval": "1m",
                    "tests": [
                        {
                            "interval": "1m",
                            "input_series": [
                                {"series": name, "values": values}
                                for name, values in series.items()
                            ],
                            "promql_expr_test": [
                                {
                                    "expr": expression,
                                    "eval_time": "30m",
                                    "exp_samples": [
                                        {"labels": labels, "value": value}
                                        for labels, value in samples.items()
                                    ],
                                }
                                for expression, samples in tests.items()
                            ],
                        }
                    ],
                }
            )
        )
        run("promtool", "test", "rules", self._file)


@pytest.fixture
def query(tmp_path: Path) -> Evaluation:
    return Evaluation(tmp_path)


def up(value: int = 1, /, **labels: str) -> dict[str, str]:
    """Give the series of an account's last scrape."""
    return series("nextmv_up", value, **labels)


def queued(runs: int, /, **labels: str) -> dict[str, str]:
    """Give the series of a group's queued runs."""
    group = {"execution_class": "small", "application_id": "routing", **labels}
    return series(LENGTH, runs, status_v2="queued", **group)


def series(metric: str, value: float | str, /, **labels: str) -> dict[str, str]:
    """Give a series with labels of its own besides an account's."""
    known = {"job": "exporter", "account": "production", "instance": "a:10057"} | labels
    selector = ", ".join(f'{name}="{text}"' for name, text in known.items())
    return {f"{metric}{{{selector}}}": value if isinstance(value, str) else f"{value}x30"}


@pytest.mark.parametrize(
    "label", ["cluster", "namespace", "job"], ids=lambda label: f"different {label}"
)
def test_accounts_of_the_same_name_in_two_environments_are_shown_apart(
    query: Evaluation, label: str
) -> None:
    first, second = ({label: each} for each in BOTH)
    given = up(**first) | queued(3, **first) | up(0, **second)
    common = {"account": "production", "job": "exporter"}

    def labels(more: dict[str, str]) -> str:
        return "{" + ", ".join(f'{k}="{v}"' for k, v in (common | more).items()) + "}"

    query.returns(given, "Runs queued A", {labels(first): 3}, ("production",))
    query.returns(given, "Account readable A", {labels(first): 1, labels(second): 0})
    query.returns(given, "Account readable A", {labels(second): 0}, **second)


def test_an_account_that_two_replicas_watch_counts_once(query: Evaluation) -> None:
    replicas = [{"instance": each, "pod": each} for each in BOTH]
    given: dict[str, str] = {}
    for replica in replicas:
        group = {"execution_class": "small", "application_id": "routing"} | replica
        given |= up(**replica) | queued(12, **replica) | series(STARTED, "0+2x30", **group)
    account = '{account="production", job="exporter"}'
    by_class = '{account="production", execution_class="small", job="exporter"}'
    query.returns(given, "Runs queued A", {account: 12})
    query.returns(given, "Queued by execution class A", {by_class: 12})
    query.returns(given, "Arrivals and starts by execution class B", {by_class: 2})
    query.returns(given, "Time to drain A", {account: 360})
    query.returns(given, "Time to drain by execution class A", {by_class: 360})


def test_time_to_drain_is_that_of_the_slowest_class_and_says_when_none_started(
    query: Evaluation,
) -> None:
    given = up()
    for name, runs, rate in (("small", 10, 2), ("large", 10, 1), ("idle", 0, 0)):
        group = {"execution_class": name, "application_id": "routing"}
        given |= queued(runs, **group) | series(STARTED, f"0+{rate}x30", **group)
    account = '{account="production", job="exporter"}'
    query.returns(given, "Time to drain A", {account: 600})
    query.returns(given, "Time to drain A", {account: 0}, execution_class="idle")
    stuck = {"execution_class": "stuck", "application_id": "routing"}
    given |= queued(1, **stuck) | series(STARTED, "7x30", **stuck)
    query.returns(given, "Time to drain A", {account: 31_536_000})
    query.returns(given, "Time to drain by execution class A", {}, execution_class="stuck")


def test_nothing_is_said_of_the_time_to_drain_without_a_counter_of_starts(
    query: Evaluation,
) -> None:
    query.returns(up() | queued(3), "Time to drain A", {})


def test_a_wait_is_not_shown_as_0_where_its_histogram_is_missing(query: Evaluation) -> None:
    query.returns(up() | queued(3), "Wait so far, 90th percentile A", {})


def test_a_wait_is_0_where_nothing_is_queued(query: Evaluation) -> None:
    given = up() | series("nextmv_account_queue_runs", 0, status_v2="queued")
    expected = {'{account="production", job="exporter"}': 0.0}
    query.returns(given, "Wait so far, 90th percentile A", expected)
    query.returns(given, "Oldest queued run A", expected)
    query.returns(given, "Runs queued A", expected)


def test_an_age_is_not_shown_as_0_where_no_queued_run_has_a_known_one(query: Evaluation) -> None:
    drained = {"execution_class": "small", "application_id": "planning"}
    given = up() | queued(3) | queued(0, **drained) | series(AGE, 0, **drained)
    query.returns(given, "Oldest queued run A", {})
    query.returns(given, "Oldest queued run by execution class A", {})
    query.returns(given, "Worst groups age", {})
    group = '{account="production", application_id="routing", execution_class="small", %s}'
    query.returns(given, "Worst groups queued", {group % 'job="exporter"': 3})


def test_a_length_is_not_shown_as_0_where_only_its_series_are_missing(query: Evaluation) -> None:
    given = up() | series("nextmv_account_queue_runs", 3, status_v2="queued")
    for panel in ("Runs queued A", "Queued by execution class A", "Worst groups queued"):
        query.returns(given, panel, {})


def test_a_class_without_runs_is_at_0_while_another_has_some(query: Evaluation) -> None:
    given = up() | queued(3) | series("nextmv_account_queue_runs", 3, status_v2="queued")
    expected = {'{account="production", job="exporter"}': 0.0}
    query.returns(given, "Runs queued A", expected, execution_class="large")


@pytest.mark.parametrize(
    "panel",
    [
        "Arrivals and starts by execution class A",
        "Arrivals and starts by execution class B",
        "Runs that left by last status A",
        "Wait at start A",
        "Time to drain by execution class A",
    ],
)
def test_counters_of_an_account_that_became_unreadable_show_no_rate(
    query: Evaluation, panel: str
) -> None:
    group = {"execution_class": "small", "application_id": "routing"}
    flow = {
        **series(STARTED, "0+1x30", **group),
        **series("nextmv_account_queue_runs_entered_total", "0+1x30", **group),
        **series("nextmv_account_queue_runs_left_total", "0+1x30", status_v2="running", **group),
        **series(
            "nextmv_account_queue_start_wait_seconds_bucket",
            "0+1x30",
            execution_class="small",
            le="60",
        ),
        **series(
            "nextmv_account_queue_start_wait_seconds_bucket",
            "0+1x30",
            execution_class="small",
            le="+Inf",
        ),
    }
    status = ', status_v2="running"' if "left" in panel else ""
    labels = f'{{account="production", execution_class="small", job="exporter"{status}}}'
    readable = {labels: 57.0 if "Wait" in panel else 20 * 60 if "drain" in panel else 1.0}
    query.returns(flow | up() | queued(20), panel, readable)
    query.returns(flow | up(0), panel, {})


def test_requests_are_told_apart_by_endpoint_under_the_prometheus_operator_too(
    query: Evaluation,
) -> None:
    given = up()
    for own in ("v1/account/queue", "v1/applications"):
        request = {"endpoint": "http", "exported_endpoint": own, "code": "200"}
        given |= series("nextmv_api_requests_total", "0+60x30", **request)
    labels = '{account="production", code="200", endpoint="http", exported_endpoint="%s", %s}'
    expected = {
        labels % (own, 'job="exporter"'): 1.0 for own in ("v1/account/queue", "v1/applications")
    }
    query.returns(given, "API responses by code A", expected, __rate_interval="4m")
