"""Where an account's queue is read from.

Each source is the same to the scrape: it has a name and fetches runs by a deadline.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import quote

import structlog

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.errors import InvalidResponseError, NextmvError, StatusError
from nextmv_exporter.scrape.parallel import each_in_parallel
from nextmv_exporter.scrape.runs import (
    Application,
    ApplicationsPage,
    Run,
    RunsPage,
    parse_applications_page,
    parse_queue,
    parse_runs_page,
)
from nextmv_exporter.scrape.summary import QUEUED, RUNNING, created_timestamp

MAX_REQUESTS = 8
"""Requests of one account that are in flight at once, at most."""

APPLICATIONS_TTL = 180.0
"""Seconds for which a list of applications is used again."""

RETRY_QUEUE_AFTER = 3600.0
"""Seconds after which `auto` looks again whether the queue endpoint is back."""

_GONE = frozenset({404, 410})
_RUNS = "v1/applications/{id}/runs"

Page = TypeVar("Page", RunsPage, ApplicationsPage)

log = structlog.get_logger()


class Source(Protocol):
    """Gives the runs in an account's queue."""

    @property
    def name(self) -> str:
        """The value of the `source` label."""

    def fetch(self, deadline: Deadline) -> Iterable[Run]:
        """Fetch the runs that are queued or running.

        Args:
            deadline: by when all answers must be there.

        Returns:
            The runs.

        Raises:
            NextmvError: no usable answer came.
        """


@dataclass
class AccountQueue:
    """The whole queue from `v1/account/queue`, in one request.

    Args:
        client: the client to ask with.
    """

    client: Client
    name = "account-queue"

    def fetch(self, deadline: Deadline) -> Iterable[Run]:
        """Fetch the queue."""
        return parse_queue(self.client.get("v1/account/queue", deadline=deadline))


@dataclass
class ApplicationRuns:
    """The queue put together from each application's list of runs.

    Nextmv's SDK names this as the way once `v1/account/queue` is gone. It costs a request
    for each application and more for those with many runs.

    Args:
        client: the client to ask with.
        lookback: age in seconds beyond which runs are not looked for.
    """

    client: Client
    lookback: float
    name = "application-runs"
    _applications: Sequence[Application] = ()
    _listed: float = float("-inf")

    def fetch(self, deadline: Deadline) -> Iterable[Run]:
        """Fetch the runs of all applications that are queued or running."""
        applications = self._lately_listed(deadline)
        lists = each_in_parallel(applications, partial(self._runs, deadline), MAX_REQUESTS)
        runs: list[Run] = []
        refused: dict[str, StatusError] = {}
        for application, listed in zip(applications, lists, strict=True):
            if isinstance(listed, StatusError):
                refused[application.id] = listed
            else:
                runs += listed
        if refused:
            self._expect_deleted(refused, deadline)
        return runs

    def _lately_listed(self, deadline: Deadline) -> Sequence[Application]:
        now = time.monotonic()
        if now - self._listed >= APPLICATIONS_TTL:
            pages = self._pages("v1/applications", parse_applications_page, deadline)
            self._applications = [each for page in pages for each in page.items or ()]
            self._listed = now
        return self._applications

    def _expect_deleted(self, refused: Mapping[str, StatusError], deadline: Deadline) -> None:
        """List the applications anew; one still there should not have been refused."""
        self._listed = float("-inf")
        for application in self._lately_listed(deadline):
            if application.id in refused:
                raise refused[application.id]

    def _runs(self, deadline: Deadline, application: Application) -> Sequence[Run] | StatusError:
        """Fetch an application's queue; the refusal, where the API knows no such application."""
        oldest = time.time() - self.lookback
        runs: list[Run] = []
        seen: set[str] = set()
        path = f"v1/applications/{quote(application.id, safe='')}/runs"
        try:
            for page in self._pages(path, parse_runs_page, deadline, _RUNS):
                for run in page.runs or ():
                    # It may be on two pages, where new ones have pushed it on meanwhile.
                    if _in_queue(run) and run.id not in seen:
                        runs.append(run)
                        seen |= {run.id} if run.id else set()
                last = created_timestamp(page.runs[-1].created_at) if page.runs else None
                if last is not None and last < oldest:
                    break
        except StatusError as error:
            if error.status not in _GONE:
                raise
            return error
        return runs

    def _pages(
        self,
        path: str,
        parse: Callable[[bytearray], Page],
        deadline: Deadline,
        endpoint: str | None = None,
    ) -> Iterator[Page]:
        """Fetch a listing page by page, for as long as the caller goes on."""
        endpoint = endpoint or path
        params = {"pagereturn": "true"}
        followed: set[str] = set()
        while True:
            body = self.client.get(path, params=params, endpoint=endpoint, deadline=deadline)
            page = parse(body)
            yield page
            token = page.next_page_token
            if not token:
                return
            if token in followed:
                raise InvalidResponseError(f"{endpoint}: the pages go round in a circle")
            followed.add(token)
            params["pagetoken"] = token


@dataclass
class Auto:
    """The queue endpoint for as long as there is one, then each application's runs.

    Args:
        account: the account's name, for the log.
        queue: the source to prefer.
        runs: the source to fall back to.
    """

    account: str
    queue: AccountQueue
    runs: ApplicationRuns
    _switched: bool = False
    _next_try: float = float("-inf")

    @property
    def name(self) -> str:
        """The name of the source in use."""
        return self.runs.name if self._switched else self.queue.name

    def fetch(self, deadline: Deadline) -> Iterable[Run]:
        """Fetch from the source in use, and switch where the queue endpoint went or came."""
        if self._switched and time.monotonic() < self._next_try:
            return self.runs.fetch(deadline)
        try:
            runs = self.queue.fetch(deadline)
        except NextmvError as error:
            gone = isinstance(error, StatusError) and error.status in _GONE
            if not gone and not self._switched:
                raise
            return self._without_queue(error, deadline)
        if self._switched:
            self._switched = False
            log.info("The queue endpoint is back", account=self.account, source=self.name)
        return runs

    def _without_queue(self, error: NextmvError, deadline: Deadline) -> Iterable[Run]:
        """Switch, if the other endpoints answer: then it is the queue's alone that is gone."""
        self._next_try = time.monotonic() + RETRY_QUEUE_AFTER
        try:
            runs = self.runs.fetch(deadline)
        except StatusError as other:
            if other.status not in _GONE:
                raise
            raise StatusError(
                f"{error}; {other}: this is not Nextmv's API, check --nextmv.endpoint",
                status=other.status,
            ) from None
        if not self._switched:
            self._switched = True
            log.warning(
                "The queue endpoint is gone: reading each application's runs instead",
                account=self.account,
                source=self.name,
                err=str(error),
            )
        return runs


def _in_queue(run: Run) -> bool:
    return (run.status_v2 or "").lower() in (QUEUED, RUNNING)
