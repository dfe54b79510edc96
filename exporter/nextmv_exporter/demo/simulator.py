"""Simulated Nextmv accounts: runs arrive in waves, queue, execute and end.

Nothing here uses the network or reads a clock: callers pass the time, in Unix seconds.
"""

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count, islice
from random import Random
from string import ascii_letters, digits

import msgspec

from nextmv_exporter.demo import catalogue
from nextmv_exporter.demo.catalogue import Application, ExecutionClass

HISTORY = 500
"""How many ended runs of an execution class are kept."""

WARM_UP = 6 * 3600.0
"""Seconds simulated before the start, so that the account is busy from the beginning."""

_INTO_THE_WAVE = 0.6
_FAILS = 0.05
_IS_CANCELED = 0.04
_LONGEST_WAIT = 12 * 3600.0


class Run(msgspec.Struct):
    """A run with the fields of `v1/account/queue`, which changes as time passes."""

    id: str
    user_email: str
    name: str
    description: str
    created_at: datetime
    application_id: str
    application_instance_id: str
    application_version_id: str
    execution_class: str
    status: str = "running"
    """Deprecated by Nextmv; it has no values for queued and canceled runs."""
    status_v2: str = "queued"


def position(item: Run | Application) -> str:
    """Return a text by which lists are ordered: by age, then id."""
    return f"{item.created_at.isoformat(timespec='microseconds')} {item.id}"


def submit(
    rng: Random, seed: int, applications: Sequence[Application], execution_class: str, at: float
) -> Run:
    """Return a new queued run, as the people of a company would submit it.

    Args:
        rng: The source of every choice.
        seed: Determines the company.
        applications: Those that the run may be of.
        execution_class: Name of its execution class.
        at: When it is submitted, in Unix seconds.
    """
    domain = catalogue.DOMAINS[seed % len(catalogue.DOMAINS)]
    application = rng.choice(applications)
    instance = rng.choice(catalogue.INSTANCES)
    return Run(
        id=f"{instance}-{''.join(rng.choices(ascii_letters + digits, k=9))}",
        user_email=f"{rng.choice(catalogue.PEOPLE)}@{domain}",
        name=f"{rng.choice(application.subjects)}, {rng.choice(catalogue.PLACES)}",
        description=rng.choice(catalogue.PURPOSES),
        created_at=datetime.fromtimestamp(at, UTC),
        application_id=application.id,
        application_instance_id=instance,
        application_version_id=rng.choice(("v2.4.0", "v2.4.1")),
        execution_class=execution_class,
    )


class ExecutionQueue:
    """The runs of one execution class, from submission to end.

    Runs wait while the class is at its concurrency limit, ordered by priority, then age. If a run
    ends, the next one starts. Only events draw random numbers, in the order of time: the state at
    a time does not depend on the steps in which `advance` reached it.

    Args:
        execution_class: Its limit and load.
        seed: Determines every run. The classes of an account are independent of each other.
        opening: When the first wave begins, in Unix seconds.
    """

    def __init__(self, execution_class: ExecutionClass, *, seed: int, opening: float) -> None:
        self.running: dict[str, Run] = {}
        """Runs that execute, by id."""
        self.ended: deque[Run] = deque(maxlen=HISTORY)
        """Runs that ended, in the order of their ends."""

        self._class = execution_class
        self._applications = [
            app for app in catalogue.APPLICATIONS if execution_class.name in app.execution_classes
        ]
        self._rng = Random(f"{seed} {execution_class.name}")  # noqa: S311 - no secret
        self._seed = seed
        self._opening = self._now = opening
        self._waiting: list[tuple[int, int, Run]] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        # A number of its own orders entries that are otherwise equal.
        self._number = count()
        self._expect_arrival()

    @property
    def queued(self) -> list[Run]:
        """Runs that wait, the next to start first."""
        return [run for _, _, run in self._waiting]

    def advance(self, to: float) -> None:
        """Process all events until `to`, in Unix seconds; never go back in time."""
        while self._agenda[0][0] <= to:
            self._now, _, event = heapq.heappop(self._agenda)
            event()

    def _schedule(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay, next(self._number), event))

    def _expect_arrival(self) -> None:
        self._schedule(self._rng.expovariate(self._class.rush), self._arrive)

    def _arrive(self) -> None:
        """Submit a run: in a wave each time, between waves seldom."""
        rate = self._class.arrival_rate(self._now - self._opening)
        if self._rng.random() < rate / self._class.rush:
            run = submit(self._rng, self._seed, self._applications, self._class.name, self._now)
            insort(self._waiting, (self._rng.choice(catalogue.PRIORITIES), next(self._number), run))
            if self._rng.random() < _IS_CANCELED:
                patience = self._rng.uniform(0, 2 * self._class.longest)
                self._schedule(patience, partial(self._end, run, "canceled"))
            self._fill()
        self._expect_arrival()

    def _fill(self) -> None:
        """Start the next runs while the class has capacity."""
        limits = self._class
        while self._waiting and len(self.running) < limits.concurrency:
            run = self._waiting.pop(0)[-1]
            run.status_v2 = "running"
            self.running[run.id] = run
            duration = self._rng.triangular(limits.shortest, limits.longest, limits.usual)
            status = "failed" if self._rng.random() < _FAILS else "succeeded"
            self._schedule(duration, partial(self._end, run, status))

    def _end(self, run: Run, status: str) -> None:
        if run.status_v2 not in {"queued", "running"}:
            return  # it was canceled before, or ended before it was to be canceled
        self.running.pop(run.id, None)
        self._waiting = [entry for entry in self._waiting if entry[-1] is not run]
        run.status_v2 = status
        run.status = "succeeded" if status == "succeeded" else "failed"
        self.ended.append(run)
        self._fill()


