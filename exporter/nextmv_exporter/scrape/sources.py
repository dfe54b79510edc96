"""The API endpoints that an account's queue is read from.

Sources are stateless: what is kept between fetches is in a `SourceState`, which belongs to the
account. Each fetch works on its own copy.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.client import MAX_REQUESTS, Budget, Client, RequestObserver
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import (
    ConfigurationError,
    InvalidResponseError,
    NextmvError,
    StatusError,
)
from nextmv_exporter.nextmv.pages import ACCOUNT, APPLICATIONS, pages, runs_path
from nextmv_exporter.scrape.runs import (
    BYTES_PER_RUN,
    FEW_RUNS,
    Application,
    ApplicationsPage,
    Run,
    RunsPage,
    parse_applications_page,
    parse_queue,
    parse_runs_page,
)
from nextmv_exporter.scrape.summary import QUEUED, RUNNING, created_timestamp
from nextmv_exporter.scrape.threads import each_in_parallel
from nextmv_exporter.units import MAX_DURATION

ACCOUNT_QUEUE = "account-queue"
APPLICATION_RUNS = "application-runs"

APPLICATIONS_TTL = 180.0
"""Seconds for which a list of applications is cached."""

MAX_APPLICATIONS = 20_000
"""Maximum number of applications of an account; far more than can be read within a scrape."""

RUN_LOOKBACK = 86_400.0
"""Default maximum age of a run to be found by `application-runs`, seconds."""

RETRY_QUEUE_AFTER = 3600.0
"""Seconds after which `auto` tries the queue endpoint again."""

_RETRY_SHARE = 1 / 3
_RUNS = f"{APPLICATIONS}/{{id}}/runs"
_SHOWN = 100  # characters of an ID in an error

Page = TypeVar("Page", RunsPage, ApplicationsPage)
_Listed = tuple[Sequence[Run], AbstractSet[int]] | StatusError

log = get_logger()


@dataclass
class SourceState:
    """State kept between the fetches of an account with the same credentials.

    Args:
        credentials: the key and the endpoint that it was learned with.
        applications: the account's applications as last listed.
        listed: time of that listing, monotonic seconds.
        queue_gone: whether the queue endpoint was found to be removed.
        retry_queue: when it is tried again, monotonic seconds.
    """

    credentials: Credentials | None = None
    applications: Sequence[Application] = ()
    listed: float = float("-inf")
    queue_gone: bool = False
    retry_queue: float = float("-inf")


class Requests:
    """The requests of one fetch: one deadline and one limit of bytes for all of them.

    Args:
        client: sends them.
        deadline: when all responses must have been received.
        on_request: called after each request.
        account: the account's name, for the log.

    Attributes:
        ended: hashes of the IDs of runs that were listed as ended; None unless runs were listed.
        unseen: hashes of the IDs of runs of applications that earlier fetches did not read.
    """

    def __init__(
        self, client: Client, deadline: Deadline, on_request: RequestObserver, account: str
    ) -> None:
        self.account = account
        self.ended: set[int] | None = None
        self.unseen: set[int] = set()
        self._client = client
        self._deadline = deadline
        self._on_request = on_request
        self._budget = Budget(client.max_response_bytes)
        self._kept = 0
        self._lock = threading.Lock()

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        endpoint: str | None = None,
        *,
        share: float = 1.0,
    ) -> bytearray:
        """Fetch a path of the API; see `Client.get`.

        Args:
            path: the path.
            params: the query.
            endpoint: the path as errors name it.
            share: part of the time left that the request may take. Below 1, the bytes of its
                response are not counted with those of the others.
        """
        deadline, budget = self._deadline, self._budget
        if share < 1:
            deadline = Deadline(deadline.remaining() * share)
            budget = Budget(self._client.max_response_bytes)
        return self._client.get(
            path,
            params=params,
            endpoint=endpoint,
            deadline=deadline,
            budget=budget,
            on_request=self._on_request,
        )

    def keep(self, runs: int, endpoint: str) -> None:
        """Count runs that are kept until the fetch ends, over all pages.

        Args:
            runs: that many.
            endpoint: the path as the error names it.

        Raises:
            InvalidResponseError: they are more than the bytes received can hold.
        """
        with self._lock:
            self._kept += runs
            if self._kept > max(FEW_RUNS, self._budget.received // BYTES_PER_RUN):
                raise InvalidResponseError(
                    f"{endpoint}: {self._kept} runs in {self._budget.received} bytes: too many "
                    "for their size"
                )


class Source(Protocol):
    """Where the runs in an account's queue are read from."""

    def name(self, state: SourceState) -> str:
        """Return the value of the `source` label."""

    def fetch(self, requests: Requests, state: SourceState) -> Iterable[Run]:
        """Fetch the runs that are queued or running.

        Args:
            requests: sends the requests.
            state: the state from earlier fetches; updated.

        Returns:
            The runs.

        Raises:
            NextmvError: no valid response was received.
        """


