"""Fetch the runs of an account's queue, from whichever of the API's endpoints has them."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.client import MAX_REQUESTS, Budget, Client, Deadline, Observer
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import (
    ConnectionFailedError,
    InvalidResponseError,
    NextmvError,
    Reason,
    StatusError,
)
from nextmv_exporter.scrape.runs import Page, Run, created_timestamp, parse_page, parse_queue

ACCOUNT = "v1/account"
ACCOUNT_QUEUE = "account-queue"
APPLICATION_RUNS = "application-runs"
SOURCES = ("auto", ACCOUNT_QUEUE, APPLICATION_RUNS)

APPLICATIONS_TTL = 180.0
"""Seconds for which a list of applications is cached."""

RETRY_QUEUE_AFTER = 3600.0
"""Seconds after which `auto` tries the queue endpoint again."""

RUN_LOOKBACK = 86_400.0
"""Default maximum age of a run to be found by `application-runs`, seconds."""

MAX_PAGES = 1000
"""Maximum number of pages of a list; far more than can be read within a scrape."""

_RETRY_SHARE = 1 / 3  # of the time left, for the queue endpoint that was gone
_FIRST_PAUSE = 0.1  # seconds after a 429 without `Retry-After`
_LONGEST_PAUSE = 1.0
_APPLICATIONS = "v1/applications"
_RUNS = f"{_APPLICATIONS}/{{id}}/runs"
_SHOWN = 100  # characters of an ID in an error
_IN_QUEUE = ("queued", "running")

Parsed = TypeVar("Parsed")
Result = TypeVar("Result")

log = get_logger()


@dataclass
class SourceState:
    """What is kept between the fetches of an account; a fetch that fails updates it too.

    Args:
        credentials: the key and the endpoint that the rest was learned with.
        applications: IDs of the account's applications as last listed, without those whose runs
            are gone.
        listed: time of that listing, monotonic seconds.
        retry_queue: when `auto` tries the queue endpoint again, monotonic seconds; None while that
            endpoint is not gone.
    """

    credentials: Credentials | None = None
    applications: Sequence[str] = ()
    listed: float = float("-inf")
    retry_queue: float | None = None

    def source(self, choice: str) -> str:
        """Return the source in use.

        Args:
            choice: one of `SOURCES`.

        Returns:
            The value of the `source` label.
        """
        gone = self.retry_queue is not None
        return APPLICATION_RUNS if gone or choice == APPLICATION_RUNS else ACCOUNT_QUEUE


class Fetched(NamedTuple):
    """The runs of an account's queue.

    Args:
        runs: the runs.
        ended: hashes of the IDs of runs that lists show as ended; None if the runs were read from
            the queue endpoint, which lists no others.
        scope: what was read: credentials, and the set of applications. If it differs from that of
            an earlier snapshot, runs may be new in this one that are not new in the queue.
    """

    runs: Sequence[Run]
    ended: AbstractSet[int] | None
    scope: Hashable


def fetch_runs(  # noqa: PLR0913 - all that a fetch depends on
    client: Client,
    state: SourceState,
    deadline: Deadline,
    *,
    choice: str = "auto",
    lookback: float = RUN_LOOKBACK,
    account: str = "",
    endpoint: str = ACCOUNT,
    on_exchange: Observer | None = None,
    kind: type[Run] = Run,
) -> Fetched:
    """Fetch the runs that are queued or running.

    They come from the queue endpoint in one request, or from each application's list of runs, as
    Nextmv's SDK recommends. That costs a request for each application and more for those with many
    runs. `auto` chooses the first as long as the API has that endpoint.

    Args:
        client: sends the requests.
        state: the state from earlier fetches; updated, also if this one fails.
        deadline: when all responses must have been received; cancelled if a list can't be read.
        choice: one of `SOURCES`.
        lookback: maximum age of a run that is looked for in the lists, seconds.
        account: the account's name in the log; without it, a change of the source is not logged.
        endpoint: path of the account in the API.
        on_exchange: called after each request.
        kind: the type of the runs.

    Returns:
        The runs, and what they were read from.

    Raises:
        NextmvError: no valid response was received.
    """
    credentials = client.credentials
    if state.credentials != credentials:
        vars(state).update(vars(SourceState(credentials)))
    get, budget = partial(client.get, on_exchange=on_exchange), Budget(client.max_response_bytes)
    get_list = partial(get, deadline=deadline, budget=budget)
    lists = _Lists(get_list, partial(parse_page, kind=kind), deadline)
    was_gone, refusal = state.retry_queue is not None, ""
    if choice != APPLICATION_RUNS and time.monotonic() >= (state.retry_queue or 0):
        path = f"{endpoint}/queue"
        within = Deadline(deadline.remaining() * _RETRY_SHARE) if was_gone else deadline
        parse = partial(parse_queue, kind=kind)
        try:
            runs = _parsed(parse, get(path, deadline=within), path)
        except NextmvError as error:
            if choice != "auto" or not (was_gone or error.gone):
                raise
            refusal = str(error)
        else:
            _switch(state, account, None, "")
            return Fetched(runs, None, (credentials, None))
    try:
        fetched = _application_runs(lists, state, lookback)
    except NextmvError as error:
        if was_gone:
            state.retry_queue = float("-inf")  # whatever is wrong, the queue endpoint may be back
        elif refusal and error.gone:
            message = f"{refusal}; {error}: the endpoint is not Nextmv's API"
            raise StatusError(message, status=404) from None
        raise
    if refusal:
        _switch(state, account, time.monotonic() + RETRY_QUEUE_AFTER, refusal)
    return fetched


def _switch(state: SourceState, account: str, retry_queue: float | None, refusal: str) -> None:
    """Log a change of the source, unless there is none, or no account named."""
    before, state.retry_queue = state.retry_queue, retry_queue
    if account and before is None and refusal:
        message = "Queue endpoint is gone, reading each application's runs instead"
        log.warning(message, account=account, source=APPLICATION_RUNS, err=refusal)
    elif account and before is not None and not refusal:
        log.info("Queue endpoint is back", account=account, source=ACCOUNT_QUEUE)


@dataclass
class _Lists:
    """The lists of one fetch, which share a deadline, a limit of bytes and a turn."""

    get: Callable[..., bytearray]
    parse: Callable[[bytearray], Page[Run]]
    deadline: Deadline
    turn: AbstractContextManager[bool] = field(default_factory=threading.RLock)

    def pages(self, path: str, name: str) -> Iterator[Page[Run]]:
        """Fetch a list page by page, as the caller iterates."""
        params = {"pagereturn": "true"}
        for _ in range(MAX_PAGES):
            page = _parsed(self.parse, self._get_in_turn(path, name, params), name)
            yield page
            if not page.next_page_token:
                return
            params["pagetoken"] = page.next_page_token
        raise InvalidResponseError(f"{name}: the pages do not end")

    def _get_in_turn(self, path: str, name: str, params: Mapping[str, str]) -> bytearray:
        """Fetch a page. Of the requests that get a 429, only one at a time is sent again."""
        pause = _FIRST_PAUSE
        with ExitStack() as turn:
            while True:
                try:
                    return self.get(path, params=params, name=name)
                except StatusError as error:
                    wait = max(pause, error.retry_after or 0.0)
                    late = wait + pause >= self.deadline.remaining()
                    if error.reason is not Reason.RATE_LIMITED or late:
                        raise
                resume = time.monotonic() + wait
                turn.enter_context(self.turn)  # until this request is accepted
                self.deadline.sleep(max(0.0, resume - time.monotonic()))
                pause = min(2 * pause, _LONGEST_PAUSE)


def _application_runs(lists: _Lists, state: SourceState, lookback: float) -> Fetched:
    fresh = not state.applications or time.monotonic() - state.listed >= APPLICATIONS_TTL
    if fresh:
        pages = lists.pages(_APPLICATIONS, _APPLICATIONS)
        ids = (application.id for page in pages for application in page.items or ())
        state.applications, state.listed = tuple(dict.fromkeys(ids)), time.monotonic()
    read = partial(_listed, lists, time.time() - lookback)
    results = _in_parallel(read, state.applications, lists.deadline)
    found = {each: runs for each, runs in results.items() if not isinstance(runs, NextmvError)}
    if results and not found:
        state.applications = ()
        if fresh:
            raise next(error for error in results.values() if isinstance(error, NextmvError))
        # All have been deleted since, and others may have been created.
        return _application_runs(lists, state, lookback)
    state.applications = tuple(found)
    runs = [run for queue, _ in found.values() for run in queue]
    ended = set[int]().union(*(ended for _, ended in found.values()))
    return Fetched(runs, ended, (state.credentials, frozenset(found)))


def _listed(
    lists: _Lists, oldest: float, application: str
) -> tuple[Sequence[Run], AbstractSet[int]] | NextmvError:
    """Fetch the runs of an application that are in the queue, and hashes of the IDs of others.

    It returns the error if there is no such application. If runs were added between the requests,
    others are on two pages: the later one is right.
    """
    quoted = quote(application, safe="").replace(".", "%2E")  # ".." would be another path
    path = f"{_APPLICATIONS}/{quoted}/runs"
    latest: dict[object, Run] = {}
    newest_first = True
    try:
        for page in lists.pages(path, _RUNS):
            latest |= {run.id or object(): run for run in page.runs or ()}
            created = [created_timestamp(run.created_at) for run in page.runs or ()]
            times = [time for time in created if time is not None]
            newest_first &= times == sorted(times, reverse=True)
            if newest_first and times and times[-1] < min(times[0], oldest):
                break
    except NextmvError as error:
        error.args = (f"{error} (application {application[:_SHOWN]!r})",)
        if not error.gone:
            raise
        return error
    queue = {k: run for k, run in latest.items() if (run.status_v2 or "").lower() in _IN_QUEUE}
    ended = {hash(run.id) for key, run in latest.items() if run.id and key not in queue}
    return list(queue.values()), ended


def _parsed(parse: Callable[[bytearray], Parsed], body: bytearray, name: str) -> Parsed:
    try:
        return parse(body)
    except InvalidResponseError as error:
        raise InvalidResponseError(f"{name}: {error}") from None


def _in_parallel(
    work: Callable[[str], Result], items: Sequence[str], deadline: Deadline
) -> dict[str, Result]:
    """Apply a function to the items, and raise its first failure at once.

    The threads are daemons, unlike those of an executor: one that hangs can't delay the exit.
    """
    results: dict[str, Result] = {}
    failures: list[Exception] = []
    ended = threading.Semaphore(0)
    left = iter(items)  # shared by the threads

    def run() -> None:
        try:
            for item in left:
                results[item] = work(item)
        except NextmvError as error:
            failures.append(error.with_traceback(None))  # which refers to what was read
        except Exception as error:  # noqa: BLE001 - raised in the caller's thread
            failures.append(error)
        ended.release()

    threads = [threading.Thread(target=run, daemon=True) for _ in items[:MAX_REQUESTS]]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            ended.acquire()
            if failures:
                raise failures.pop()  # no variable: its traceback refers to this frame
    except RuntimeError as error:  # the system starts no more threads
        raise ConnectionFailedError(str(error)) from None
    finally:
        if len(results) < len(items):
            deadline.cancel()  # which ends the other requests
    return {item: results[item] for item in items}
