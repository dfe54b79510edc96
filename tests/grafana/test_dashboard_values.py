"""What the dashboard's queries return for series that are given, evaluated by promtool."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_file import OVERVIEW, QUERIES, filled_in
from support.programs import run

pytestmark = pytest.mark.system

QUEUE = "nextmv_account_queue_"
GROUP = {"execution_class": "small", "application_id": "routing"}
NUMBERS = [panel["title"] for panel in OVERVIEW if panel["type"] == "stat"]
OLDEST = "Oldest queued run"
BY_CLASS = "Oldest queued run by execution class"
AGAINST = "Oldest queued run against its bound"


class Evaluation:
    """Evaluates queries 30 minutes after the first sample of each series."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "queries.test.yaml"

    def __call__(
        self,
        given: Mapping[str, str],
        expected: Mapping[str, Mapping[str, float]],
        wrapped: str = "{}",
        **chosen: str,
    ) -> None:
        """Check queries' results.

        Args:
            given: series and their values, in promtool's notation, a sample a minute.
            expected: by the query's panel and letter, values by labels.
            wrapped: what to evaluate in place of a query, in braces.
            chosen: variables of the dashboard.
        """
        checks: list[dict[str, Any]] = []
        for panel, samples in expected.items():
            query = filled_in(QUERIES.get(panel) or QUERIES[f"{panel} A"], **chosen)
            query = wrapped.format(query)
            readable = {each: value for each, value in samples.items() if not math.isnan(value)}
            for expr, results in (
                (f"round(({query}) == ({query}), 0.001)", readable),
                (
                    f"0 * group without () (({query}) != ({query}))",
                    dict.fromkeys(samples.keys() - readable.keys(), 0.0),
                ),
            ):
                listed = [{"labels": each, "value": value} for each, value in results.items()]
                checks.append({"expr": expr, "eval_time": "30m", "exp_samples": listed})
        series = [{"series": name, "values": values} for name, values in given.items()]
        test = {"interval": "1m", "input_series": series, "promql_expr_test": checks}
        self._file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
        run("promtool", "test", "rules", self._file)


@pytest.fixture
def check(tmp_path: Path) -> Evaluation:
    return Evaluation(tmp_path)


def labels(**values: str) -> str:
    """Write labels of the account, and others, as Prometheus does."""
    given = {"job": "exporter", "account": "production"} | values
    return "{" + ", ".join(f'{name}="{value}"' for name, value in given.items()) + "}"


def series(metric: str, values: float | str, /, **own: str) -> dict[str, str]:
    """Give a series of an account."""
    name = metric + labels(**{"instance": "a:10057"} | own)
    return {name: values if isinstance(values, str) else f"{values}x30"}


def up(value: int = 1, /, **own: str) -> dict[str, str]:
    return series("nextmv_up", value, **own)


def queued(runs: int, age: float | None = None, /, **own: str) -> dict[str, str]:
    """Give a group's queued runs, and the age of the oldest if it is known."""
    found = series(QUEUE + "length", runs, status_v2="queued", **GROUP | own)
    if age is not None:
        found |= series(QUEUE + "oldest_queued_run_age_seconds", age, **GROUP | own)
    return found


def running(runs: int, age: float, /, **own: str) -> dict[str, str]:
    found = series(QUEUE + "length", runs, status_v2="running", **GROUP | own)
    return found | series(QUEUE + "oldest_running_run_age_seconds", age, **GROUP | own)


def flow(values: str, /, **own: str) -> dict[str, str]:
    """Give counters of runs that enter a group and start."""
    found = series(QUEUE + "runs_entered_total", values, **GROUP | own)
    return found | series(QUEUE + "runs_started_total", values, **GROUP | own)


def totals(runs: int, /, **own: str) -> dict[str, str]:
    found = series(QUEUE + "runs", runs, status_v2="queued", **own)
    return found | series(QUEUE + "runs", 0, status_v2="running", **own)


