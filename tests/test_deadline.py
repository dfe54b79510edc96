import threading
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


def test_called_off_it_is_over_at_once_for_all_who_have_it() -> None:
    deadline = Deadline(AGES)
    deadline.cancel()
    assert deadline.over
    assert deadline.remaining() == 0.0


def test_calling_it_off_wakes_who_sleeps() -> None:
    deadline = Deadline(AGES)
    sleeper = threading.Thread(target=deadline.sleep, args=(AGES,))
    sleeper.start()
    deadline.cancel()
    sleeper.join(5)
    assert not sleeper.is_alive()


def test_a_short_sleep_is_no_longer_than_asked_for() -> None:
    deadline = Deadline(AGES)
    start = time.monotonic()
    deadline.sleep(0.01)
    assert time.monotonic() - start < 5
    assert not deadline.over


def test_what_is_blocked_is_closed_when_time_runs_out() -> None:
    closed = threading.Event()
    with Deadline(0.05).closing(closed.set):
        assert closed.wait(5)


def test_what_is_blocked_is_closed_when_it_is_called_off() -> None:
    closed = threading.Event()
    deadline = Deadline(AGES)
    with deadline.closing(closed.set):
        deadline.cancel()
        assert closed.is_set()


def test_what_begins_after_it_was_called_off_is_closed_too() -> None:
    closed = threading.Event()
    deadline = Deadline(AGES)
    deadline.cancel()
    with deadline.closing(closed.set):
        assert closed.wait(5)


def test_each_of_several_is_closed() -> None:
    closed = [threading.Event(), threading.Event()]
    deadline = Deadline(AGES)
    with deadline.closing(closed[0].set), deadline.closing(closed[1].set):
        deadline.cancel()
        assert all(event.is_set() for event in closed)


def test_what_has_ended_in_time_is_not_closed_later() -> None:
    closed = threading.Event()
    deadline = Deadline(0.1)
    with deadline.closing(closed.set):
        pass
    deadline.sleep(AGES)
    deadline.cancel()
    assert not closed.is_set()


def test_what_has_failed_in_time_is_not_closed_later() -> None:
    closed = threading.Event()
    deadline = Deadline(AGES)
    with pytest.raises(ZeroDivisionError), deadline.closing(closed.set):
        raise ZeroDivisionError
    deadline.cancel()
    assert not closed.is_set()


def test_no_timer_is_left_behind() -> None:
    others = set(threading.enumerate())  # of other tests, which may end meanwhile
    with Deadline(AGES).closing(lambda: None):
        [timer] = set(threading.enumerate()) - others
    timer.join(5)
    assert not timer.is_alive()
