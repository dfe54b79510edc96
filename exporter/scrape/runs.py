"""From the response's bytes to runs, with no more of each than the metrics need."""

import json
from typing import Any, TypeVar

import msgspec

from exporter.nextmv.errors import InvalidResponseError


class Run(msgspec.Struct, gc=False):
    """What a run contributes to the metrics; None is a field that is absent or no text.

    Args:
        status_v2: the status, as the API writes it.
        execution_class: the execution class.
        application_id: ID of the application.
        created_at: when it was made, RFC 3339. It stays text until an age is needed.
    """

    status_v2: str | None = None
    execution_class: str | None = None
    application_id: str | None = None
    created_at: str | None = None


class ListedRun(Run, gc=False):
    """A run in an application's list.

    Args:
        id: its ID, by which a run that turns up on two pages is known.
    """

    id: str | None = None


class RunsPage(msgspec.Struct, gc=False):
    """A page of an application's list of runs, newest first.

    Args:
        runs: the runs.
        next_page_token: asks for the next page; None on the last.
    """

    runs: list[ListedRun] | None = None
    next_page_token: str | None = None


class Application(msgspec.Struct):
    """An application.

    Args:
        id: its ID.
    """

    id: str


class ApplicationsPage(msgspec.Struct):
    """A page of the list of applications.

    Args:
        items: the applications.
        next_page_token: asks for the next page; None on the last.
    """

    items: list[Application] | None = None
    next_page_token: str | None = None


class _Queue(msgspec.Struct, gc=False):
    runs: list[Run]


AnyRun = TypeVar("AnyRun", bound=Run)

_queue_decoder = msgspec.json.Decoder(_Queue)
_runs_page_decoder = msgspec.json.Decoder(RunsPage)
_applications_page_decoder = msgspec.json.Decoder(ApplicationsPage)
_REFUSED = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def parse_queue(body: bytes | bytearray) -> list[Run]:
    """Parse the answer of `v1/account/queue`.

    Bytes go straight into `Run`s. Only where that fails is the body read once more, by the
    standard library and run by run, so that one bad run never spoils the others.

    Args:
        body: the response's body, JSON.

    Returns:
        A run for each entry of `runs`; one that is no object has None everywhere.

    Raises:
        InvalidResponseError: not JSON, or no object with a list of `runs`.
    """
    try:
        return _queue_decoder.decode(body).runs
    except _REFUSED:
        answer = _load(body)
        if not isinstance(answer.get("runs"), list):
            raise InvalidResponseError('the answer has no list of "runs"') from None
        return [_lenient_run(entry, Run) for entry in answer["runs"]]


def parse_runs_page(body: bytes | bytearray) -> RunsPage:
    """Parse an answer of `v1/applications/{id}/runs`, as leniently as `parse_queue`.

    Args:
        body: the response's body, JSON.

    Returns:
        The page; its `runs` may be None, for an application that has none.

    Raises:
        InvalidResponseError: not JSON, or `runs` is no list.
    """
    try:
        return _runs_page_decoder.decode(body)
    except _REFUSED:
        answer = _load(body)
        runs, token = answer.get("runs") or [], answer.get("next_page_token") or None
        if not isinstance(runs, list) or not isinstance(token, str | None):
            raise InvalidResponseError('"runs" or "next_page_token" has the wrong type') from None
        return RunsPage([_lenient_run(entry, ListedRun) for entry in runs], token)


def parse_applications_page(body: bytes | bytearray) -> ApplicationsPage:
    """Parse an answer of `v1/applications`.

    Args:
        body: the response's body, JSON.

    Returns:
        The page; its `items` may be None, for an account that has none.

    Raises:
        InvalidResponseError: not JSON, or an application without an ID.
    """
    try:
        return _applications_page_decoder.decode(body)
    except _REFUSED as error:
        raise InvalidResponseError(f"the list of applications is unusable: {error}") from None


def _load(body: bytes | bytearray) -> dict[str, Any]:
    try:
        # No number is used, and Python refuses to read an integer of thousands of digits.
        answer = json.loads(body, parse_int=float)
    except (ValueError, RecursionError) as error:
        fault = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidResponseError(f"the answer is not valid JSON: {fault}") from None
    if not isinstance(answer, dict):
        raise InvalidResponseError("the answer is not a JSON object")
    return answer


def _lenient_run(entry: object, kind: type[AnyRun]) -> AnyRun:
    """Take from a decoded entry what can be used of it, and nothing of what is no object."""
    if not isinstance(entry, dict):
        return kind()
    return kind(**{f: v for f in kind.__struct_fields__ if isinstance(v := entry.get(f), str)})
