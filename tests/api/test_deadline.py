import time

import pytest

from nextmv_exporter.nextmv.client import Deadline

AGES = 3600.0


def test_time_runs_out_and_stays_out() -> None:
    deadline = Deadline(0.05)
    assert 0 < deadline.remaining() <= 0.05
    assert not deadline.over
    deadline.sleep(AGES)
    assert deadline.remaining() == 0.0


@pytest.mark.parametrize("seconds", [0, -1, AGES])
def test_without_any_time_or_cancelled_it_is_over_at_once(seconds: float) -> None:
    deadline = Deadline(seconds)
    assert deadline.over == (seconds <= 0)
    deadline.cancel()
    assert deadline.over


def test_a_later_deadline_extends_it_up_to_its_limit() -> None:
    deadline, fixed = Deadline(1, longest=600), Deadline(1)
    for other, seconds in ((0.5, 1), (300, 300), (AGES, 600)):
        deadline.extend(Deadline(other))
        fixed.extend(deadline)
        assert seconds - 60 < deadline.remaining() <= seconds
        assert time.monotonic() + 600 >= deadline.limit
    assert fixed.remaining() <= 1
