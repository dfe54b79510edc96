"""What changed between two snapshots."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import NOW, run

from nextmv_exporter.scrape.flow import MAX_GAP, Change, compare
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.summary import Backlog, Group, take_snapshot

CLASS, APP = "8c16gb120m", "routing"
ROUTING = Backlog(CLASS, APP)
QUEUED, RUNNING = Group("queued", *ROUTING), Group("running", *ROUTING)
NOBODY: frozenset[int] = frozenset()
CREATED = "2026-11-23T11:00:00Z"


def queued(run_id: str | None, created_at: str | None = CREATED) -> Run:
    return run("queued", CLASS, APP, created_at, run_id)


def running(run_id: str | None, created_at: str | None = CREATED) -> Run:
    return run("running", CLASS, APP, created_at, run_id)


def changes(
    *snapshots: Sequence[Run], every: float = 15.0, ended: AbstractSet[int] | None = None
) -> list[Change]:
    """Compare snapshots, each with the one before; the last is taken at `NOW`."""
    baseline, found = None, []
    for number, runs in enumerate(snapshots):
        moment = NOW - every * (len(snapshots) - 1 - number)
        baseline, change = compare(baseline, take_snapshot(runs, moment), ended)
        found.append(change)
    return found


def last(
    *snapshots: Sequence[Run], every: float = 15.0, ended: AbstractSet[int] | None = None
) -> Change:
    return changes(*snapshots, every=every, ended=ended)[-1]


def counted(change: Change) -> set[str]:
    """Which counters a change adds to."""
    counters = ("entered", "started", "left", "waits")
    return {name for name in counters if getattr(change, name)}


def test_from_the_first_snapshot_nothing_is_counted_but_its_groups_are_known() -> None:
    change = last([queued("a"), running("b")])
    assert set(change.groups) == {QUEUED, RUNNING}
    assert counted(change) == set()


def test_an_unchanged_queue_changes_nothing() -> None:
    change = last([queued("a"), running("b")], [queued("a"), running("b")])
    assert counted(change) == set()


def test_a_run_that_is_new_has_entered() -> None:
    change = last([queued("a")], [queued("a"), queued("b"), queued("c")])
    assert change.entered == {ROUTING: 2}
    assert counted(change) == {"entered"}


def test_a_run_that_was_queued_and_is_running_has_started() -> None:
    change = last([queued("a"), queued("b")], [running("a"), queued("b")])
    assert change.started == {ROUTING: 1}
    assert counted(change) == {"started", "waits"}


def test_a_run_that_is_new_and_running_has_entered_and_started() -> None:
    change = last([], [running("a")])
    assert (change.entered, change.started) == ({ROUTING: 1}, {ROUTING: 1})


def test_a_run_that_is_gone_has_left_from_where_it_was_seen_last() -> None:
    change = last([queued("a"), running("b"), running("c")], [])
    assert change.left == {QUEUED: 1, RUNNING: 2}
    assert counted(change) == {"left"}


def test_a_run_that_was_running_in_the_first_snapshot_has_not_started() -> None:
    assert not last([running("a")], [running("a")]).started


def test_a_run_that_goes_back_to_the_queue_neither_leaves_nor_enters_and_can_start_again() -> None:
    back, again = changes([running("a")], [queued("a")], [running("a")])[1:]
    assert counted(back) == set()
    assert again.started == {ROUTING: 1}


@pytest.mark.parametrize("status", ["failed", "Paused", None])
def test_a_run_that_comes_from_another_status_has_not_started(status: str | None) -> None:
    other = run(status, CLASS, APP, CREATED, "a")
    change = last([other], [running("a")])
    assert counted(change) == set()


@pytest.mark.parametrize(("status", "shown"), [("Paused", "Paused"), (None, "unknown")])
def test_a_run_of_an_unknown_status_enters_and_leaves_as_any_other(
    status: str | None, shown: str
) -> None:
    other = run(status, CLASS, APP, CREATED, "a")
    entered, left = changes([], [other], [])[1:]
    assert entered.entered == {ROUTING: 1}
    assert left.left == {Group(shown, *ROUTING): 1}


@pytest.mark.parametrize("run_id", [None, ""])
def test_runs_without_an_id_take_no_part(run_id: str | None) -> None:
    for change in changes([], [queued(run_id), queued(run_id)], [running(run_id)], []):
        assert counted(change) == set()


def test_a_run_that_moves_to_another_application_is_the_same_run() -> None:
    moved = run("queued", CLASS, "packing", CREATED, "a")
    change = last([queued("a")], [moved])
    assert counted(change) == set()


def test_a_run_that_is_listed_several_times_is_one() -> None:
    elsewhere = run("queued", "2c4gb10m", "packing", CREATED, "a")
    entered, still, left = changes(
        [], [queued("a"), elsewhere, queued("a")], [elsewhere, queued("a")], []
    )[1:]
    assert entered.entered == {Backlog("2c4gb10m", "packing"): 1}
    assert counted(still) == set()
    assert sum(left.left.values()) == 1


def test_a_run_that_is_listed_both_queued_and_running_is_running() -> None:
    entered, left = changes([], [queued("a"), running("a")], [])[1:]
    assert (entered.entered, entered.started) == ({ROUTING: 1}, {ROUTING: 1})
    assert left.left == {RUNNING: 1}


def test_a_run_that_is_listed_both_queued_and_with_another_status_is_queued() -> None:
    paused = run("paused", CLASS, APP, CREATED, "a")
    entered, left = changes([], [paused, queued("a")], [])[1:]
    assert entered.entered == {ROUTING: 1}
    assert left.left == {QUEUED: 1}


# Waits


@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [
        pytest.param("2026-11-23T11:50:00Z", 592.5, id="middle of the interval"),
        pytest.param("2026-11-23T11:59:55Z", 2.5, id="created within the interval"),
        pytest.param("2026-11-23T12:00:00Z", 0, id="created at the snapshot"),
        pytest.param("2026-11-23T12:00:40Z", 0, id="created in the future"),
    ],
)
def test_a_wait_ends_in_the_middle_of_the_time_in_which_the_run_started(
    created_at: str, seconds: float
) -> None:
    change = last([queued("a", created_at)], [running("a", created_at)])
    assert change.waits == {CLASS: [seconds]}


@pytest.mark.parametrize("created_at", [None, "0001-01-01T00:00:00Z"])
def test_a_start_without_a_known_creation_has_no_wait(created_at: str | None) -> None:
    change = last([queued("a", created_at)], [running("a", created_at)])
    assert change.started == {ROUTING: 1}
    assert not change.waits


@pytest.mark.parametrize(("gap", "waits"), [(0, 1), (MAX_GAP, 1), (MAX_GAP + 1, 0), (-60, 0)])
def test_a_gap_that_is_too_long_counts_starts_but_no_waits(gap: float, waits: int) -> None:
    change = last([queued("a")], [running("a")], every=gap)
    assert change.started == {ROUTING: 1}
    assert len(change.waits.get(CLASS, ())) == waits


def test_a_run_that_is_listed_twice_has_one_wait_since_its_earliest_creation() -> None:
    later = "2026-11-23T11:30:00Z"
    for runs in ([running("a", later), running("a")], [running("a"), running("a", later)]):
        assert last([queued("a")], runs).waits == {CLASS: [3592.5]}


# Snapshots put together from pages


def test_a_run_that_a_page_boundary_hides_once_counts_neither_as_left_nor_as_entered() -> None:
    hidden, back = changes([queued("a")], [], [queued("a")], ended=NOBODY)[1:]
    for change in (hidden, back):
        assert counted(change) == set()


def test_a_run_that_is_missing_twice_from_pages_has_left() -> None:
    once, twice, thrice = changes([queued("a")], [], [], [], ended=NOBODY)[1:]
    assert not once.left
    assert twice.left == {QUEUED: 1}
    assert not thrice.left


def test_a_run_that_pages_list_as_ended_has_left_at_once() -> None:
    once, twice = changes([queued("a")], [], [], ended={hash("a"), hash("b")})[1:]
    assert once.left == {QUEUED: 1}
    assert not twice.left


def test_a_run_that_pages_list_both_as_running_and_as_ended_is_still_there() -> None:
    assert counted(last([running("a")], [running("a")], ended={hash("a")})) == set()


def test_a_run_that_started_while_hidden_has_started() -> None:
    change = last([queued("a")], [], [running("a")], ended=NOBODY)
    assert change.started == {ROUTING: 1}
    assert counted(change) == {"started", "waits"}


def test_a_hidden_run_has_left_at_once_when_the_next_snapshot_is_complete() -> None:
    baseline, _ = compare(None, take_snapshot([queued("a")], NOW - 30), NOBODY)
    baseline, _ = compare(baseline, take_snapshot([], NOW - 15), NOBODY)
    _, change = compare(baseline, take_snapshot([], NOW))
    assert change.left == {QUEUED: 1}


def test_no_wait_is_observed_of_a_run_that_the_snapshot_before_could_not_have() -> None:
    baseline, _ = compare(None, take_snapshot([], NOW - 15), NOBODY)
    after = take_snapshot([running("a"), running("b")], NOW)
    _, change = compare(baseline, after, NOBODY, unseen={hash("a")})
    assert change.entered == change.started == {ROUTING: 2}
    assert [len(waits) for waits in change.waits.values()] == [1]


# Properties

ids = st.sampled_from([None, "", *"abcdefgh"])
runs = st.builds(
    run,
    st.sampled_from(["queued", "QUEUED", "running", "failed", "Paused", None]),
    st.sampled_from(["c", "d", None]),
    st.sampled_from(["x", "y", ""]),
    st.sampled_from([CREATED, "2026-11-23T11:59:59Z", "2026-11-23T13:00:00Z", None]),
    ids,
)
sequences = st.lists(st.lists(runs, max_size=10), min_size=1, max_size=6)


def distinct(runs: Iterable[Run]) -> set[str]:
    return {each.id for each in runs if each.id}


@dataclass
class Totals:
    entered: int = 0
    started: int = 0
    left: int = 0
    waits: int = 0


def total(found: Iterable[Change]) -> Totals:
    sums = Totals()
    for change in found:
        sums.entered += sum(change.entered.values())
        sums.started += sum(change.started.values())
        sums.left += sum(change.left.values())
        sums.waits += sum(map(len, change.waits.values()))
    return sums


@given(sequences)
def test_entered_less_left_is_how_much_the_queue_has_grown(snapshots: list[list[Run]]) -> None:
    sums = total(changes(*snapshots))
    assert sums.entered - sums.left == len(distinct(snapshots[-1])) - len(distinct(snapshots[0]))


@given(sequences)
def test_pages_count_what_a_single_response_does_once_the_queue_stands_still(
    snapshots: list[list[Run]],
) -> None:
    """But for runs that are gone from one snapshot and back in the next: they never left."""
    for first, hiding, second in zip(snapshots, snapshots[1:], snapshots[2:], strict=False):
        hidden = distinct(first) & distinct(second) - distinct(hiding)
        hiding += [each for each in first if each.id in hidden]
    settled = [*snapshots, snapshots[-1]]
    whole, paged = total(changes(*settled)), total(changes(*settled, ended=NOBODY))
    assert (whole.entered, whole.left) == (paged.entered, paged.left)


@given(sequences)
def test_no_count_is_negative_and_no_more_runs_start_than_run(snapshots: list[list[Run]]) -> None:
    for runs, change in zip(snapshots, changes(*snapshots), strict=True):
        counts = [*change.entered.values(), *change.started.values(), *change.left.values()]
        assert all(number > 0 for number in counts)
        started = sum(change.started.values())
        assert started <= len(distinct(each for each in runs if each.status_v2 == "running"))
        assert sum(map(len, change.waits.values())) <= started
        assert all(0 <= wait < 3600 for waits in change.waits.values() for wait in waits)


@given(sequences, st.randoms(use_true_random=False), st.sampled_from([None, NOBODY]))
def test_the_order_of_a_snapshots_runs_does_not_matter(
    snapshots: list[list[Run]], random: Random, ended: AbstractSet[int] | None
) -> None:
    def sorted_waits(change: Change) -> object:
        return {name: sorted(waits) for name, waits in change.waits.items()}

    before = changes(*snapshots, ended=ended)
    for runs in snapshots:
        random.shuffle(runs)
    for one, other in zip(before, changes(*snapshots, ended=ended), strict=True):
        assert (one.entered, one.started, one.left) == (other.entered, other.started, other.left)
        assert sorted_waits(one) == sorted_waits(other)


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.booleans()), min_size=2, max_size=8))
def test_it_agrees_with_a_plain_count_run_by_run(states: list[dict[str, bool]]) -> None:
    plain: Counter[str] = Counter()
    for before, after in pairwise(states):
        for each in before.keys() | after.keys():
            plain["entered"] += each not in before
            plain["left"] += each not in after
            plain["started"] += after.get(each, False) and not before.get(each, False)
    snapshots = [[running(i) if runs else queued(i) for i, runs in s.items()] for s in states]
    sums = total(changes(*snapshots))
    assert (sums.entered, sums.left, sums.started) == (
        plain["entered"],
        plain["left"],
        plain["started"],
    )
    assert sums.waits == sums.started
