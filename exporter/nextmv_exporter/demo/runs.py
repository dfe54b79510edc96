"""The runs of the demo's accounts, and the generation of new ones."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from nextmv_exporter.demo.catalogue import (
    DOMAINS,
    INSTANCES,
    PEOPLE,
    PLACES,
    PRIORITIES,
    PURPOSES,
    Application,
)

_ID_CHARACTERS = string.ascii_letters + string.digits


class Status(StrEnum):
    """A run's `status_v2`, in the API's lower case."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Run:
    """A run at one point in time; a change of status creates a new value.

    Attributes:
        id: Unique in the account.
        user_email: Who submitted it.
        name: Its name in the console.
        description: Why it was submitted.
        created_at: When it was submitted, in Unix seconds.
        application_id: The application that it belongs to.
        application_instance_id: The instance that it was submitted to.
        application_version_id: The version that the instance had then.
        execution_class: Name of the execution class whose queue it is in.
        priority: 1 highest to 9.
        status: Its status.
    """

    id: str
    user_email: str
    name: str
    description: str
    created_at: float
    application_id: str
    application_instance_id: str
    application_version_id: str
    execution_class: str
    priority: int
    status: Status

    @property
    def position(self) -> tuple[float, str]:
        """Its position in listings, which are ordered by age, then id."""
        return self.created_at, self.id

    @property
    def rank(self) -> tuple[int, float, str]:
        """Its position in the queue of its execution class, lowest first: priority, then age."""
        return self.priority, self.created_at, self.id


class Submitter:
    """Generator of new runs, as the people of one company would submit them.

    Args:
        seed: The same seed gives the same company and, with the same `rng`, the same runs.
        rng: Source of every other choice.
    """

    def __init__(self, seed: int, rng: Random) -> None:
        self._domain = DOMAINS[seed % len(DOMAINS)]
        self._rng = rng

    def submit(
        self, applications: Sequence[Application], execution_class: str, created_at: float
    ) -> Run:
        """Return a new queued run of one of the applications.

        Args:
            applications: The applications to choose from.
            execution_class: Name of its execution class.
            created_at: When it is submitted, in Unix seconds.

        Returns:
            The run.
        """
        choice = self._rng.choice
        application = choice(applications)
        instance = choice(INSTANCES)
        return Run(
            id=f"{instance}-{''.join(self._rng.choices(_ID_CHARACTERS, k=9))}",
            user_email=f"{choice(PEOPLE)}@{self._domain}",
            name=f"{choice(application.subjects)}, {choice(PLACES)}",
            description=choice(PURPOSES),
            created_at=created_at,
            application_id=application.id,
            application_instance_id=instance,
            application_version_id=choice(("v2.4.0", "v2.4.1")),
            execution_class=execution_class,
            priority=choice(PRIORITIES),
            status=Status.QUEUED,
        )
