"""Random histories of a queue through a real API server, against the model of the contract."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from support.clock import Clock, stopped_clock
from support.fake_api import KEY, FakeAPI
from support.metrics import Series, parse
from support.model import MAX_RUN_SECONDS, Model, Run

from nextmv_exporter.collector import QueueCollector
from nextmv_exporter.nextmv import Account, Client
from nextmv_exporter.scrape.exposition import expose

SCRAPES = 30
FAILURES = {401: "auth", 429: "rate_limited", 404: "client_error", 500: "server_error"}
TIMED = ("nextmv_scrape_duration_seconds", "nextmv_api_request_duration_seconds")
CLASSES = (*MAX_RUN_SECONDS, "gpu", "1.5h", "", None)
OLD_FORMS = ("0001-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "yesterday", "", None, 17)
BUCKETS = (5.0, 60.0, 300.0, 3600.0)


class History:
    """A queue whose runs enter, start, change and leave at random."""

    def __init__(self, random: Random, odd: float) -> None:
        self.random = random
        self.odd = odd  # share of runs that are not as documented
        self.runs: list[Run] = []
        self.entered = 0

    def advance(self, now: float) -> None:
        random = self.random
        for run in list(self.runs):
            fate = random.random()
            if fate < 0.15:
                self.runs.remove(run)
            elif fate < 0.4:
                run["status_v2"] = "running"
            elif fate < 0.43:
                run["status_v2"] = "queued"
            elif fate < 0.45 and [each["id"] for each in self.runs].count(run["id"]) == 1:
                run["application_id"] = random.choice("abc")
        for _ in range(random.choice((0, 0, 1, 3, 8))):
            self.runs.append(self._new(now))
        if self.runs and random.random() < self.odd:
            twice = random.choice(self.runs)
            self.runs.append(twice | {"status_v2": random.choice((twice["status_v2"], "running"))})
        random.shuffle(self.runs)

    def _new(self, now: float) -> Run:
        random = self.random
        self.entered += 1
        age = random.choice((0, 1, 60, random.randrange(-30, 5000)))
        created = datetime.fromtimestamp(now - age, UTC).isoformat()
        run: Run = {
            "id": f"run-{self.entered}",
            "status_v2": random.choice(("queued", "queued", "running", "QUEUED")),
            "execution_class": random.choice(CLASSES[:3]),
            "application_id": random.choice("abcde"),
            "created_at": random.choice((created, created.replace("+00:00", "Z"), created[:19])),
        }
        while random.random() < self.odd:
            name = random.choice(list(run))
            run[name] = random.choice(
                {
                    "id": ("", None),
                    "execution_class": CLASSES,
                    "application_id": ("", None, 5, "__other__", 'a "quote"\\\n', "é"),
                    "status_v2": (None, "", "paused", "Succeeded", 7),
                    "created_at": OLD_FORMS,
                }[name]
            )
        return run


@pytest.fixture
def clock() -> Iterator[Clock]:
    with stopped_clock() as stopped:
        yield stopped


def exposed(collector: QueueCollector, accept: str) -> dict[Series, float]:
    text = expose([collector], accept=accept)[0].decode()
    series = parse(text.replace("# EOF\n", ""))
    return {each: value for each, value in series.items() if not each[0].startswith(TIMED)}


@pytest.mark.parametrize("max_groups", [2000, 12, 4, 1])
@pytest.mark.parametrize("seed", range(3))
def test_every_series_is_what_the_contract_says(
    seed: int, max_groups: int, api: FakeAPI, clock: Clock
) -> None:
    random = Random(f"{seed} {max_groups}")
    retention = random.choice((0.0, 45.0, 300.0))
    # With few groups, statuses are few too: the counters' limit on them is tested on its own.
    history = History(random, odd=random.choice((0.0, 0.3)) if max_groups > 100 else 0.0)
    model = Model("production", BUCKETS, max_groups, retention)
    collector = QueueCollector(
        {"production": Account(Client(KEY, api.url))},
        source="account-queue",
        wait_buckets=BUCKETS,
        max_groups=max_groups,
        zero_retention=retention,
    )
    compared = 0
    for _ in range(SCRAPES):
        clock.tick(random.choice((1, 15, 15, 60, 299, 301)))
        now = datetime.now(UTC).timestamp()
        history.advance(now)
        if random.random() < 0.15:
            status = random.choice((*FAILURES, 200))
            api.answers(status, b'{"runs": 3}')
            model.fail(FAILURES.get(status, "invalid_response"), str(status))
        else:
            api.serves(*history.runs)
            model.succeed(history.runs, now)
        found = exposed(collector, random.choice(("", "application/openmetrics-text")))
        offset = found.pop(
            ("nextmv_api_clock_offset_seconds", frozenset({("account", "production")}))
        )
        assert abs(offset) <= 1
        differences = differing(found, model.series())
        assert not differences, "a metric that is missing here: add it to tests/support/model.py"
        compared += len(found)
    assert compared > SCRAPES * 30


def differing(found: dict[Series, float], expected: dict[Series, float]) -> Any:
    """The series of which one side has another value, or none."""
    return {
        each: (found.get(each), expected.get(each))
        for each in found.keys() | expected.keys()
        if not math.isclose(found.get(each, math.nan), expected.get(each, math.nan), abs_tol=1e-6)
    }
