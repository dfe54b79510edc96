import time
from collections import Counter

import pytest

from nextmv_exporter.demo.catalogue import EXECUTION_CLASSES
from nextmv_exporter.demo.runs import Status
from nextmv_exporter.demo.standing import StandingAccount

AT = 1_790_000_000.0


@pytest.mark.parametrize("runs", [0, 1, 3, 10, 1000])
def test_the_queue_has_the_chosen_size(runs: int) -> None:
    account = StandingAccount(runs, at=AT)
    assert len(account.queue()) == runs
    assert len({run.id for run in account.queue()}) == runs


@pytest.mark.parametrize("applications", [1, 6, 7, 500])
def test_there_are_as_many_applications_as_chosen(applications: int) -> None:
    account = StandingAccount(20_000, at=AT, applications=applications)
    ids = [app.id for app in account.applications]
    assert len(set(ids)) == applications
    assert {run.application_id for run in account.queue()} == set(ids)


def test_classes_run_up_to_their_limits_and_the_rest_waits() -> None:
    account = StandingAccount(1000, at=AT)
    running = Counter(
        run.execution_class for run in account.queue() if run.status is Status.RUNNING
    )
    assert running == {each.name: each.concurrency for each in EXECUTION_CLASSES}
    queued = sum(run.status is Status.QUEUED for run in account.queue())
    assert queued == 1000 - running.total()


def test_every_run_is_older_than_the_chosen_time() -> None:
    account = StandingAccount(1000, at=AT)
    ages = [AT - run.created_at for run in account.queue()]
    assert min(ages) > 0
    assert max(ages) < 12 * 3600


def test_it_stands_still() -> None:
    account = StandingAccount(100, at=AT)
    queue, revision = list(account.queue()), account.revision
    account.advance(AT + 3600)
    assert (account.queue(), account.revision) == (queue, revision)


def test_listing_the_applications_runs_gives_the_queue() -> None:
    account = StandingAccount(1000, at=AT, applications=9)
    runs = [run for app in account.applications for run in account.runs(app.id)]
    assert sorted(runs, key=lambda run: run.id) == sorted(account.queue(), key=lambda run: run.id)


def test_the_same_seed_gives_the_same_account() -> None:
    assert StandingAccount(50, at=AT).queue() == StandingAccount(50, at=AT).queue()
    assert StandingAccount(50, at=AT).queue() != StandingAccount(50, at=AT, seed=2).queue()


def test_a_hundred_thousand_runs_are_there_within_seconds() -> None:
    started = time.process_time()
    StandingAccount(100_000, at=AT)
    assert time.process_time() - started < 10
