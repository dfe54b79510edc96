"""Fetch the runs of an account's queue, from whichever of the API's endpoints has them."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, starmap
from operator import ge
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.client import MAX_REQUESTS, Budget, Client, Observer
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import (
    ConnectionFailedError,
    InvalidResponseError,
    NextmvError,
    Reason,
    StatusError,
)
from nextmv_exporter.scrape.runs import (
    BYTES_PER_RUN,
    FEW_RUNS,
    ApplicationsPage,
    Bytes,
    Run,
    RunsPage,
    created_timestamp,
    parse_applications_page,
    parse_queue,
    parse_runs_page,
)

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
_FIRST_PAUSE = 0.1  # seconds between two requests after a 429 without `Retry-After`
_LONGEST_PAUSE = 1.0
_APPLICATIONS = "v1/applications"
_RUNS = f"{_APPLICATIONS}/{{id}}/runs"
_SHOWN = 100  # characters of an ID in an error
_IN_QUEUE = ("queued", "running")

Page = TypeVar("Page", RunsPage[Run], ApplicationsPage)
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
        gone = choice == "auto" and self.retry_queue is not None
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
    requests = _Requests(client, deadline, on_exchange)
    fallen_back = choice == "auto" and state.retry_queue is not None
    refusal = ""
    if choice != APPLICATION_RUNS and time.monotonic() >= (state.retry_queue or 0):
        share = _RETRY_SHARE if fallen_back else 1.0
        try:
            runs = _account_queue(requests, f"{endpoint}/queue", kind, share)
        except NextmvError as error:
            if choice != "auto" or not (fallen_back or _gone(error)):
                raise
            refusal = str(error)
        else:
            _switch(state, account, None, "")
            return Fetched(runs, None, (credentials, None))
    try:
        fetched = _application_runs(requests, state, lookback, kind)
    except NextmvError as error:
        if fallen_back:
            state.retry_queue = float("-inf")  # whatever is wrong, the queue endpoint may be back
        elif refusal and _gone(error):
            message = f"{refusal}; {error}: the endpoint is not Nextmv's API"
            raise StatusError(message, status=404) from None
        raise
    if refusal:
        _switch(state, account, time.monotonic() + RETRY_QUEUE_AFTER, refusal)
    return fetched


def _switch(state: SourceState, account: str, retry_queue: float | None, reason: str) -> None:
    """Log a change of the source, unless there is none, or no account named."""
    before, state.retry_queue = state.retry_queue, retry_queue
    if not account or (before is None) == (retry_queue is None):
        return
    if retry_queue is None:
        log.info("Queue endpoint is back", account=account, source=ACCOUNT_QUEUE)
    else:
        message = "Queue endpoint is gone, reading each application's runs instead"
        log.warning(message, account=account, source=APPLICATION_RUNS, err=reason)


def _gone(error: NextmvError) -> bool:
    return isinstance(error, StatusError) and error.gone


class _Requests:
    """The requests of one fetch. All lists share a deadline, a limit of bytes and a rate."""

    def __init__(self, client: Client, deadline: Deadline, on_exchange: Observer | None) -> None:
        self.deadline = deadline
        self.budget = Budget(client.max_response_bytes)
        self.get = partial(client.get, on_exchange=on_exchange)
        self._turn = threading.Lock()
        self._limited = False  # since a 429
        self._resume = 0.0  # when the next request may be sent then, monotonic seconds
        self._refused = self._accepted = 0  # requests in a row, since then

    def pages(self, path: str, name: str, parse: Callable[[Bytes], Page]) -> Iterator[Page]:
        """Fetch a list page by page, as the caller iterates."""
        params, followed = {"pagereturn": "true"}, set[str]()
        while True:
            page = _parsed(parse, self._get_in_turn(path, name, params), name)
            yield page
            if not (token := page.next_page_token):
                return
            if token in followed or len(followed) == MAX_PAGES:
                raise InvalidResponseError(f"{name}: the pages do not end")
            followed.add(token)
            params["pagetoken"] = token

    def _get_in_turn(self, path: str, name: str, params: Mapping[str, str]) -> bytearray:
        """Fetch a page. After a 429, send one request at a time, until several are accepted."""
        while True:
            limited = self._limited
            with self._turn if limited else nullcontext():
                self.deadline.sleep(max(0.0, self._resume - time.monotonic()))
                try:
                    body = self.get(
                        path, params=params, name=name, deadline=self.deadline, budget=self.budget
                    )
                except StatusError as error:
                    pause = min(_FIRST_PAUSE * 2**self._refused, _LONGEST_PAUSE)
                    wait = max(_FIRST_PAUSE, error.retry_after or pause)
                    late = wait >= self.deadline.remaining()
                    if error.reason is not Reason.RATE_LIMITED or late:
                        raise
                    self._limited, self._accepted = True, 0
                    self._refused += limited
                    self._resume = max(self._resume, time.monotonic() + wait)
                else:
                    self._refused, self._accepted = 0, self._accepted + limited
                    self._limited &= self._accepted < MAX_REQUESTS
                    return body


def _account_queue(requests: _Requests, path: str, kind: type[Run], share: float) -> Sequence[Run]:
    """Fetch the queue endpoint, with a limit of bytes of its own, in a share of the time left."""
    within = requests.deadline if share == 1 else Deadline(requests.deadline.remaining() * share)
    return _parsed(partial(parse_queue, kind=kind), requests.get(path, deadline=within), path)


def _application_runs(
    requests: _Requests, state: SourceState, lookback: float, kind: type[Run]
) -> Fetched:
    fresh = not state.applications or time.monotonic() - state.listed >= APPLICATIONS_TTL
    while True:
        if fresh:
            pages = requests.pages(_APPLICATIONS, _APPLICATIONS, parse_applications_page)
            ids = (application.id for page in pages for application in page.items or ())
            state.applications, state.listed = tuple(dict.fromkeys(ids)), time.monotonic()
        read = partial(_listed, requests, kind, time.time() - lookback)
        lists = _in_parallel(read, state.applications, requests.deadline)
        found = {each: runs for each, runs in lists.items() if not isinstance(runs, StatusError)}
        if found or not lists:
            break
        state.applications = ()
        if fresh:  # else all have been deleted since, and others may have been created
            raise next(error for error in lists.values() if isinstance(error, StatusError))
        fresh = True
    state.applications = tuple(found)
    runs = [run for queue, _ in found.values() for run in queue]
    ended = set[int]().union(*(ended for _, ended in found.values()))
    return Fetched(runs, ended, (state.credentials, frozenset(found)))


def _listed(
    requests: _Requests, kind: type[Run], oldest: float, application: str
) -> tuple[Sequence[Run], AbstractSet[int]] | StatusError:
    """Fetch the runs of an application that are in the queue, and hashes of the IDs of others.

    It returns the error if there is no such application. If runs were added between the requests,
    others are on two pages: the later one is right.
    """
    path = f"{_APPLICATIONS}/{_quoted(application)}/runs"
    latest: dict[object, Run] = {}
    times: list[float] = []
    newest_first = True
    try:
        for page in requests.pages(path, _RUNS, partial(parse_runs_page, kind=kind)):
            latest |= {run.id or object(): run for run in page.runs or ()}
            created = [created_timestamp(run.created_at) for run in page.runs or ()]
            times += (known := [time for time in created if time is not None])
            newest_first &= all(starmap(ge, pairwise(times[-len(known) - 1 :])))
            if newest_first and times and times[-1] < min(times[0], oldest):
                break
            if len(latest) > max(FEW_RUNS, requests.budget.received // BYTES_PER_RUN):
                raise InvalidResponseError(f"{_RUNS}: too many runs for their size")
    except NextmvError as error:
        error.args = (f"{error} (application {application[:_SHOWN]!r})",)
        if isinstance(error, StatusError) and error.gone:
            return error
        raise
    queue = {key: run for key, run in latest.items() if _in_queue(run)}
    ended = {hash(run.id) for key, run in latest.items() if run.id and key not in queue}
    return list(queue.values()), ended


def _quoted(application: str) -> str:
    quoted = quote(application, safe="")
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted


def _in_queue(run: Run) -> bool:
    return (run.status_v2 or "").lower() in _IN_QUEUE


def _parsed(parse: Callable[[Bytes], Parsed], body: bytearray, name: str) -> Parsed:
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
        for item in left:
            try:
                results[item] = work(item)
            except NextmvError as error:
                failures.append(error.with_traceback(None))  # which refers to what was read
            except Exception as error:  # noqa: BLE001 - raised in the caller's thread
                failures.append(error)
            ended.release()

    try:
        for _ in range(min(MAX_REQUESTS, len(items))):
            threading.Thread(target=run, name="application runs", daemon=True).start()
        for _ in items:
            ended.acquire()
            if failures:
                raise failures.pop()  # no variable: its traceback refers to this frame
    except RuntimeError as error:
        raise ConnectionFailedError(str(error)) from None
    finally:
        if len(results) < len(items):
            deadline.cancel()  # which ends the other requests
    return {item: results[item] for item in items}