ACCOUNT, SMALL = labels(), labels(execution_class="small")
NAN = float("nan")


@pytest.mark.parametrize("label", ["cluster", "namespace", "job"])
def test_accounts_of_the_same_name_in_two_environments_are_shown_apart(
    check: Evaluation, label: str
) -> None:
    first, second = {label: "first"}, {label: "second"}
    given = up(**first) | queued(3, **first) | up(0, **second)
    readable = {labels(**first): 1.0, labels(**second): 0.0}
    check(
        given,
        {"Runs queued": {labels(**first): 3, labels(**second): NAN}, "Account readable": readable},
    )
    check(given, {"Account readable": {labels(**second): 0}}, **second)


def test_an_account_that_two_replicas_watch_counts_once(check: Evaluation) -> None:
    given: dict[str, str] = {}
    for replica in ({"instance": "a", "pod": "a"}, {"instance": "b", "pod": "b"}):
        given |= up(**replica) | queued(12, 600, **replica) | flow("0+2x30", **replica)
        given |= series(QUEUE + "malformed_runs", 5, **replica)
        given |= series(QUEUE + "folded_groups", 0, **replica)
    check(
        given,
        {
            "Runs queued": {ACCOUNT: 12},
            "Queued by execution class": {SMALL: 12},
            "Oldest queued run by execution class": {SMALL: 600},
            "Arrivals and starts by execution class B": {SMALL: 2},
            "Time to drain": {ACCOUNT: 360},
            "Time to drain by execution class": {SMALL: 360},
            "Malformed runs and folded groups A": {ACCOUNT: 5},
            "Worst groups queued": {labels(**GROUP): 12},
        },
    )


def test_one_replica_that_cannot_read_the_account_hides_nothing(check: Evaluation) -> None:
    given = up() | queued(12) | up(0, instance="b")
    check(given, {"Runs queued": {ACCOUNT: 12}, "Account readable": {ACCOUNT: 1}})


def test_an_empty_queue_is_0(check: Evaluation) -> None:
    nothing = labels(execution_class="nothing queued")
    check(
        up() | totals(0),
        {panel: {ACCOUNT: 0} for panel in NUMBERS if panel != "Account readable"}
        | {
            "Queued by execution class": {nothing: 0},
            "Queued by application": {labels(application_id="nothing queued"): 0},
            "Running by execution class": {labels(execution_class="nothing running"): 0},
            BY_CLASS: {nothing: 0},
            "Oldest running run by group": {labels(application_id="nothing running"): 0},
            "Time to drain by execution class": {},
            "Worst groups queued": {ACCOUNT: 0},
            "Worst groups age": {},
        },
    )


@pytest.mark.parametrize("state", ["unreadable", "gone"])
def test_nothing_but_that_is_said_of_an_account_that_is_unreadable_or_gone(
    check: Evaluation, state: str
) -> None:
    until = "28 stale" if state == "gone" else "30"
    given = series("nextmv_up", "1x28 stale" if state == "gone" else "1x19 0x10")
    # The queue's series end, those of the counters do not.
    for name in ("small", "large"):
        for gauge in queued(5, 60, execution_class=name) | running(5, 60, execution_class=name):
            given[gauge] = "5x19 stale"
        given |= flow(f"0+1x{until}", execution_class=name)
        given |= series(
            QUEUE + "runs_left_total", f"0+1x{until}", status_v2="running", execution_class=name
        )
        for bound in ("60.0", "+Inf"):
            bucket = QUEUE + "start_wait_seconds_bucket"
            given |= series(bucket, f"0+1x{until}", execution_class=name, le=bound)
    said: dict[str, dict[str, float]] = {panel: {} for panel in QUERIES}
    if state == "unreadable":
        said |= {f"{panel} A": {ACCOUNT: NAN} for panel in NUMBERS}
        said |= {"Account readable A": {ACCOUNT: 0}, "Account readable over time A": {ACCOUNT: 0}}
        said |= {"Worst groups age": {ACCOUNT: NAN}, "Worst groups queued": {ACCOUNT: NAN}}
    check(given, said)


