"""Scrapes of an account share the request in flight, and keep their own deadlines."""

import threading
from concurrent.futures import ThreadPoolExecutor

from support.waiting import until

from faults.fault_server import (
    Conversation,
    FaultServer,
    after,
    answers,
    never_answers,
    queue,
)
from faults.running_exporter import Scraped, exporter_here, fetches, scrape

RUN = {"status_v2": "queued", "execution_class": "c", "application_id": "a"}


def test_a_hundred_scrapes_at_once_cost_one_request() -> None:
    release = threading.Event()

    def hold(conversation: Conversation) -> None:
        while conversation.hear():
            release.wait(30)
            conversation.say(queue(RUN))

    with FaultServer(hold) as server, exporter_here(server.url) as address:
        with ThreadPoolExecutor(100) as pool:
            scrapes = [pool.submit(scrape, address, 25) for _ in range(100)]
            until(lambda: server.requests, seconds=10, what="the request")
            # What is held back is answered only after all hundred have been received.
            threading.Timer(2, release.set).start()
            answered = [each.result() for each in scrapes]
        requests = len(server.requests)

    assert all(each.up for each in answered)
    assert all(each.value("nextmv_account_queue_runs", status_v2="queued") for each in answered)
    assert requests == 1


def test_each_scrape_keeps_its_own_deadline() -> None:
    with (
        FaultServer(after(4, queue(RUN))) as server,
        exporter_here(server.url) as address,
        ThreadPoolExecutor(2) as pool,
    ):
        patient = pool.submit(scrape, address, 20)
        until(lambda: server.requests, seconds=10, what="the request")
        hasty = pool.submit(scrape, address, 1)
        hasty_answer, patient_answer = hasty.result(), patient.result()
        requests = len(server.requests)

    assert hasty_answer.seconds < 3
    assert hasty_answer.reasons == {"timeout"}
    assert not hasty_answer.up
    assert patient_answer.up
    assert requests == 1


def test_a_failure_that_many_scrapes_share_is_counted_once() -> None:
    with FaultServer(never_answers) as server, exporter_here(server.url) as address:
        with ThreadPoolExecutor(20) as pool:
            answered = list(pool.map(lambda _: scrape(address, 2), range(20)))
        until(lambda: not fetches(), seconds=5, what="the end of the thread")
        server.behave = answers(queue(RUN))
        later = scrape(address, 5)

    assert not any(each.up for each in answered)
    assert later.up
    assert later.errors("timeout") == 1


def test_a_scrape_after_the_shared_request_makes_its_own() -> None:
    def scrape_twice(address: str) -> list[Scraped]:
        return [scrape(address, 10), scrape(address, 10)]

    with FaultServer(answers(queue(RUN), queue())) as server, exporter_here(server.url) as address:
        first, second = scrape_twice(address)
        requests = len(server.requests)

    assert first.value("nextmv_account_queue_runs", status_v2="queued") == 1
    assert second.value("nextmv_account_queue_runs", status_v2="queued") == 0
    assert requests == 2


def test_a_client_that_goes_away_harms_nobody() -> None:
    import socket

    with FaultServer(after(1, queue(RUN))) as server, exporter_here(server.url) as address:
        host, port = address.split(":")
        for _ in range(10):
            with socket.create_connection((host, int(port))) as gone:
                gone.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = scrape(address, 10)

    assert answered.up
