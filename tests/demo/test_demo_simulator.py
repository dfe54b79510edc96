from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextmv_exporter.demo.catalogue import APPLICATIONS, EXECUTION_CLASSES, ExecutionClass
from nextmv_exporter.demo.execution_queue import HISTORY, ExecutionQueue
from nextmv_exporter.demo.runs import Run, Status
from nextmv_exporter.demo.simulator import Simulator

START = 1_790_000_000.0
MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
DEFAULT = EXECUTION_CLASSES[0].name


def execution_queue(execution_class: ExecutionClass, *, seed: int = 1) -> ExecutionQueue:
    return ExecutionQueue(execution_class, APPLICATIONS, seed=seed, opening=START)


def over(account: Simulator, *, duration: float, step: float) -> Iterator[float]:
    for number in range(int(duration / step)):
        account.advance(START + number * step)
        yield number * step


def listed(account: Simulator) -> list[Run]:
    return [run for app in account.applications for run in account.runs(app.id)]


def test_the_same_seed_and_time_give_the_same_account() -> None:
    one, other = (Simulator(seed=7, start=START) for _ in range(2))
    for account in (one, other):
        account.advance(START + HOUR)
    assert one.queue() == other.queue()
    assert listed(one) == listed(other)


def test_another_seed_gives_another_account() -> None:
    one, other = (Simulator(seed=seed, start=START) for seed in (1, 2))
    assert {run.id for run in listed(one)}.isdisjoint(run.id for run in listed(other))
    assert {run.user_email for run in listed(one)}.isdisjoint(
        run.user_email for run in listed(other)
    )


@settings(deadline=None)
@given(
    execution_class=st.sampled_from(EXECUTION_CLASSES),
    seed=st.integers(0, 1000),
    steps=st.lists(st.floats(0, 20 * MINUTE), max_size=30),
)
def test_the_state_at_a_time_does_not_depend_on_the_steps_taken_to_it(
    execution_class: ExecutionClass, seed: int, steps: list[float]
) -> None:
    stepped = execution_queue(execution_class, seed=seed)
    now = START
    for step in steps:
        now += step
        stepped.advance(now)
    at_once = execution_queue(execution_class, seed=seed)
    at_once.advance(now)
    assert stepped.queued == at_once.queued
    assert stepped.running == at_once.running
    assert stepped.ended == at_once.ended
    assert stepped.events == at_once.events


def test_time_never_goes_back() -> None:
    account = Simulator(seed=1, start=START)
    account.advance(START + HOUR)
    before = account.queue()
    account.advance(START)
    assert account.queue() == before


def test_no_class_runs_more_than_its_concurrency_limit_nor_waits_below_it() -> None:
    account = Simulator(seed=1, start=START)
    limits = {each.name: each.concurrency for each in EXECUTION_CLASSES}
    for _ in over(account, duration=6 * HOUR, step=5):
        for name, queue in account.queues.items():
            assert len(queue.running) <= limits[name]
            assert not queue.queued or len(queue.running) == limits[name]


def test_whatever_starts_goes_before_all_that_waited_and_still_wait() -> None:
    account = Simulator(seed=3, start=START)
    before = {run.id: run for run in account.queue()}
    started = 0
    for _ in over(account, duration=2 * HOUR, step=10):
        after = {run.id: run for run in account.queue()}
        for queue in account.queues.values():
            starting = [run for run in queue.running.values() if is_queued(before.get(run.id))]
            waiting = [run for run in queue.queued if run.id in before]
            assert all(turn(first) < turn(later) for first in starting for later in waiting)
            started += len(starting)
        before = after
    assert started > 100


def is_queued(run: Run | None) -> bool:
    return run is not None and run.status is Status.QUEUED


def turn(run: Run) -> tuple[int, float]:
    return run.priority, run.created_at


