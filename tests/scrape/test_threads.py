"""Threads that are used again, and work that is done in several of them."""

import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import pytest
from support.waiting import until

from nextmv_exporter.nextmv.errors import ConnectionFailedError
from nextmv_exporter.scrape import threads
from nextmv_exporter.scrape.threads import MAX_IDLE, STACK_BYTES, Workers, each_in_parallel


def run_and_wait(workers: Workers, look: Callable[[], object]) -> object:
    seen: SimpleQueue[object] = SimpleQueue()
    workers.run(lambda: seen.put(look()), "test")
    result = seen.get(timeout=5)
    until(lambda: workers._idle, seconds=5, what="the thread to be idle")
    return result


def test_one_thread_does_what_comes_one_after_another() -> None:
    workers = Workers()
    assert len({run_and_wait(workers, threading.get_ident) for _ in range(5)}) == 1


def test_a_thread_has_the_name_of_its_work_and_is_a_daemon() -> None:
    workers = Workers()
    assert run_and_wait(workers, lambda: threading.current_thread().name) == "test"
    thread = run_and_wait(workers, threading.current_thread)
    assert isinstance(thread, threading.Thread)
    assert (thread.name, thread.daemon) == ("idle", True)


def test_work_at_the_same_time_gets_threads_of_its_own_of_which_few_are_kept() -> None:
    workers, release = Workers(), threading.Event()
    running: SimpleQueue[int] = SimpleQueue()

    def work() -> None:
        running.put(threading.get_ident())
        release.wait(10)

    for _ in range(MAX_IDLE + 20):
        workers.run(work, "many")
    idents = {running.get(timeout=5) for _ in range(MAX_IDLE + 20)}
    assert len(idents) == MAX_IDLE + 20
    release.set()

    def left() -> int:
        return sum(thread.ident in idents for thread in threading.enumerate())

    until(lambda: left() == MAX_IDLE, seconds=5, what="the end of the others")
    assert workers._idle == MAX_IDLE


def test_an_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.05)
    ended: SimpleQueue[threading.Thread] = SimpleQueue()
    for _ in range(2):
        Workers().run(lambda: ended.put(threading.current_thread()), "test")
        thread = ended.get(timeout=5)
        thread.join(5)
        assert not thread.is_alive()


def test_work_that_arrives_while_threads_end_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.0)
    workers = Workers()
    done: SimpleQueue[int] = SimpleQueue()
    for number in range(2000):
        workers.run(partial(done.put, number), "test")
    assert {done.get(timeout=5) for _ in range(2000)} == set(range(2000))


def test_a_fork_starts_threads_of_its_own() -> None:
    workers = Workers()
    run_and_wait(workers, lambda: None)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        workers.run(lambda: os.close(writer), "test")
        threading.Event().wait(5)
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 4) == b"", "the child has closed its end too"
    os.close(reader)
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_the_stack_of_other_threads_stays_as_it_was() -> None:
    before = threading.stack_size()
    run_and_wait(Workers(), lambda: None)
    assert threading.stack_size() == before != STACK_BYTES


def test_results_are_in_the_order_of_the_items() -> None:
    assert each_in_parallel(range(50), lambda n: n * n, 8) == [n * n for n in range(50)]
    assert each_in_parallel([], lambda n: n, 8) == []


def test_fewer_threads_than_asked_for_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    run, left = threads.WORKERS.run, [1]

    def refuse_the_second(work: Callable[[], None], name: str) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        run(work, name)

    monkeypatch.setattr(threads.WORKERS, "run", refuse_the_second)
    assert each_in_parallel(range(5), lambda n: n, 4) == list(range(5))
    with pytest.raises(ConnectionFailedError, match=r"^can't start new thread$"):
        each_in_parallel(range(5), lambda n: n, 4)


def test_a_failure_is_raised_though_others_still_work() -> None:
    release = threading.Event()

    def work(number: int) -> None:
        if number:
            release.wait(10)
        else:
            raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        each_in_parallel(range(4), work, 4)
    release.set()


def test_after_a_failure_no_further_item_is_started() -> None:
    begun: list[int] = []
    other_begun, failed = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            assert other_begun.wait(5)
            raise ZeroDivisionError
        other_begun.set()
        assert failed.wait(5)

    with pytest.raises(ZeroDivisionError):
        each_in_parallel(range(100), work, 2)
    idle = threads.WORKERS._idle
    failed.set()
    until(lambda: threads.WORKERS._idle > idle, seconds=5, what="the other thread to be idle")
    assert begun == [0, 1]
