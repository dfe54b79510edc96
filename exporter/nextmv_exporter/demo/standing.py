"""A Nextmv account with an unchanging queue of a given size, for tests and benchmarks."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count, cycle, islice
from operator import attrgetter
from random import Random

from nextmv_exporter.demo.catalogue import APPLICATIONS, EXECUTION_CLASSES, Application
from nextmv_exporter.demo.runs import Run, Status, Submitter

_LONGEST_WAIT = 12 * 3600.0


class StandingAccount:
    """An account whose queue has exactly `runs` runs and never changes.

    The runs are spread evenly over the execution classes and at random over the applications.
    The first of each class are running, up to its concurrency limit.

    Args:
        runs: How many runs are running or queued in all.
        at: Unix seconds before which all runs were created, the oldest half a day earlier.
        applications: How many applications there are.
        seed: Determines every run.
    """

    def __init__(self, runs: int, *, at: float, applications: int = 6, seed: int = 1) -> None:
        self.applications: Sequence[Application] = _applications(applications)
        self.revision = 0
        self._queue = _queue(runs, at, self.applications, seed)
        self._runs: dict[str, list[Run]] = {app.id: [] for app in self.applications}
        for run in sorted(self._queue, key=attrgetter("position")):
            self._runs[run.application_id].append(run)

    def advance(self, to: float) -> None:
        """Do nothing: the account never changes."""

    def queue(self) -> Sequence[Run]:
        """Return all runs."""
        return self._queue

    def runs(self, application_id: str) -> Sequence[Run]:
        """Return the runs of an application, oldest first."""
        return self._runs[application_id]


def _applications(number: int) -> list[Application]:
    """Return a number of applications: the catalogue's, then copies under numbered ids."""
    copies = (_copy(app, turn) for turn in count(1) for app in APPLICATIONS)
    return sorted(islice(copies, number), key=attrgetter("position"))


def _copy(app: Application, turn: int) -> Application:
    return app if turn == 1 else replace(app, id=f"{app.id}-{turn}", name=f"{app.name} {turn}")


def _queue(number: int, at: float, applications: Sequence[Application], seed: int) -> list[Run]:
    rng = Random(seed)  # noqa: S311  a simulation, no secret
    submitter = Submitter(seed, rng)
    running = {each.name: each.concurrency for each in EXECUTION_CLASSES}
    queue = []
    for execution_class in islice(cycle(running), number):
        run = submitter.submit(applications, execution_class, at - rng.uniform(0, _LONGEST_WAIT))
        if running[execution_class]:
            running[execution_class] -= 1
            run = replace(run, status=Status.RUNNING)
        queue.append(run)
    return queue
