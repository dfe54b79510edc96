"""Where an account's queue is read from."""

from collections.abc import Sequence
from typing import Protocol

from exporter.deadline import Deadline
from exporter.nextmv.client import Client
from exporter.scrape.runs import Run, parse_runs

ACCOUNT_QUEUE = "account-queue"


class Source(Protocol):
    """Gives the runs in an account's queue."""

    @property
    def name(self) -> str:
        """The value of the `source` label."""

    def fetch(self, deadline: Deadline) -> Sequence[Run]:
        """Fetch and parse the runs; raises NextmvError."""


class AccountQueue:
    """The whole queue from `v1/account/queue`, in one request.

    Args:
        client: the client to ask with.
    """

    name = ACCOUNT_QUEUE

    def __init__(self, client: Client) -> None:
        self._client = client

    def fetch(self, deadline: Deadline) -> Sequence[Run]:
        """Fetch the runs that are queued or running.

        Args:
            deadline: by when the answer must be there.

        Returns:
            The runs.

        Raises:
            NextmvError: no usable answer came.
        """
        return parse_runs(self._client.get("v1/account/queue", deadline=deadline))
