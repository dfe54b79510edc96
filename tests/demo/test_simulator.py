from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter.demo.catalogue import APPLICATIONS, EXECUTION_CLASSES, ExecutionClass
from nextmv_exporter.demo.simulator import (
    HISTORY,
    ExecutionQueue,
    Run,
    Simulator,
    StandingAccount,
)

START = 1_790_000_000.0
LIMITS = {each.name: each.concurrency for each in EXECUTION_CLASSES}


def over(account: Simulator, seconds: int, step: int) -> Iterator[None]:
    for elapsed in range(0, seconds, step):
        account.advance(START + elapsed)
        yield


def everything(account: Simulator) -> list[Run]:
    return [run for app in account.applications for run in account.runs(app.id)]


def state(queue: ExecutionQueue) -> object:
    return queue.queued, queue.running, queue.ended


def test_an_account_is_determined_by_seed_and_time() -> None:
    one, same, other = (Simulator(seed=seed, start=START) for seed in (7, 7, 8))
    for account in (one, same, other):
        account.advance(START + 3600)
    assert one.queue() == same.queue()
    assert everything(one) == everything(same)
    assert {run.id for run in everything(one)}.isdisjoint(run.id for run in everything(other))
    later = list(one.queue())
    one.advance(START)
    assert one.queue() == later, "time went back"


@given(
    execution_class=st.sampled_from(EXECUTION_CLASSES),
    seed=st.integers(0, 1000),
    steps=st.lists(st.floats(0, 1200), max_size=30),
)
def test_the_state_at_a_time_does_not_depend_on_the_steps_taken_to_it(
    execution_class: ExecutionClass, seed: int, steps: list[float]
) -> None:
    stepped, at_once = (ExecutionQueue(execution_class, seed=seed, opening=START) for _ in range(2))
    now = START
    for step in steps:
        now += step
        stepped.advance(now)
    at_once.advance(now)
    assert state(stepped) == state(at_once)


def test_a_class_runs_up_to_its_limit_and_starts_runs_in_the_order_of_its_queue() -> None:
    account = Simulator(seed=3, start=START)
    started = 0
    before: dict[str, list[str]] = {name: [] for name in LIMITS}
    for _ in over(account, 6 * 3600, step=5):  # shorter than any run
        for name, queue in account.queues.items():
            waiting = {run.id for run in queue.queued}
            assert len(queue.running) <= LIMITS[name]
            assert not waiting or len(queue.running) == LIMITS[name]
            known = [run for run in before[name] if run in waiting or run in queue.running]
            still = [run in waiting for run in known]
            assert still == sorted(still), "a run started before its turn"
            started += still.count(False)
            before[name] = [run.id for run in queue.queued]
    assert started > 500


def test_a_day_has_runs_of_every_kind_and_its_memory_is_bounded() -> None:
    account = Simulator(seed=1, start=START)
    last_seen: dict[str, str] = {}
    runs: dict[str, Run] = {}
    lengths: dict[str, list[int]] = {name: [] for name in LIMITS}
    for _ in over(account, 24 * 3600, step=60):
        last_seen |= {run.id: run.status_v2 for run in account.queue()}
        for name, queue in account.queues.items():
            lengths[name].append(len(queue.queued))
            runs |= {run.id: run for run in queue.ended}
            assert len(queue.ended) <= HISTORY
    assert {run.application_id for run in runs.values()} == {app.id for app in APPLICATIONS}
    ended = Counter(run.status_v2 for run in runs.values())
    assert ended["succeeded"] > 10 * ended["failed"] > 0
    canceled = {name for name, run in runs.items() if run.status_v2 == "canceled"}
    assert {last_seen[name] for name in canceled & last_seen.keys()} == {"queued", "running"}
    for name, each in lengths.items():
        assert max(each) >= 2, f"{name} never fills"
        assert 0 in each[each.index(max(each)) :], f"{name} never drains"


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_newcomer_sees_the_queue_grow_and_drain_in_five_minutes(seed: int) -> None:
    account = Simulator(seed=seed, start=START)
    found = Counter(run.status_v2 for run in account.queue())
    assert found["queued"] > 5 <= found["running"]
    assert len({(run.execution_class, run.application_id) for run in account.queue()}) > 5
    lengths = [
        sum(run.status_v2 == "queued" for run in account.queue())
        for _ in over(account, 300, step=15)
    ]
    assert max(lengths) - min(lengths) >= 10
    assert len(set(lengths[:8])) >= 3


@pytest.mark.parametrize(("runs", "applications"), [(0, 1), (1, 6), (10, 7), (20_000, 500)])
def test_a_standing_account_has_the_chosen_size(runs: int, applications: int) -> None:
    account = StandingAccount(runs, at=START, applications=applications)
    account.advance(START + 3600)
    queue = account.queue()
    ids = [app.id for app in account.applications]
    assert len(set(ids)) == applications
    assert len({run.id for run in queue}) == len(queue) == runs
    assert sorted(run.id for app in ids for run in account.runs(app)) == sorted(
        run.id for run in queue
    )
    running = Counter(run.execution_class for run in queue if run.status_v2 == "running")
    in_all = Counter(run.execution_class for run in queue)
    assert running == {name: min(LIMITS[name], number) for name, number in in_all.items()}
    assert all(0 <= START - run.created_at.timestamp() <= 12 * 3600 for run in queue)
    assert queue == StandingAccount(runs, at=START, applications=applications).queue()