@dataclass(frozen=True)
class AccountQueue:
    """The whole queue from `v1/account/queue`, in one request.

    Args:
        path: path of the queue in the API.
    """

    path: str

    def name(self, _: SourceState) -> str:
        """Return the value of the `source` label."""
        return ACCOUNT_QUEUE

    def fetch(self, requests: Requests, _: SourceState) -> Iterable[Run]:
        """Fetch the queue."""
        return parse_queue(requests.get(self.path))


@dataclass(frozen=True)
class ApplicationRuns:
    """The queue, assembled from each application's list of runs.

    Nextmv's SDK recommends this once `v1/account/queue` is removed. It costs a request for each
    application and more for those with many runs.

    Args:
        lookback: maximum age of a run to be found, seconds.
    """

    lookback: float

    def name(self, _: SourceState) -> str:
        """Return the value of the `source` label."""
        return APPLICATION_RUNS

    def fetch(self, requests: Requests, state: SourceState) -> Iterable[Run]:
        """Fetch the runs of all applications that are queued or running."""
        listed_before, known = state.listed > float("-inf"), set(state.applications)
        lists = self._lists(requests, _applications(requests, state))
        if any(isinstance(listed, StatusError) for listed in lists.values()):
            # Those deleted since they were listed are left out; new ones may have been created.
            state.listed = float("-inf")
            current = _applications(requests, state)
            lists |= self._lists(requests, [each for each in current if each not in lists])
            lists = {application: lists[application] for application in current}
        runs: list[Run] = []
        requests.ended = set()
        for application, listed in lists.items():
            if isinstance(listed, StatusError):
                raise listed
            queued_or_running, ended = listed
            runs += queued_or_running
            requests.ended |= ended
            if listed_before and application not in known:
                requests.unseen.update(hash(run.id) for run in queued_or_running)
        return runs

    def _lists(
        self, requests: Requests, applications: Sequence[Application]
    ) -> dict[Application, _Listed]:
        lists = each_in_parallel(applications, partial(self._runs, requests), MAX_REQUESTS)
        return dict(zip(applications, lists, strict=True))

    def _runs(self, requests: Requests, application: Application) -> _Listed:
        """Fetch an application's queue, and hashes of the IDs of its runs that have ended.

        Return the error if the application does not exist.
        """
        oldest = time.time() - self.lookback
        runs: list[Run] = []
        seen: set[str] = set()
        ended: set[int] = set()
        try:
            for page in _pages(requests, runs_path(application.id), parse_runs_page, _RUNS):
                for run in page.runs or ():
                    if not _in_queue(run):
                        ended.add(hash(run.id))
                    # A run is on two pages if newer runs were added between the requests.
                    elif run.id not in seen:
                        runs.append(run)
                        seen |= {run.id} if run.id else set()
                requests.keep(len(page.runs or ()), _RUNS)
                last = created_timestamp(page.runs[-1].created_at) if page.runs else None
                if last is not None and last < oldest:
                    break
        except NextmvError as error:
            error.args = (f"{error} (application {application.id[:_SHOWN]!r})",)
            if isinstance(error, StatusError) and error.gone:
                return error
            raise
        return runs, ended


