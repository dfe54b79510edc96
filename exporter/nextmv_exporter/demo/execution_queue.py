"""The queue of one execution class: a discrete-event simulation of how Nextmv queues.

Runs wait while their class is at its concurrency limit, ordered by priority, then age; when one
ends, the next starts. The classes of an account don't affect each other.
"""

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from operator import attrgetter
from random import Random

from nextmv_exporter.demo.catalogue import Application, ExecutionClass
from nextmv_exporter.demo.runs import Run, Status, Submitter

HISTORY = 500
"""How many ended runs are stored per execution class."""

_FAILS = 0.05
_IS_CANCELED = 0.04

_by_rank = attrgetter("rank")


class ExecutionQueue:
    """The runs of one execution class, from submission to end.

    The state at a time does not depend on the steps in which `advance` reached it: events are
    processed in order of time, and only they draw random numbers.

    Args:
        execution_class: Its limit and load.
        applications: Those whose runs use this class.
        seed: Determines every run. Classes of the same account are independent of each other.
        opening: When the first wave of submissions starts, in Unix seconds.
        stuck_from: From this time on, in Unix seconds, no run of this class ends.
    """

    def __init__(
        self,
        execution_class: ExecutionClass,
        applications: Sequence[Application],
        *,
        seed: int,
        opening: float,
        stuck_from: float = float("inf"),
    ) -> None:
        self.queued: list[Run] = []
        """Runs that wait, next to start first."""
        self.running: dict[str, Run] = {}
        """Runs that execute, by id."""
        self.ended: deque[Run] = deque(maxlen=HISTORY)
        """Runs that ended, in order of their end."""
        self.events = 0
        """Number of events so far; while it is the same, so is all other state."""

        self._class = execution_class
        self._applications = applications
        self._rng = Random(f"{seed} {execution_class.name}")  # noqa: S311  a simulation, no secret
        self._submitter = Submitter(seed, self._rng)
        self._opening = opening
        self._stuck_from = stuck_from
        self._now = opening
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._schedule_submission()

    def advance(self, to: float) -> None:
        """Process all events until `to`, in Unix seconds; never go back in time."""
        while self._agenda[0][0] <= to:
            self._now, _, event = heapq.heappop(self._agenda)
            self.events += 1
            event()

    def _schedule(self, delay: float, event: Callable[[], None]) -> None:
        # The sequence number orders events of the same time, which can't be compared.
        heapq.heappush(self._agenda, (self._now + delay, next(self._order), event))

    def _schedule_submission(self) -> None:
        """Schedule the next possible submission, at the rate of a wave."""
        self._schedule(self._rng.expovariate(self._class.rush), self._consider_submission)

    def _consider_submission(self) -> None:
        """Submit at every possible time in a wave, and at few between waves."""
        rate = self._class.arrival_rate(self._now - self._opening)
        if self._rng.random() < rate / self._class.rush:
            self._submit()
        self._schedule_submission()

    def _submit(self) -> None:
        run = self._submitter.submit(self._applications, self._class.name, self._now)
        insort(self.queued, run, key=_by_rank)
        if self._rng.random() < _IS_CANCELED:
            patience = self._rng.uniform(0, 2 * self._class.longest)
            self._schedule(patience, partial(self._cancel, run))
        self._fill()

    def _fill(self) -> None:
        """Start the next runs while the class has capacity."""
        while self.queued and len(self.running) < self._class.concurrency:
            run = replace(self.queued.pop(0), status=Status.RUNNING)
            self.running[run.id] = run
            duration = self._rng.triangular(
                self._class.shortest, self._class.longest, self._class.usual
            )
            status = Status.FAILED if self._rng.random() < _FAILS else Status.SUCCEEDED
            self._schedule(duration, partial(self._end, run.id, status))

    def _cancel(self, run: Run) -> None:
        if run in self.queued:
            self.queued.remove(run)
            self.ended.append(replace(run, status=Status.CANCELED))
        else:
            self._end(run.id, Status.CANCELED)

    def _end(self, run_id: str, status: Status) -> None:
        if run_id not in self.running or self._now >= self._stuck_from:
            return  # ended otherwise before, or never will
        self.ended.append(replace(self.running.pop(run_id), status=status))
        self._fill()
