"""Parse responses into runs, with only the fields that are needed."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from nextmv_exporter.nextmv.errors import InvalidResponseError

BYTES_PER_RUN = 160
"""Minimum size per run of a response with many runs; Nextmv's have 300 bytes or more."""

FEW_RUNS = 10_000
"""Runs that a response may hold regardless of its size."""

_BYTES_PER_VALUE = 20  # of a response with an invalid run; Nextmv's have 30
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
_NULL = msgspec.Raw(b"null")


class Run(msgspec.Struct, gc=False):
    """The fields of a run that the metrics use; None if a field is absent or invalid.

    Args:
        status_v2: the status, as the API writes it.
        execution_class: the execution class.
        application_id: ID of the application.
        created_at: when it was created; without a time zone where the API wrote none.
        id: its ID.
    """

    status_v2: str | None = None
    execution_class: str | None = None
    application_id: str | None = None
    created_at: datetime | None = None
    id: str | None = None


class DetailedRun(Run, gc=False):
    """A run with the fields that only people read, not decoded: none of them is ever invalid."""

    user_email: msgspec.Raw = _NULL
    name: msgspec.Raw = _NULL
    description: msgspec.Raw = _NULL
    application_instance_id: msgspec.Raw = _NULL
    application_version_id: msgspec.Raw = _NULL


class Application(msgspec.Struct, frozen=True):
    """An application.

    Args:
        id: its ID.
    """

    id: str


Entry = TypeVar("Entry")
Bytes = bytes | bytearray


class Page(msgspec.Struct, Generic[Entry]):
    """A page of a list of runs, of which the queue is the only one, or of applications.

    Args:
        runs: the runs; None for an application that has none, and on a page of applications.
        items: the applications; None for an account that has none, and on a page of runs.
        next_page_token: token of the next page; None on the last.
    """

    runs: list[Entry] | None = None
    items: list[Application] | None = None
    next_page_token: str | None = None


def created_timestamp(created: datetime | None) -> float | None:
    """Convert a `created_at`.

    Args:
        created: the time; without a time zone it is taken as UTC.

    Returns:
        Unix seconds, or None if it is missing, or before the year 2000, as Go's zero time is.
    """
    if created is None:
        return None
    moment = created if created.tzinfo else created.replace(tzinfo=UTC)
    return moment.timestamp() if moment >= _YEAR_2000 else None


def parse_queue(body: Bytes, kind: type[Run] = Run) -> list[Run]:
    """Parse a response of `v1/account/queue`.

    Args:
        body: the response's body, JSON.
        kind: the type of the runs.

    Returns:
        A run for each entry of `runs`; one that is not an object has only None fields.

    Raises:
        InvalidResponseError: not JSON, not an object with a list of `runs`, or too many runs for
            the response's size.
    """
    runs = parse_page(body, kind).runs
    if runs is None:
        raise InvalidResponseError('the response has no list of "runs"')
    return runs


def parse_page(body: Bytes, kind: type[Run] = Run) -> Page[Run]:
    """Parse a page of a list: of runs, as leniently as the queue, or of applications.

    Args:
        body: the response's body, JSON.
        kind: the type of the runs.

    Returns:
        The page.

    Raises:
        InvalidResponseError: not JSON, no lists, an application without an ID, or too many entries
            for the response's size.
    """
    _check_count(body, b"{", max(FEW_RUNS, len(body) // BYTES_PER_RUN))
    with suppress(msgspec.ValidationError):
        page: Page[Run] = _decoded(_decoder(Page[kind]), body)  # type: ignore[valid-type]
        return page
    # One by one, so that an invalid run does not affect the others.
    _check_count(body, b",", max(10 * FEW_RUNS, len(body) // _BYTES_PER_VALUE))
    try:
        raw: Page[msgspec.Raw] = _decoded(_decoder(Page[msgspec.Raw]), body)
    except msgspec.ValidationError as error:
        raise InvalidResponseError(f"the response is not a list of the API: {error}") from None
    runs = None if raw.runs is None else [_decode_run(entry, kind) for entry in raw.runs]
    return Page(runs, raw.items, raw.next_page_token)


def _check_count(body: Bytes, symbol: bytes, most: int) -> None:
    """Reject more objects or values than a response of its size can have in good faith.

    Three bytes, `{},`, take sixty once they are decoded.
    """
    count = body.count(symbol)
    if count > most:  # some may be in strings
        count -= sum(string[0].count(symbol) for string in _STRING.finditer(body))
    if count > most:
        raise InvalidResponseError(f"too many entries for {len(body)} bytes")


@cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    return msgspec.json.Decoder(kind).decode


def _decoded(decode: Callable[[Any], Any], body: Bytes | msgspec.Raw) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError:
        raise
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        cause = f"not JSON of the API, but perhaps a proxy's login page: {error}"
        raise InvalidResponseError(f"the response is {cause}") from None


@cache
def _raw_decoder(kind: type[Run]) -> Callable[[msgspec.Raw], Any]:
    fields = [(name, msgspec.Raw, _NULL) for name in kind.__struct_fields__]
    return _decoder(msgspec.defstruct("RawRun", fields))


def _decode_run(entry: msgspec.Raw, kind: type[Run]) -> Run:
    """Decode a run, if need be field by field; an entry that is not an object has none."""
    with suppress(msgspec.ValidationError):
        whole: Run = _decoded(_decoder(kind), entry)
        return whole
    run = kind()
    with suppress(msgspec.ValidationError):
        raw = _decoded(_raw_decoder(kind), entry)
        for field in msgspec.structs.fields(kind):
            with suppress(msgspec.ValidationError):
                value = _decoded(_decoder(field.type), getattr(raw, field.name))
                setattr(run, field.name, value)
    return run
