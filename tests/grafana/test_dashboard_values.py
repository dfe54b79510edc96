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

Values = dict[str, float]
QUEUE = "nextmv_account_queue_"
GROUP = {"execution_class": "small", "application_id": "routing"}
NUMBERS = [panel["title"] for panel in OVERVIEW if panel["type"] == "stat"]
OLDEST = "Oldest queued run"
BY_CLASS = "Oldest queued run by execution class"
AGAINST = "Oldest queued run against its bound"
DRAIN = "Time to drain by execution class"
NAN = float("nan")


class Evaluation:
    """Evaluates queries 30 minutes after the first sample of each series."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "queries.test.yaml"

    def __call__(
        self, given: Mapping[str, str], expected: Mapping[str, Values], wrap: str = "{}", **var: str
    ) -> None:
        """Compare the values of queries, by panel and letter (A by default), with those expected.

        `given` has series with a sample a minute in promtool's notation, `wrap` what to evaluate in
        place of a query, in braces, and `var` values of the dashboard's variables.
        """
        checks: list[dict[str, Any]] = []
        for panel, values in expected.items():
            query = QUERIES.get(panel) or QUERIES[f"{panel} A"]
            query = wrap.format(filled_in(query, __interval="1m", **var))
            known = {labels: value for labels, value in values.items() if not math.isnan(value)}
            unknown = dict.fromkeys(values.keys() - known.keys(), 0.0)
            for expr, wanted in (
                (f"round(({query}) == ({query}), 0.001)", known),
                (f"0 * group without () (({query}) != ({query}))", unknown),
            ):
                samples = [{"labels": each, "value": value} for each, value in wanted.items()]
                checks.append({"expr": expr, "eval_time": "30m", "exp_samples": samples})
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


ACCOUNT, SMALL = labels(), labels(execution_class="small")


def series(metric: str, values: float | str, /, **own: str) -> dict[str, str]:
    """Give a series of an account."""
    name = metric + labels(**{"instance": "a:10057"} | own)
    return {name: values if isinstance(values, str) else f"{values}x30"}


def up(value: int = 1, /, **own: str) -> dict[str, str]:
    return series("nextmv_up", value, **own)


def runs(number: int, age: float | None = None, status: str = "queued", /, **own: str) -> Any:
    """Give a group's runs, and the age of the oldest if it is known."""
    found = series(QUEUE + "length", number, status_v2=status, **GROUP | own)
    if age is not None:
        found |= series(f"{QUEUE}oldest_{status}_run_age_seconds", age, **GROUP | own)
    return found


def flow(values: str, /, **own: str) -> dict[str, str]:
    """Give the counters of a group, and the histogram of its waits."""
    found: dict[str, str] = {}
    for event in ("entered", "started"):
        found |= series(f"{QUEUE}runs_{event}_total", values, **GROUP | own)
    found |= series(f"{QUEUE}runs_left_total", values, status_v2="running", **GROUP | own)
    for bound in ("60.0", "+Inf"):
        bucket = {"execution_class": "small", "le": bound} | own
        found |= series(QUEUE + "start_wait_seconds_bucket", values, **bucket)
    return found


def totals(queued: int, /, **own: str) -> dict[str, str]:
    found = series(QUEUE + "runs", queued, status_v2="queued", **own)
    return found | series(QUEUE + "runs", 0, status_v2="running", **own)


@pytest.mark.parametrize("label", ["cluster", "namespace", "job"])
def test_accounts_of_the_same_name_in_two_environments_are_shown_apart(
    check: Evaluation, label: str
) -> None:
    first, second = {label: "first"}, {label: "second"}
    given = up(**first) | runs(3, **first) | up(0, **second)
    check(given, {"Runs queued": {labels(**first): 3, labels(**second): NAN}})
    check(given, {"Runs queued": {labels(**first): 3}}, **first)