@dataclass(frozen=True)
class Auto:
    """The queue endpoint while it exists, then each application's runs.

    Args:
        queue: the source of first choice.
        runs: the source to fall back to.
    """

    queue: AccountQueue
    runs: ApplicationRuns

    def name(self, state: SourceState) -> str:
        """Return the value of the `source` label: the source in use."""
        return (self.runs if state.queue_gone else self.queue).name(state)

    def fetch(self, requests: Requests, state: SourceState) -> Iterable[Run]:
        """Fetch from the source in use; switch if the queue endpoint was removed or restored."""
        if not state.queue_gone:
            try:
                return self.queue.fetch(requests, state)
            except StatusError as error:
                if not error.gone:
                    raise
                return self._without_queue(error, requests, state)
        if retrying := time.monotonic() >= state.retry_queue:
            state.retry_queue = time.monotonic() + RETRY_QUEUE_AFTER
            if (queue := self._retry(requests)) is not None:
                state.queue_gone = False
                log.info("Queue endpoint is back", account=requests.account, source=ACCOUNT_QUEUE)
                return queue
        try:
            return self.runs.fetch(requests, state)
        except NextmvError:
            if not retrying:
                state.retry_queue = float("-inf")
            raise

    def _retry(self, requests: Requests) -> Iterable[Run] | None:
        """Fetch the queue endpoint again; leave most of the time to the other endpoints."""
        try:
            body = requests.get(self.queue.path, share=_RETRY_SHARE)
            deque(parse_queue(body), maxlen=0)  # raises an error if it is not a queue
        except NextmvError as error:
            if isinstance(error, StatusError) and error.retry_after is not None:
                raise
            return None
        return parse_queue(body)

    def _without_queue(
        self, error: NextmvError, requests: Requests, state: SourceState
    ) -> Iterable[Run]:
        """Switch to the other endpoints if they respond: then only the queue's was removed."""
        try:
            runs = self.runs.fetch(requests, state)
        except StatusError as other:
            if not other.gone:
                raise
            raise StatusError(
                f"{error}; {other}: the endpoint is not Nextmv's API", status=other.status
            ) from None
        state.queue_gone = True
        state.retry_queue = time.monotonic() + RETRY_QUEUE_AFTER
        log.warning(
            "Queue endpoint is gone, reading each application's runs instead",
            account=requests.account,
            source=APPLICATION_RUNS,
            err=str(error),
        )
        return runs


def choose_source(choice: str, run_lookback: float, account: str = ACCOUNT) -> Source:
    """Return the source that a setting names.

    Args:
        choice: `auto`, `account-queue` or `application-runs`.
        run_lookback: maximum age of a run to be found by `application-runs`, seconds.
        account: path of the account in the API.

    Returns:
        The source.

    Raises:
        ConfigurationError: there is no such source, or the age is not one.
    """
    if not 0 < run_lookback <= MAX_DURATION:
        raise ConfigurationError(f"run_lookback {run_lookback} is not a number of seconds")
    queue, runs = AccountQueue(f"{account}/queue"), ApplicationRuns(run_lookback)
    choices: dict[str, Source] = {
        ACCOUNT_QUEUE: queue,
        APPLICATION_RUNS: runs,
        "auto": Auto(queue, runs),
    }
    if choice not in choices:
        raise ConfigurationError(f"source {choice!r} is unknown: choose {', '.join(choices)}")
    return choices[choice]


def _applications(requests: Requests, state: SourceState) -> Sequence[Application]:
    now = time.monotonic()
    if now - state.listed >= APPLICATIONS_TTL:
        # By ID: one is on two pages if others were created between the requests.
        found: dict[str, Application] = {}
        for page in _pages(requests, APPLICATIONS, parse_applications_page, APPLICATIONS):
            found |= {application.id: application for application in page.items or ()}
            if len(found) > MAX_APPLICATIONS:
                raise InvalidResponseError(f"{APPLICATIONS}: more than {MAX_APPLICATIONS}")
        state.applications, state.listed = tuple(found.values()), now
    return state.applications


def _pages(
    requests: Requests, path: str, parse: Callable[[bytearray], Page], endpoint: str
) -> Iterator[Page]:
    return pages(lambda params: parse(requests.get(path, params, endpoint)), endpoint)


def _in_queue(run: Run) -> bool:
    return (run.status_v2 or "").lower() in (QUEUED, RUNNING)
