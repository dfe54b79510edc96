"""A hundred scrapes at once, of the real endpoint, with deadlines of their own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from support.exporter import exporter_here
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import value
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials


def test_a_hundred_scrapes_cost_one_request_and_hasty_ones_spoil_no_other(api: FakeAPI) -> None:
    api.serves(RUN)
    released = api.answer.held_until = threading.Event()
    accounts = {"default": Credentials(KEY, api.url)}
    with exporter_here(accounts=accounts) as exporter, ThreadPoolExecutor(100) as pool:

        def hasty() -> tuple[str, float]:
            began = time.monotonic()
            return exporter.scrape(timeout=2), time.monotonic() - began

        hurried = [pool.submit(hasty) for _ in range(20)]
        patient = [pool.submit(exporter.scrape, "", 25) for _ in range(80)]
        until(lambda: all(each.done() for each in hurried), what="the timeouts")
        assert not any(each.done() for each in patient)
        released.set()
        texts = [each.result() for each in patient]

    assert all(value(text, "nextmv_up") for text in texts)
    for each in hurried:
        body, seconds = each.result()
        assert value(body, "nextmv_up") == 0
        assert seconds < 20
    assert len(api.requests) == 1
    assert value(texts[0], "nextmv_scrape_errors_total", reason="timeout") == 1
    assert value(texts[0], "nextmv_account_queue_runs", status_v2="queued") == 1