class Simulator:
    """A lively account, the same for the same seed, start and time.

    Args:
        seed: Determines every run.
        start: The time of the first request, in Unix seconds. The account is busy by then, since
            the hours before are simulated at once.

    Example:
        >>> account = Simulator(seed=1, start=1_700_000_000)
        >>> account.advance(1_700_000_060)
        >>> sorted({run.status_v2 for run in account.queue()})
        ['queued', 'running']
    """

    def __init__(self, *, seed: int, start: float) -> None:
        self.applications: Sequence[Application] = catalogue.APPLICATIONS
        self.queues: dict[str, ExecutionQueue] = {}
        for each in catalogue.EXECUTION_CLASSES:
            # Each class is in the middle of a wave at the start.
            opening = start - WARM_UP // each.period * each.period - _INTO_THE_WAVE * each.wave
            self.queues[each.name] = ExecutionQueue(each, seed=seed, opening=opening)
        self.advance(start)

    def advance(self, to: float) -> None:
        """Let time pass until `to`, in Unix seconds."""
        for queue in self.queues.values():
            queue.advance(to)

    def queue(self) -> Sequence[Run]:
        """Return the runs that are running or queued."""
        queues = self.queues.values()
        return [run for each in queues for run in chain(each.running.values(), each.queued)]

    def runs(self, application_id: str) -> Sequence[Run]:
        """Return the known runs of an application, ended ones too, oldest first."""
        known = chain(self.queue(), *(queue.ended for queue in self.queues.values()))
        return sorted((run for run in known if run.application_id == application_id), key=position)


class StandingAccount:
    """An account whose queue has a given length and never changes, for tests and benchmarks.

    Args:
        runs: How many runs are running or queued, spread evenly over the execution classes. The
            first of a class are running, up to its limit.
        at: Unix seconds before which all runs were created, within half a day.
        applications: How many applications the runs are spread over.
        seed: Determines every run.
    """

    def __init__(self, runs: int, *, at: float, applications: int = 6, seed: int = 1) -> None:
        copies = (
            replace(app, id=f"{app.id}-{turn}") if turn > 1 else app
            for turn in count(1)
            for app in catalogue.APPLICATIONS
        )
        wanted = islice(copies, applications)
        self.applications: Sequence[Application] = sorted(wanted, key=position)
        self._queue: list[Run] = []
        rng = Random(seed)  # noqa: S311 - no secret
        for number in range(runs):
            turn, which = divmod(number, len(catalogue.EXECUTION_CLASSES))
            execution_class = catalogue.EXECUTION_CLASSES[which]
            created = at - rng.uniform(0, _LONGEST_WAIT)
            run = submit(rng, seed, self.applications, execution_class.name, created)
            if turn < execution_class.concurrency:
                run.status_v2 = "running"
            self._queue.append(run)
        self._runs: dict[str, list[Run]] = {app.id: [] for app in self.applications}
        for run in sorted(self._queue, key=position):
            self._runs[run.application_id].append(run)

    def advance(self, to: float) -> None:
        """Do nothing, since the account never changes."""

    def queue(self) -> Sequence[Run]:
        """Return the runs that are running or queued."""
        return self._queue

    def runs(self, application_id: str) -> Sequence[Run]:
        """Return the runs of an application, oldest first."""
        return self._runs[application_id]


Account = Simulator | StandingAccount
