"""From the response's bytes to runs, with no more of each than the metrics need."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar, cast

import msgspec

from nextmv_exporter.nextmv.errors import InvalidResponseError

FEW_VALUES = 1_000_000
"""JSON values that an answer may hold whatever its size."""

BYTES_PER_VALUE = 4
"""Bytes that an answer with more values needs for each. One of Nextmv's has 27 or more; the
room between is for texts that are full of commas, which count as if they parted values."""

FEW_RUNS = 100_000
"""Runs that an answer may hold whatever its size."""

BYTES_PER_RUN = 64
"""Bytes that an answer with more runs needs for each; one of Nextmv's has 300 or more."""


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


class _RawAnswer(msgspec.Struct, gc=False):
    """An answer whose runs are not looked into yet."""

    runs: list[msgspec.Raw] | None
    next_page_token: str | None = None


AnyRun = TypeVar("AnyRun", bound=Run)

_queue_decoder = msgspec.json.Decoder(_Queue)
_runs_page_decoder = msgspec.json.Decoder(RunsPage)
_applications_page_decoder = msgspec.json.Decoder(ApplicationsPage)
_raw_decoder = msgspec.json.Decoder(_RawAnswer)
_run_decoders = {kind: msgspec.json.Decoder(kind) for kind in (Run, ListedRun)}
_BRACE = ord("{")
_STRIDE = 997
_REFUSED = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def parse_queue(body: bytes | bytearray) -> list[Run]:
    """Parse the answer of `v1/account/queue`.

    Bytes go straight into `Run`s. Only where that fails are they read once more, run by run, so
    that one bad run never spoils the others.

    Args:
        body: the response's body, JSON.

    Returns:
        A run for each entry of `runs`; one that is no object has None everywhere.

    Raises:
        InvalidResponseError: not JSON, no object with a list of `runs`, or absurdly many values.
    """
    _refuse_swarm(body)
    try:
        runs = _queue_decoder.decode(body).runs
    except _REFUSED:
        entries, _ = _entries(body)
        if entries is None:
            raise InvalidResponseError('the answer has no list of "runs"') from None
        runs = [_lenient_run(entry, Run) for entry in entries]
    _refuse_crowd(runs, body)
    return runs


def parse_runs_page(body: bytes | bytearray) -> RunsPage:
    """Parse an answer of `v1/applications/{id}/runs`, as leniently as `parse_queue`.

    Args:
        body: the response's body, JSON.

    Returns:
        The page; its `runs` may be None, for an application that has none.

    Raises:
        InvalidResponseError: not JSON, or `runs` is no list.
    """
    _refuse_swarm(body)
    try:
        return _runs_page_decoder.decode(body)
    except _REFUSED:
        entries, token = _entries(body)
        return RunsPage([_lenient_run(entry, ListedRun) for entry in entries or ()], token)


def parse_applications_page(body: bytes | bytearray) -> ApplicationsPage:
    """Parse an answer of `v1/applications`.

    Args:
        body: the response's body, JSON.

    Returns:
        The page; its `items` may be None, for an account that has none.

    Raises:
        InvalidResponseError: not JSON, or an application without an ID.
    """
    _refuse_swarm(body)
    try:
        return _applications_page_decoder.decode(body)
    except _REFUSED as error:
        raise InvalidResponseError(f"the list of applications is unusable: {error}") from None


def _refuse_swarm(body: bytes | bytearray) -> None:
    """Refuse an answer of tiny values without number.

    Millions of `[]` would make Python objects of thirty times the answer's size, and keep all
    other threads waiting for seconds, beyond the deadlines of their scrapes. The commas bound
    how many values there are, without making any.
    """
    # Every 997th byte tells it well enough, and costs next to nothing.
    commas = body[::_STRIDE].count(b",") * _STRIDE
    if commas > max(FEW_VALUES, len(body) // BYTES_PER_VALUE):
        raise InvalidResponseError(
            f"the answer holds about {commas} values in {len(body)} bytes: this is no list of runs"
        )


def _refuse_crowd(entries: Sequence[object], body: bytes | bytearray) -> None:
    if len(entries) > max(FEW_RUNS, len(body) // BYTES_PER_RUN):
        raise InvalidResponseError(
            f"the answer holds {len(entries)} runs in {len(body)} bytes: they are too small"
        )


def _entries(body: bytes | bytearray) -> tuple[Sequence[object] | None, str | None]:
    """Split an answer into its runs, and give the token of the next page."""
    entries: Sequence[object] | None
    try:
        answer = _raw_decoder.decode(body)
        entries, token = answer.runs, answer.next_page_token
    except _REFUSED:
        loaded = _load(body)
        if not isinstance(loaded, dict):
            raise InvalidResponseError("the answer is not a JSON object") from None
        entries, token = loaded.get("runs"), loaded.get("next_page_token")
        if not isinstance(entries, list | None) or not isinstance(token, str | None):
            raise InvalidResponseError('"runs" or "next_page_token" has the wrong type') from None
    _refuse_crowd(entries or (), body)
    return entries, token or None


def _load(text: bytes | bytearray) -> object:
    """Parse what is JSON to the standard library only, as NaN and halves of surrogate pairs are."""
    try:
        # No number is used, and Python refuses to read an integer of thousands of digits.
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError) as error:
        fault = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidResponseError(f"the answer is not valid JSON: {fault}") from None


def _lenient_run(entry: object, kind: type[AnyRun]) -> AnyRun:
    """Take from an entry what can be used of it, and nothing of what is no object."""
    if isinstance(entry, msgspec.Raw):
        if memoryview(entry)[0] != _BRACE:
            return kind()
        with suppress(*_REFUSED):
            return cast("AnyRun", _run_decoders[kind].decode(entry))
        entry = _load(bytes(entry))
    if not isinstance(entry, dict):
        return kind()
    return kind(**{f: v for f in kind.__struct_fields__ if isinstance(v := entry.get(f), str)})
