"""The flow counters over a simulated day, against what the simulator says really happened.

Time is simulated; the way from the response's bytes to the exposition's is the real one.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec
import pytest
from nextmv_exporter.demo.execution_queue import ExecutionQueue
from support.metrics import Series, parse
from support.outcomes import ScrapedCollector

from nextmv_exporter.demo import Simulator, wire
from nextmv_exporter.scrape.counters import AccountMetrics
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.flow import MAX_GAP, Baseline, compare
from nextmv_exporter.scrape.outcome import Outcome, Scrape
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import Backlog, Group, summarise, take_snapshot

START = 1_800_000_000.0
DAY = 86_400
STEP = 5
BOUNDS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0)
NEVER = float("inf")


@dataclass
class Life:
    """A run as it really was; `started` and `left` are infinite if that has not happened."""

    backlog: Backlog
    arrived: float
    started: float = NEVER
    left: float = NEVER

    def status(self, moment: float) -> str | None:
        if not self.arrived <= moment < self.left:
            return None
        return "running" if moment >= self.started else "queued"


@dataclass
class Day:
    """All runs of a day, the API's response at every step of it, and what was made of these."""

    lives: Sequence[Life]
    bodies: Mapping[float, bytes]
    scrapers: "dict[str, Scraper]" = field(default_factory=dict)

    def scraped(self, name: str) -> "Scraper":
        """An exporter that was scraped at the times of that name."""
        if name not in self.scrapers:
            self.scrapers[name] = Scraper()
            for moment in TIMES[name]:
                self.scrapers[name].scrape(self.bodies[moment], moment)
        return self.scrapers[name]


def follow(queue: ExecutionQueue, to: float, lives: dict[str, Life]) -> None:
    """Bring a queue to a time, event by event, and note what each of them does."""
    while queue._agenda[0][0] <= to:
        moment = queue._agenda[0][0]
        queue.advance(moment)
        note(queue, moment, lives)


def note(queue: ExecutionQueue, moment: float, lives: dict[str, Life]) -> None:
    here = {run.id: run for run in (*queue.queued, *queue.running.values())}
    for run_id, run in here.items():
        backlog = Backlog(run.execution_class, run.application_id)
        life = lives.setdefault(run_id, Life(backlog, run.created_at))
        if run_id in queue.running:
            life.started = min(life.started, moment)
    for run_id, life in lives.items():
        if run_id not in here:
            life.left = min(life.left, moment)


@pytest.fixture(scope="module")
def day() -> Day:
    simulator = Simulator(seed=7, start=START)
    current: dict[str, dict[str, Life]] = defaultdict(dict)
    over: list[Life] = []
    bodies = {}
    for queue in simulator.queues.values():
        note(queue, START, current[queue._class.name])
    for second in range(0, DAY + 1, STEP):
        moment = START + second
        for queue in simulator.queues.values():
            lives = current[queue._class.name]
            follow(queue, moment, lives)
            gone = [run_id for run_id, life in lives.items() if life.left <= moment]
            over += [lives.pop(run_id) for run_id in gone]
        runs = [wire.queued_run(run) for run in simulator.queue()]
        bodies[moment] = msgspec.json.encode({"runs": runs})
    return Day([*over, *(life for lives in current.values() for life in lives.values())], bodies)


@dataclass
class Scraper:
    """An exporter between the bytes of the API and its own."""

    baseline: Baseline | None = None
    waits: list[float] = field(default_factory=list)
    metrics: AccountMetrics = field(
        default_factory=lambda: AccountMetrics(wait_buckets=BOUNDS, max_groups=2000)
    )

    def scrape(self, body: bytes, now: float) -> None:
        snapshot = take_snapshot(parse_queue(body), now)
        self.baseline, change = compare(self.baseline, snapshot)
        self.metrics.add_flow(change)
        self.waits += [wait for waits in change.waits.values() for wait in waits]

    def exposed(self, body: bytes, now: float) -> dict[Series, float]:
        snapshot = take_snapshot(parse_queue(body), now)
        summary = summarise(snapshot, wait_buckets=BOUNDS, max_groups=2000)
        outcome = Outcome("demo", "account-queue", 0.1, now, summary)
        text, _ = expose([ScrapedCollector([Scrape(outcome, self.metrics.copy())])])
        return parse(text.decode())


