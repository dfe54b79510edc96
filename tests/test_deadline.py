import time

import pytest

from nextmv_exporter.deadline import Deadline

AGES = 3600.0


def test_time_runs_out_and_stays_out() -> None:
    deadline = Deadline(0.05)
    assert 0 < deadline.remaining() <= 0.05
    assert not deadline.over
    deadline.sleep(AGES)
    assert deadline.remaining() == 0.0


@pytest.mark.parametrize("seconds", [0, -1])
def test_without_any_time_it_is_over_from_the_start(seconds: float) -> None:
    assert Deadline(seconds).over


def test_cancelled_it_is_over_at_once_for_all_that_share_it() -> None:
    deadline = Deadline(AGES)
    deadline.cancel()
    assert deadline.over
    assert deadline.remaining() == 0.0


def test_a_short_sleep_is_no_longer_than_asked_for() -> None:
    deadline = Deadline(AGES)
    start = time.monotonic()
    deadline.sleep(0.01)
    assert time.monotonic() - start < 5
    assert not deadline.over


def test_a_later_deadline_extends_it_up_to_its_limit() -> None:
    deadline = Deadline(1, longest=60)
    deadline.extend(Deadline(0.5))
    assert deadline.remaining() <= 1
    deadline.extend(Deadline(30))
    assert 25 < deadline.remaining() <= 30
    deadline.extend(Deadline(AGES))
    assert 55 < deadline.remaining() <= 60
    fixed = Deadline(1)
    fixed.extend(deadline)
    assert fixed.remaining() <= 1