def test_what_is_cut_off_is_not_taken_for_nothing(check: Evaluation) -> None:
    given = up() | queued(24, 30) | totals(24)
    given |= up(account="idle") | totals(0, account="idle") | up(0, account="unreadable")
    long = {f"app-{n}": 100 + n for n in range(30)}
    for name, runs in long.items():
        own = {"account": "big", "application_id": name, "execution_class": name}
        given |= up(account="big") | queued(runs, runs, **own) | running(runs, runs, **own)
    for account in ("production", "idle"):
        # Nothing runs in these, and they are not among the largest.
        given |= totals(0, account=account)

    def top(label: str) -> dict[str, float]:
        largest = list(long.items())[-20:]
        return {labels(account="big", **{label: name}): runs for name, runs in largest}

    worst = list(long.items())[-25:]
    check(
        given,
        {
            "Queued by application": top("application_id"),
            "Queued by execution class": top("execution_class"),
            "Running by execution class": top("execution_class"),
            BY_CLASS: top("execution_class"),
            "Runs queued": {
                ACCOUNT: 24,
                labels(account="big"): sum(long.values()),
                labels(account="idle"): 0,
                labels(account="unreadable"): NAN,
            },
            "Worst groups age": {
                labels(account="big", application_id=name, execution_class=name): runs
                for name, runs in worst
            }
            | {labels(account="unreadable"): NAN},
        },
    )
    check(
        given, {"Queued by application": {labels(application_id="routing"): 24}}, account="prod.*"
    )


def test_a_graph_draws_at_most_twenty_lines_of_each_query(check: Evaluation) -> None:
    given: dict[str, str] = {}
    for n in range(40):
        own = {"account": f"account-{n}", "execution_class": f"class-{n % 10}"}
        given |= up(**own) | queued(n + 1, n, **own) | running(1, n, **own) | flow("0+1x30", **own)
        given |= series(QUEUE + "last_start_timestamp_seconds", n, **own)
        given |= series(QUEUE + "runs_left_total", "0+1x30", status_v2="running", **GROUP | own)
    lines = [f"{panel['title']} A" for panel in OVERVIEW if panel["type"] == "timeseries"]
    assert len(lines) > 10
    drawn = [panel for panel in lines if "Wait" not in panel]
    check(given, {panel: {"{}": 20} for panel in drawn}, wrapped="count({})")


def test_ages_are_judged_by_the_bound_of_their_class(check: Evaluation) -> None:
    bounds = {"16c60gb12h": 43_200, "6c9500mb870s": 870, "named": None}
    hours = {"late": 13.5, "near": 8.0, "within": 6.0}
    given: dict[str, str] = {}
    against: dict[str, float] = {}
    for account, age in hours.items():
        for name, bound in bounds.items():
            own = {"account": account, "execution_class": name}
            least = 3600 * age if bound == 43_200 else 1000
            given |= up(account=account) | queued(1, least, **own)
            if bound:
                given |= series("nextmv_execution_class_max_run_seconds", bound, **own)
            limit = max(1.1 * (bound or 0), 3600)
            against[labels(**own)] = round(least / limit, 3)
    check(
        given,
        {
            f"{OLDEST} red": {labels(account="late"): 3600 * 13.5},
            f"{OLDEST} orange": {labels(account="near"): 3600 * 8},
            f"{OLDEST} A": {labels(account="within"): 3600 * 6},
            AGAINST: against,
            "Worst groups bound": {
                each.replace(", execution", ', application_id="routing", execution'): value
                for each, value in against.items()
            },
        },
    )
    given = up() | queued(1, 3601)
    check(given, {f"{OLDEST} red": {ACCOUNT: 3601}, AGAINST: {SMALL: 1.0}})
    recorded = "execution_class:nextmv_account_queue_last_start_age_seconds:threshold"
    given |= series(recorded, 7202, execution_class="small")
    check(given, {f"{OLDEST} orange": {ACCOUNT: 3601}, AGAINST: {SMALL: 0.5}})