def test_an_account_that_replicas_watch_counts_once(check: Evaluation) -> None:
    given = up(0, instance="unreadable")
    for replica in ({"instance": "a", "pod": "a"}, {"instance": "b", "pod": "b"}):
        given |= up(**replica) | runs(12, 600, **replica) | flow("0+2x30", **replica)
        for gauge, value in (("malformed_runs", 5), ("folded_groups", 0)):
            given |= series(QUEUE + gauge, value, **replica)
        for bound, number in (("60.0", 0), ("120.0", 10), ("+Inf", 10)):
            own = {"execution_class": "small", "le": bound} | replica
            given |= series(QUEUE + "wait_seconds_bucket", number, **own)
    check(
        given,
        {
            "Account readable": {ACCOUNT: 1},
            "Runs queued": {ACCOUNT: 12},
            "Queued by execution class": {SMALL: 12},
            BY_CLASS: {SMALL: 600},
            "Arrivals and starts by execution class B": {SMALL: 2},
            "Time to drain": {ACCOUNT: 360},
            DRAIN: {SMALL: 360},
            "Malformed runs and folded groups A": {ACCOUNT: 5},
            "Wait so far, 90th percentile": {ACCOUNT: 114},
            "Wait so far of the queued runs B": {SMALL: 90},
            "Worst groups queued": {labels(**GROUP): 12},
        },
    )


def test_an_empty_queue_is_0(check: Evaluation) -> None:
    nothing = labels(execution_class="nothing queued")
    expected: dict[str, Values] = {
        "Queued by execution class": {nothing: 0},
        "Queued by application": {labels(application_id="nothing queued"): 0},
        "Running by execution class": {labels(execution_class="nothing running"): 0},
        BY_CLASS: {nothing: 0},
        "Oldest running run by group": {labels(application_id="nothing running"): 0},
        "Worst groups queued": {ACCOUNT: 0},
        "Worst groups age": {},
    }
    expected |= {panel: {ACCOUNT: 0} for panel in NUMBERS if panel != "Account readable"}
    check(up() | totals(0), expected)
    check(up() | runs(3), {"Runs queued": {ACCOUNT: 0}}, execution_class="large")


@pytest.mark.parametrize("state", ["unreadable", "gone"])
def test_nothing_but_that_is_said_of_an_account_that_is_unreadable_or_gone(
    check: Evaluation, state: str
) -> None:
    # The queue's series end, those of the counters do not.
    given = series("nextmv_up", "1x28 stale" if state == "gone" else "1x19 0x10")
    given |= dict.fromkeys(runs(5, 60) | runs(5, 60, "running"), "5x19 stale")
    given |= flow("0+1x28 stale" if state == "gone" else "0+1x30")
    said: dict[str, Values] = {panel: {} for panel in QUERIES}
    if state == "unreadable":
        said |= {f"{panel} A": {ACCOUNT: NAN} for panel in NUMBERS}
        said |= {"Account readable A": {ACCOUNT: 0}, "Account readable over time A": {ACCOUNT: 0}}
        said |= {"Worst groups age": {ACCOUNT: NAN}, "Worst groups queued": {ACCOUNT: NAN}}
    check(given, said)


def test_what_is_cut_off_is_not_taken_for_nothing(check: Evaluation) -> None:
    given = up() | runs(24, 30) | totals(24)
    given |= up(account="idle") | totals(0, account="idle") | up(0, account="unreadable")
    long = {f"app-{number}": number for number in range(100, 130)}
    for name, number in long.items():
        own = {"account": "big", "application_id": name, "execution_class": name}
        given |= up(account="big") | runs(number, number, **own)
        given |= runs(number, number, "running", **own)

    def top(most: int, *names: str) -> Values:
        longest = list(long.items())[-most:]
        return {labels(account="big", **dict.fromkeys(names, app)): n for app, n in longest}

    queued: Values = {
        ACCOUNT: 24,
        labels(account="big"): sum(long.values()),
        labels(account="idle"): 0,
    }
    unreadable = {labels(account="unreadable"): NAN}
    classes = ("Queued by execution class", "Running by execution class", BY_CLASS)
    check(
        given,
        {
            "Queued by application": top(20, "application_id"),
            **dict.fromkeys(classes, top(20, "execution_class")),
            "Runs queued": queued | unreadable,
            "Worst groups age": top(25, "application_id", "execution_class") | unreadable,
        },
    )
    alone = {"Queued by application": {labels(application_id="routing"): 24.0}}
    check(given, alone, account="production")


def test_a_query_of_a_graph_draws_at_most_twenty_lines(check: Evaluation) -> None:
    given: dict[str, str] = {}
    for number in range(1, 41):
        own = {"account": f"account-{number}", "execution_class": f"class-{number % 10}"}
        given |= up(**own) | runs(number, number, **own) | runs(1, number, "running", **own)
        given |= flow("0+1x30", **own)
        given |= series(QUEUE + "last_start_timestamp_seconds", number, **own)
        for bound in ("60.0", "+Inf"):
            given |= series(QUEUE + "wait_seconds_bucket", number, le=bound, **own)
    graphs = [panel for panel in OVERVIEW if panel["type"] == "timeseries"]
    queries = [f"{panel['title']} {each['refId']}" for panel in graphs for each in panel["targets"]]
    assert len(queries) > 10
    check(given, {query: {"{}": 20} for query in queries}, wrap="count({})")


