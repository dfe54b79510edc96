"""Lists without end cost no more memory and time than one response may."""

import gc
import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import requests
from support.exporter import exporter_process
from support.waiting import until

from faults.fault_server import (
    Conversation,
    FaultServer,
    answer,
    never_answers,
    resets,
    stalls_in_the_body,
)
from faults.running_exporter import fetches, scrape
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.scrape.sources import choose_source
from nextmv_exporter.scrape.target import ScrapeOptions, Target

MIB = 1024 * 1024
LIMIT = 16 * MIB
TIMEOUT = 6.0
FLAGS = (
    f"--nextmv.max-response-bytes={LIMIT}",
    "--nextmv.source=application-runs",
    f"--nextmv.timeout={TIMEOUT}s",
)

numbers = itertools.count()


def some_run(random: Random) -> dict[str, Any]:
    """A run of any size that is in the queue, from the smallest to one full of long texts."""
    text = "x" * random.choice([1, 10, 300])
    run = {
        "id": f"{next(numbers)}{text}",
        "status_v2": random.choice(["queued", "running", "QUEUED"]),
        "execution_class": text,
        "application_id": f"{random.randrange(10_000)}",
        "created_at": datetime.now(UTC).isoformat(),
    }
    kept = random.sample(sorted(run), random.randint(0, len(run)))
    return {name: run[name] for name in {*kept, "status_v2"}}


def renamed(run: dict[str, Any]) -> dict[str, Any]:
    return run | {"id": f"{next(numbers)}"} if "id" in run else run


def endless(random: Random, of_applications: bool, page_size: int) -> Any:
    """Serves pages without end, of runs or of applications."""

    def pages(runs: bool) -> Iterator[bytes]:
        template = [some_run(random) for _ in range(page_size)]
        while True:
            if runs:
                # Another ID each time, or the same run would be known again.
                items = [
                    run | ({"id": f"{next(numbers)}"} if "id" in run else {}) for run in template
                ]
                page: dict[str, Any] = {"runs": items}
            else:
                page = {"items": [{"id": f"{next(numbers)}"} for _ in range(page_size)]}
            yield answer(json.dumps(page | {"next_page_token": f"{next(numbers)}"}).encode())

    def behave(conversation: Conversation) -> None:
        listing = pages(runs=True), pages(runs=False)
        while head := conversation.hear():
            if b"/runs?" in head:
                conversation.say(next(listing[0]))
            elif of_applications:
                conversation.say(next(listing[1]))
            else:
                items = [{"id": f"app-{number}"} for number in range(random.choice([1, 20]))]
                conversation.say(answer(json.dumps({"items": items}).encode()))

    return behave


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("of_applications", [False, True], ids=["runs", "applications"])
def test_pages_without_end_are_bounded_in_memory_and_time(seed: int, of_applications: bool) -> None:
    random = Random(seed)
    page_size = random.choice([1, 100, 10_000])
    behave = endless(random, of_applications, page_size)
    with (
        FaultServer(behave) as server,
        exporter_process(*FLAGS, endpoint=server.url) as exporter,
    ):
        requests.get(f"http://{exporter.address}/", timeout=10)
        idle = exporter.resident_mib
        start = time.monotonic()
        answered = scrape(exporter.address)
        seconds = time.monotonic() - start
        peak = exporter.status("VmHWM") / 1024

    assert not answered.up
    assert answered.reasons <= {"response_too_large", "invalid_response", "timeout"}
    assert peak - idle <= 4 * LIMIT / MIB, (page_size, answered.reasons)
    assert seconds < TIMEOUT + 5, "one second on an idle machine"


@pytest.mark.parametrize("seed", range(3))
def test_a_failed_fetch_is_freed_without_garbage_collection(seed: int) -> None:
    """Runs are not seen by the garbage collector, so that it would rarely run."""
    random = Random(seed)
    behaviours = [
        endless(random, of_applications=False, page_size=100),
        endless(random, of_applications=True, page_size=5000),
        never_answers,
        stalls_in_the_body,
        resets,
    ]
    with FaultServer(behaviours[0]) as server:
        client = Client("key", server.url, max_response_bytes=MIB)
        source = choose_source("application-runs", 3600)
        target = Target("account", client, source, ScrapeOptions(timeout=1))
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for behave in behaviours:
                server.behave = behave
                server.close_connections()
                deadline = Deadline(1)
                assert target.result(target.start(deadline), deadline).outcome.failure
                until(lambda: not fetches(), what="the end of the fetch")
            gc.collect()
            assert not [found for found in gc.garbage if isinstance(found, BaseException)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            client.close()