def counted(exposed: Mapping[Series, float], name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {
        labels: value
        for (series, labels), value in exposed.items()
        if series == f"nextmv_account_queue_{name}" and value
    }


def labels(group: Backlog | Group) -> frozenset[tuple[str, str]]:
    return frozenset({"account": "demo", **group._asdict()}.items())


def every(interval: int) -> list[float]:
    return [START + second for second in range(0, DAY + 1, interval)]


def failing() -> list[float]:
    """Every 15 s, but for a tenth of the scrapes, which fail."""
    random = Random(3)
    return [START, *(moment for moment in every(15)[1:] if random.random() < 0.9)]


def interrupted() -> list[float]:
    """Every 30 s, but for gaps of more than five minutes."""
    return [moment for moment in every(30) if (moment - START) % 3600 < 3600 - MAX_GAP - 60]


def shared() -> list[float]:
    """Two servers, one every 15 and one every 40 s, whose scrapes are all of one exporter."""
    return sorted({*every(15), *every(40)})


TIMES = {f"every {interval} s": every(interval) for interval in (5, 15, 30, 60)} | {
    "failures": failing(),
    "gaps": interrupted(),
    "two servers": shared(),
}


@dataclass
class Truth:
    """What scrapes at some moments can see of a day, and what they can't."""

    entered: Counter[Backlog] = field(default_factory=Counter)
    started: Counter[Backlog] = field(default_factory=Counter)
    left: Counter[Group] = field(default_factory=Counter)
    unseen: int = 0
    """Runs that came and went between two scrapes."""
    unseen_starts: int = 0
    """Runs that started and ended between two scrapes."""
    waits: list[float] = field(default_factory=list)
    """Waits of the runs that were seen to start, as well as they can be known."""
    errors: list[tuple[float, float]] = field(default_factory=list)
    """How far such a wait is from the true one, and the time between the two scrapes."""


def truth_at(times: Sequence[float], lives: Sequence[Life]) -> Truth:
    truth = Truth()
    for life in lives:
        first = bisect_left(times, life.arrived)  # the first scrape that can see it
        gone = bisect_left(times, life.left)  # the first that can't any more
        running = bisect_left(times, life.started)
        if first == gone:
            truth.unseen += 1
            continue
        truth.entered[life.backlog] += first > 0
        if gone < len(times):
            status = life.status(times[gone - 1])
            assert status
            truth.left[Group(status, *life.backlog)] += 1
        if running == gone:
            truth.unseen_starts += life.started < NEVER
        elif 0 < running < len(times):
            truth.started[life.backlog] += 1
            before, after = times[running - 1], times[running]
            if after - before <= MAX_GAP:
                wait = (max(before, life.arrived) + after) / 2 - life.arrived
                truth.waits.append(wait)
                truth.errors.append((abs(wait - (life.started - life.arrived)), after - before))
    return truth


@pytest.mark.parametrize("name", TIMES)
def test_the_counters_are_what_really_happened(name: str, day: Day) -> None:
    times = TIMES[name]
    truth = truth_at(times, day.lives)
    exposed = day.scraped(name).exposed(day.bodies[times[-1]], times[-1])

    assert counted(exposed, "runs_entered_total") == {
        labels(backlog): number for backlog, number in truth.entered.items() if number
    }
    assert counted(exposed, "runs_started_total") == {
        labels(backlog): number for backlog, number in truth.started.items() if number
    }
    assert counted(exposed, "runs_left_total") == {
        labels(group): number for group, number in truth.left.items() if number
    }
    # All but those that lived, or ran, for less than the time between two scrapes.
    arrived = sum(START < life.arrived <= times[-1] for life in day.lives)
    assert sum(truth.entered.values()) == arrived - truth.unseen
    assert sum(truth.entered.values()) > 10_000


@pytest.mark.parametrize("name", TIMES)
def test_each_wait_is_within_half_an_interval_of_the_true_one(name: str, day: Day) -> None:
    truth = truth_at(TIMES[name], day.lives)
    # The API cuts times to milliseconds.
    assert sorted(day.scraped(name).waits) == pytest.approx(sorted(truth.waits), abs=0.002)
    assert len(truth.waits) > 10_000
    assert all(error <= interval / 2 for error, interval in truth.errors)


@pytest.mark.parametrize("interval", [5, 15, 30, 60])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
def test_quantiles_lie_within_a_bucket_and_half_an_interval_of_the_true_ones(
    interval: int, quantile: float, day: Day
) -> None:
    true_waits: dict[str, list[float]] = defaultdict(list)
    for life in day.lives:
        if START < life.started <= START + DAY:
            true_waits[life.backlog.execution_class].append(life.started - life.arrived)

    for name, waits in day.scraped(f"every {interval} s").metrics.copy().start_waits.items():
        true = sorted(true_waits[name])[int(quantile * (len(true_waits[name]) - 1))]
        observed = bisect_left([*waits.buckets, waits.count], quantile * waits.count)
        # A wait can be off by half an interval, which is more than the smallest buckets.
        least = bisect_left(BOUNDS, true - interval / 2) - 1
        most = bisect_left(BOUNDS, true + interval / 2) + 1
        assert least <= observed <= most, name