def test_ages_are_judged_by_the_bound_of_their_class(check: Evaluation) -> None:
    given: dict[str, str] = {}
    against: dict[str, float] = {}
    for account, hours in {"late": 13.5, "near": 8.0, "within": 6.0}.items():
        for name, longest in {"16c60gb12h": 43_200, "6c9500mb870s": 870, "named": 0}.items():
            own = {"account": account, "execution_class": name}
            age = 3600 * hours if longest == 43_200 else 1000
            given |= up(account=account) | runs(1, age, **own)
            if longest:
                given |= series("nextmv_execution_class_max_run_seconds", longest, **own)
            group = {"account": account, "application_id": "routing", "execution_class": name}
            against[labels(**group)] = round(age / max(1.1 * longest, 3600), 3)
    routing = ', application_id="routing"'
    check(
        given,
        {
            f"{OLDEST} red": {labels(account="late"): 3600 * 13.5},
            f"{OLDEST} orange": {labels(account="near"): 3600 * 8},
            f"{OLDEST} A": {labels(account="within"): 3600 * 6},
            AGAINST: {each.replace(routing, ""): value for each, value in against.items()},
            "Worst groups bound": against,
        },
    )
    given = up() | runs(1, 3601)
    check(given, {f"{OLDEST} red": {ACCOUNT: 3601}, AGAINST: {SMALL: 1.0}})
    recorded = "execution_class:nextmv_account_queue_last_start_age_seconds:threshold"
    given |= series(recorded, 7202, execution_class="small")
    check(given, {f"{OLDEST} orange": {ACCOUNT: 3601}, AGAINST: {SMALL: 0.5}})


def test_time_to_drain_is_that_of_the_slowest_class_and_idle_ones_have_none(
    check: Evaluation,
) -> None:
    given = up()
    for name, queued, rate in (("small", 10, 2), ("large", 10, 1), ("idle", 0, 0), ("empty", 0, 1)):
        given |= runs(queued, execution_class=name) | flow(f"0+{rate}x30", execution_class=name)
    drained = {SMALL: 300.0, labels(execution_class="large"): 600.0}
    check(given, {"Time to drain": {ACCOUNT: 600}, DRAIN: drained})
    check(given, {"Time to drain": {ACCOUNT: 0}, DRAIN: {}}, execution_class="idle|empty")
    given |= runs(1, execution_class="stuck") | flow("7x30", execution_class="stuck")
    check(given, {"Time to drain": {ACCOUNT: 31_536_000}, DRAIN: drained})


def test_what_is_not_known_is_not_shown_as_0(check: Evaluation) -> None:
    # No queued run has a usable created_at, and another group of the class has drained.
    given = up() | runs(3) | runs(0, 0, application_id="planning")
    wait = "Wait so far, 90th percentile"
    unknown = (OLDEST, BY_CLASS, AGAINST, "Worst groups age", wait, "Time to drain", DRAIN)
    check(given, {**{panel: {} for panel in unknown}, "Worst groups queued": {labels(**GROUP): 3}})
    without_length = ("Runs queued", "Queued by execution class", "Worst groups queued")
    check(up() | totals(3), {panel: {} for panel in without_length})


def test_starts_requests_and_clocks_are_those_of_each_class_path_and_exporter(
    check: Evaluation,
) -> None:
    given = up() | runs(1) | runs(0, 0, execution_class="idle")
    for instance, seen, offset in (("a", 600, -600), ("b", 1200, 1)):
        given |= series("nextmv_api_clock_offset_seconds", offset, instance=instance)
        for name in ("small", "idle"):
            own = {"execution_class": name, "instance": instance}
            given |= series(QUEUE + "last_start_timestamp_seconds", seen, **own)
    for path in ("queue", "applications"):
        own = {"code": "200", "path": path, "endpoint": "http"}
        given |= series("nextmv_api_requests_total", "0+60x30", **own)
    paths = [labels(code="200", path=path) for path in ("queue", "applications")]
    expected: dict[str, Values] = {
        "Time since a run started by execution class": {SMALL: 600},
        "API responses by code": dict.fromkeys(paths, 1.0),
        "Clock offset": {labels(instance="a"): -600, labels(instance="b"): 1},
    }
    check(given, expected, __rate_interval="4m")
