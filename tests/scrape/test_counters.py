"""What an account's scrapes have counted, from changes to values."""

import pytest

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import REQUEST_BUCKETS, AccountMetrics, Counters
from nextmv_exporter.scrape.flow import Change
from nextmv_exporter.scrape.summary import OTHER, QUEUED, RUNNING, Backlog, Distribution, Group

BOUNDS = (5.0, 60.0)
NOW = 1_800_000_000.0
A, B, C = (Backlog("class", name) for name in "abc")
ELSEWHERE = Backlog("other class", "a")


def metrics(max_groups: int = 10) -> AccountMetrics:
    return AccountMetrics(wait_buckets=BOUNDS, max_groups=max_groups)


def queued(*backlogs: Backlog) -> list[Group]:
    return [Group(QUEUED, *backlog) for backlog in backlogs]


def after(*changes: Change, max_groups: int = 10) -> Counters:
    counted = metrics(max_groups)
    for change in changes:
        counted.add_flow(change)
    return counted.copy()


def test_at_first_all_errors_are_zero_and_there_is_nothing_else() -> None:
    zeros = {reason.value: 0 for reason in Reason}
    assert metrics().copy() == Counters(zeros, {}, {}, {}, {}, {}, {}, ())


def test_errors_and_requests_are_counted_by_what_they_were() -> None:
    counted = metrics()
    counted.count_error(Reason.TIMEOUT)
    counted.count_error(Reason.TIMEOUT)
    counted.observe_request("queue", "200", 0.005)
    counted.observe_request("queue", "error", 11.0)
    counted.observe_request("runs", "200", 0.3)
    found = counted.copy()
    assert {name: number for name, number in found.errors.items() if number} == {"timeout": 2}
    assert found.requests == {("queue", "200"): 1, ("queue", "error"): 1, ("runs", "200"): 1}
    times = found.request_times
    assert list(times) == ["queue", "runs"]
    finite = len(REQUEST_BUCKETS)
    assert times["queue"] == Distribution(REQUEST_BUCKETS, [1] * finite, 2, 11.005)
    assert times["runs"].buckets == [int(bound >= 0.3) for bound in REQUEST_BUCKETS]


def test_a_wait_is_in_the_buckets_whose_bound_it_does_not_exceed() -> None:
    waits = {"class": [4.9, 5.0, 5.1, 60.0, 60.1]}
    found = after(Change(NOW, queued(A), waits=waits))
    assert found.start_waits == {"class": Distribution(BOUNDS, [2, 4], 5, sum(waits["class"]))}


def test_a_new_groups_counters_begin_at_zero() -> None:
    found = after(Change(NOW, [Group("paused", *A)]))
    assert found.entered == found.started == {A: 0}
    assert found.left == {Group(status, *A): 0 for status in (QUEUED, RUNNING, "paused")}
    assert found.start_waits == {"class": Distribution(BOUNDS, [0, 0], 0, 0.0)}


def test_changes_are_added_up() -> None:
    change = Change(
        NOW, queued(A, B), entered={A: 2, B: 1}, started={B: 3}, left={Group(RUNNING, *A): 4}
    )
    found = after(change, change)
    assert found.entered == {A: 4, B: 2}
    assert found.started == {A: 0, B: 6}
    assert {group: number for group, number in found.left.items() if number} == {
        Group(RUNNING, *A): 8
    }


def test_a_copy_does_not_change() -> None:
    counted = metrics()
    counted.add_flow(Change(NOW, queued(A), entered={A: 1}, waits={"class": [1.0]}))
    before, same = counted.copy(), counted.copy()
    counted.add_flow(Change(NOW + 1, queued(B), entered={A: 1, B: 1}, waits={"class": [1.0]}))
    counted.count_error(Reason.AUTH)
    counted.observe_request("queue", "200", 1.0)
    assert before == same != counted.copy()


# Limits


def test_beyond_max_groups_backlogs_are_counted_as_others_of_their_class() -> None:
    groups = queued(A, B, C, ELSEWHERE)
    entered = {A: 1, B: 2, C: 4, ELSEWHERE: 8}
    found = after(Change(NOW, groups, entered=entered, started=entered), max_groups=2)
    folded = {A: 1, B: 2, Backlog("class", OTHER): 4, Backlog(OTHER, OTHER): 8}
    assert found.entered == found.started == folded


def test_backlogs_that_are_known_go_on_beyond_max_groups() -> None:
    first = Change(NOW, queued(A, B), entered={A: 1, B: 1})
    found = after(first, Change(NOW + 1, queued(A, B, C), entered={A: 1, B: 1}), max_groups=2)
    assert found.entered == {A: 2, B: 2, Backlog("class", OTHER): 0}


def test_waits_of_a_class_beyond_max_groups_are_those_of_others() -> None:
    waits = {"class": [1.0], "other class": [2.0]}
    found = after(Change(NOW, queued(A, ELSEWHERE), waits=waits), max_groups=1)
    assert {name: times.sum for name, times in found.start_waits.items()} == {
        "class": 1.0,
        OTHER: 2.0,
    }


def test_statuses_beyond_four_times_max_groups_are_counted_as_others() -> None:
    odd = [Group(f"status {number}", *A) for number in range(5)]
    first = Change(NOW, odd)  # with queued and running, more than four
    left = {**dict.fromkeys(odd, 1), Group(QUEUED, *A): 1, Group(RUNNING, *A): 1}
    found = after(first, Change(NOW + 1, odd, left=left), max_groups=1)
    assert found.left == {
        Group(QUEUED, *A): 1,
        Group(RUNNING, *A): 1,
        Group("status 0", *A): 1,
        Group("status 1", *A): 1,
        Group(OTHER, *A): 3,
    }


def test_queued_and_running_runs_are_never_counted_as_others() -> None:
    odd = [Group(f"status {number}", *A) for number in range(6)]
    found = after(
        Change(NOW, odd), Change(NOW + 1, queued(B), left={queued(B)[0]: 1}), max_groups=2
    )
    assert len(found.left) == 10
    assert found.left[queued(B)[0]] == 1


# The last minutes, for the status page


@pytest.mark.parametrize(
    ("later", "numbers"), [(0, (1, 2)), (300, (1, 2)), (300.5, None), (-1, None)]
)
def test_arrivals_and_starts_are_those_of_the_last_five_minutes(
    later: float, numbers: tuple[int, int] | None
) -> None:
    found = after(Change(NOW, queued(A), entered={A: 1}, started={A: 2}))
    assert found.recent_flow(NOW + later) == ({"class": numbers} if numbers else {})


def test_they_are_summed_up_by_class_in_the_order_of_names() -> None:
    first = Change(NOW, queued(B, A, ELSEWHERE), entered={A: 1, B: 2, ELSEWHERE: 3})
    found = after(first, Change(NOW + 10, queued(A), started={A: 4}))
    flow = found.recent_flow(NOW + 20)
    assert flow == {"class": (3, 4), "other class": (3, 0)}
    assert list(flow) == sorted(flow)


@pytest.mark.parametrize(("later", "kept"), [(0, 2), (300, 2), (301, 1), (-1, 1)])
def test_what_is_out_of_date_is_dropped(later: float, kept: int) -> None:
    def entered(now: float) -> Change:
        return Change(now, queued(A), entered={A: 1})

    found = after(entered(NOW), entered(NOW + later))
    assert [now for now, *_ in found.recent] == [NOW, NOW + later][-kept:]


def test_a_scrape_without_changes_is_not_kept() -> None:
    assert after(Change(NOW, queued(A), left={queued(A)[0]: 1})).recent == ()