def test_runs_are_canceled_both_while_they_wait_and_while_they_run() -> None:
    account = Simulator(seed=1, start=START)
    last_seen: dict[str, Status] = {}
    for _ in over(account, duration=2 * HOUR, step=1):
        last_seen |= {run.id: run.status for run in account.queue()}
    canceled = {run.id for run in listed(account) if run.status is Status.CANCELED}
    assert {last_seen[run] for run in canceled & last_seen.keys()} == {
        Status.QUEUED,
        Status.RUNNING,
    }


def test_a_day_sees_runs_end_in_every_way_and_of_every_priority() -> None:
    account = Simulator(seed=1, start=START)
    account.advance(START + DAY)
    runs = listed(account)
    assert {run.status for run in runs} == set(Status)
    assert {run.priority for run in runs} == {1, 3, 6, 9}
    assert Counter(run.priority for run in runs).most_common(1)[0][0] == 6
    assert {run.application_id for run in runs} == {app.id for app in APPLICATIONS}
    assert {run.execution_class for run in runs} == {each.name for each in EXECUTION_CLASSES}


@pytest.mark.parametrize("execution_class", EXECUTION_CLASSES, ids=lambda each: each.name)
def test_every_queue_fills_and_drains_over_a_day(execution_class: ExecutionClass) -> None:
    queue = execution_queue(execution_class)
    lengths = []
    for minute in range(24 * 60):
        queue.advance(START + minute * MINUTE)
        lengths.append(len(queue.queued))
    assert max(lengths) >= 3
    assert 0 in lengths[lengths.index(max(lengths)) :]
    assert lengths.count(0) > 100


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_newcomer_finds_runs_queued_and_sees_them_grow_and_drain_in_five_minutes(
    seed: int,
) -> None:
    account = Simulator(seed=seed, start=START)
    assert {run.status for run in account.queue()} == {Status.QUEUED, Status.RUNNING}
    lengths = [
        sum(run.status is Status.QUEUED for run in account.queue())
        for _ in over(account, duration=5 * MINUTE, step=15)
    ]
    assert max(lengths) - min(lengths) >= 10
    assert lengths.index(min(lengths)) != lengths.index(max(lengths))
    assert len(set(lengths[: 2 * 4])) >= 3


def test_what_is_remembered_stays_bounded_over_days() -> None:
    account = Simulator(seed=1, start=START)
    for _ in over(account, duration=4 * DAY, step=DAY / 4):
        for queue in account.queues.values():
            assert len(queue.ended) <= HISTORY
            assert len(queue.queued) < 100
            assert len(queue._agenda) < 100


def test_a_runs_place_in_listings_never_changes_and_new_runs_come_last() -> None:
    account = Simulator(seed=1, start=START)
    before = {run.id: run.position for run in listed(account)}
    newest = max(before.values())
    account.advance(START + 10 * MINUTE)
    after = {run.id: run.position for run in listed(account)}
    assert all(after[run] == before[run] for run in before.keys() & after.keys())
    assert all(after[run] > newest for run in after.keys() - before.keys())


def test_a_stuck_class_starts_nothing_while_its_queue_grows_and_the_others_go_on() -> None:
    stuck = Simulator(seed=1, start=START, stuck=[DEFAULT])
    sound = Simulator(seed=1, start=START)
    assert stuck.queue() == sound.queue()
    running = dict(stuck.queues[DEFAULT].running)
    waiting = len(stuck.queues[DEFAULT].queued)
    for account in (stuck, sound):
        account.advance(START + HOUR)
    assert stuck.queues[DEFAULT].running == running
    assert len(stuck.queues[DEFAULT].queued) > waiting + 500
    for name in stuck.queues.keys() - {DEFAULT}:
        assert stuck.queues[name].queued == sound.queues[name].queued
        assert stuck.queues[name].ended == sound.queues[name].ended


def test_the_revision_changes_whenever_the_queue_does() -> None:
    account = Simulator(seed=1, start=START)
    queue, revision = account.queue(), account.revision
    changes = 0
    for _ in over(account, duration=10 * MINUTE, step=0.5):
        if account.queue() != queue:
            changes += 1
            assert account.revision > revision
        queue, revision = account.queue(), account.revision
    assert changes > 50
