"""A simulated Nextmv account: runs arrive in waves, queue, execute and end.

It uses no network and reads no clock; its callers pass the time.
"""

from collections.abc import Collection, Sequence
from itertools import chain
from operator import attrgetter
from typing import Protocol

from nextmv_exporter.demo.catalogue import (
    APPLICATIONS,
    EXECUTION_CLASSES,
    Application,
    ExecutionClass,
)
from nextmv_exporter.demo.execution_queue import ExecutionQueue
from nextmv_exporter.demo.runs import Run

WARM_UP = 6 * 3600.0
"""Seconds simulated before the start, so that the account is busy from the beginning."""

_INTO_THE_WAVE = 0.6


class Account(Protocol):
    """The interface of an account that the demo's API uses."""

    @property
    def applications(self) -> Sequence[Application]:
        """Its applications, oldest first."""

    @property
    def revision(self) -> int:
        """A number that changes whenever a run does."""

    def advance(self, to: float) -> None:
        """Advance the account to a time, in Unix seconds."""

    def queue(self) -> Sequence[Run]:
        """Return the runs that are running or queued."""

    def runs(self, application_id: str) -> Sequence[Run]:
        """Return all stored runs of an application, including ended ones, oldest first."""


class Simulator:
    """A simulated account, the same for the same seed, start and time.

    Args:
        seed: Determines every run; two accounts of one demo differ by it.
        start: Time of the first request, in Unix seconds. The account is then already busy: the
            hours before are simulated immediately.
        stuck: Names of the execution classes that get stuck at `start`: their runs never end, so
            no further run of them starts and their queues grow without bound.
        execution_classes: Those of the account, with the load on each.

    Example:
        >>> account = Simulator(seed=1, start=1_700_000_000)
        >>> account.advance(1_700_000_060)
        >>> sorted({str(run.status) for run in account.queue()})
        ['queued', 'running']
    """

    def __init__(
        self,
        *,
        seed: int,
        start: float,
        stuck: Collection[str] = (),
        execution_classes: Sequence[ExecutionClass] = EXECUTION_CLASSES,
    ) -> None:
        self.applications: Sequence[Application] = APPLICATIONS
        self.queues = {
            execution_class.name: ExecutionQueue(
                execution_class,
                [app for app in APPLICATIONS if execution_class.name in app.execution_classes],
                seed=seed,
                opening=_opening(execution_class, start),
                stuck_from=start if execution_class.name in stuck else float("inf"),
            )
            for execution_class in execution_classes
        }
        self.advance(start)

    @property
    def revision(self) -> int:
        """A number that changes whenever a run does."""
        return sum(queue.events for queue in self.queues.values())

    def advance(self, to: float) -> None:
        """Process all events until `to`, in Unix seconds; never go back in time."""
        for queue in self.queues.values():
            queue.advance(to)

    def queue(self) -> list[Run]:
        """Return the runs that are running or queued, class by class, next to start first."""
        return [
            run
            for queue in self.queues.values()
            for run in chain(queue.running.values(), queue.queued)
        ]

    def runs(self, application_id: str) -> list[Run]:
        """Return all stored runs of an application, including ended ones, oldest first."""
        ended = chain.from_iterable(queue.ended for queue in self.queues.values())
        runs = chain(self.queue(), ended)
        return sorted(
            (run for run in runs if run.application_id == application_id),
            key=attrgetter("position"),
        )


def _opening(execution_class: ExecutionClass, start: float) -> float:
    """Return when a class's first wave starts, so that `start` is in the middle of one."""
    periods = WARM_UP // execution_class.period
    return start - periods * execution_class.period - _INTO_THE_WAVE * execution_class.wave