def test_time_to_drain_is_that_of_the_slowest_class_and_idle_ones_have_none(
    check: Evaluation,
) -> None:
    given = up()
    for name, runs, starts in (("small", 10, 2), ("large", 10, 1), ("idle", 0, 0), ("empty", 0, 1)):
        given |= queued(runs, execution_class=name) | flow(f"0+{starts}x30", execution_class=name)
    by_class = "Time to drain by execution class"
    drained = {SMALL: 300.0, labels(execution_class="large"): 600.0}
    check(given, {"Time to drain": {ACCOUNT: 600}, by_class: drained})
    check(given, {"Time to drain": {ACCOUNT: 0}, by_class: {}}, execution_class="idle|empty")
    given |= queued(1, execution_class="stuck") | flow("7x30", execution_class="stuck")
    check(given, {"Time to drain": {ACCOUNT: 31_536_000}, by_class: drained})
    check(up() | queued(3), {"Time to drain": {}, by_class: {}})


def test_what_is_not_known_is_not_shown_as_0(check: Evaluation) -> None:
    # No queued run has a usable created_at, and another group of the class has drained.
    given = up() | queued(3) | queued(0, 0, application_id="planning")
    check(
        given,
        {
            OLDEST: {},
            BY_CLASS: {},
            AGAINST: {},
            "Wait so far, 90th percentile": {},
            "Worst groups age": {},
            "Worst groups queued": {labels(**GROUP): 3},
        },
    )
    unknown = ("Runs queued", "Queued by execution class", "Worst groups queued")
    check(up() | totals(3), {panel: {} for panel in unknown})


def test_a_class_without_runs_is_at_0_while_another_has_some(check: Evaluation) -> None:
    given = up() | queued(3) | totals(3)
    check(given, {"Runs queued": {ACCOUNT: 0}}, execution_class="large")


def test_waits_are_quantiles_of_what_is_queued_now(check: Evaluation) -> None:
    given = up() | queued(10)
    for replica in ("a", "b"):
        for bound, runs in (("60.0", 0), ("120.0", 10), ("+Inf", 10)):
            own = {"execution_class": "small", "le": bound, "instance": replica}
            given |= series(QUEUE + "wait_seconds_bucket", runs, **own)
    panel = "Wait so far of the queued runs"
    check(
        given,
        {
            "Wait so far, 90th percentile": {ACCOUNT: 114},
            f"{panel} A": {SMALL: 114},
            f"{panel} B": {SMALL: 90},
        },
    )


def test_the_last_start_is_that_of_any_replica_and_of_classes_that_wait(check: Evaluation) -> None:
    given = up() | queued(1) | queued(0, 0, execution_class="idle")
    for replica, seen in (("a", 600), ("b", 1200)):
        for name in ("small", "idle"):
            own = {"execution_class": name, "instance": replica}
            given |= series(QUEUE + "last_start_timestamp_seconds", seen, **own)
    check(given, {"Time since a run started by execution class": {SMALL: 600}})


def test_requests_are_told_apart_by_path_and_clocks_by_instance(check: Evaluation) -> None:
    given, rates, offsets = up(), {}, {}
    for path in ("v1/account/queue", "v1/applications"):
        own = {"code": "200", "path": path}
        given |= series("nextmv_api_requests_total", "0+60x30", endpoint="http", **own)
        rates[labels(code="200", path=path)] = 1.0
    for instance, offset in (("a", -600), ("b", 1)):
        given |= series("nextmv_api_clock_offset_seconds", offset, instance=instance)
        offsets[labels(instance=instance)] = float(offset)
    check(given, {"API responses by code": rates, "Clock offset": offsets}, __rate_interval="4m")
