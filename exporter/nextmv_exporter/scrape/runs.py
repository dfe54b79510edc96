"""Parse responses into runs, with only the fields that the metrics need.

A response is decoded in pieces of a few runs, so that its objects never exist all at the same
time, and other threads can run between the pieces.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain, islice
from typing import TypeVar

import msgspec

from nextmv_exporter.nextmv.errors import InvalidResponseError

BYTES_PER_RUN = 100
"""Minimum size per run of a response with many runs; Nextmv's have 300 bytes or more."""

FEW_RUNS = 10_000
"""Runs that a response may hold regardless of its size."""

MAX_PIECE = 3 * 1024 * 1024
"""Maximum size of a piece: a longer run makes the response invalid."""

_PIECE = 16 * 1024
_MAX_ENTRIES = 100_000  # of a piece whose entries are decoded one by one
_MAX_NESTING = 5000  # nested lists and objects that are safe with a stack of 256 KiB

_SPACE = rb"[ \t\r\n]*"
_GAP = re.compile(rb"\}%s,%s\{" % (_SPACE, _SPACE))
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{}]', re.DOTALL)
_LEVELS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_FIRST, _LAST = "\0first of piece", "\0last of piece"
_OPENING = b'{"%s":[{"id":"\\u0000first of piece"}'
_ENDING = b',{"id":"\\u0000last of piece"}]}'
_NOT_JSON = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


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


class RunsPage(msgspec.Struct, gc=False):
    """A page of an application's list of runs, newest first.

    Args:
        runs: the runs.
        next_page_token: token of the next page; None on the last.
    """

    runs: list[Run] | None = None
    next_page_token: str | None = None


class Application(msgspec.Struct, frozen=True):
    """An application.

    Args:
        id: its ID.
    """

    id: str


class ApplicationsPage(msgspec.Struct):
    """A page of the list of applications.

    Args:
        items: the applications.
        next_page_token: token of the next page; None on the last.
    """

    items: list[Application] | None = None
    next_page_token: str | None = None


class _RawPage(msgspec.Struct, gc=False):
    """A page whose runs are not decoded yet."""

    runs: list[msgspec.Raw] | None = None
    next_page_token: str | None = None


class _RawRun(msgspec.Struct, gc=False):
    """A run whose fields are not decoded yet."""

    status_v2: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    execution_class: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    application_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    created_at: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _NotJSONError(InvalidResponseError):
    """A piece cannot be decoded."""


Entry = TypeVar("Entry", Run, Application)
Part = tuple[list[Entry] | None, str | None]  # entries of a list, and the next page's token
Bytes = bytes | bytearray

_decode_runs_page = msgspec.json.Decoder(RunsPage).decode
_decode_raw_page = msgspec.json.Decoder(_RawPage).decode
_decode_raw_run = msgspec.json.Decoder(_RawRun).decode
_decode_moment = msgspec.json.Decoder(datetime).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_applications_page = msgspec.json.Decoder(ApplicationsPage).decode


def parse_queue(body: Bytes) -> Iterator[Run]:
    """Parse a response of `v1/account/queue` while its runs are iterated over.

    Args:
        body: the response's body, JSON.

    Returns:
        A run for each entry of `runs`; one that is not an object has only None fields.

    Raises:
        InvalidResponseError: not JSON, not an object with a list of `runs`, or too many runs for
            the response's size.
    """
    return chain.from_iterable(_lists_of_runs(body))


def parse_runs_page(body: Bytes) -> RunsPage:
    """Parse a response of `v1/applications/{id}/runs`, as leniently as `parse_queue`.

    Args:
        body: the response's body, JSON.

    Returns:
        The page; `runs` may be None, for an application that has none.

    Raises:
        InvalidResponseError: not JSON, `runs` is not a list, or too many runs for the response's
            size.
    """
    return RunsPage(*_joined(_parts(body, "runs", _decode_runs)))


def parse_applications_page(body: Bytes) -> ApplicationsPage:
    """Parse a response of `v1/applications`.

    Args:
        body: the response's body, JSON.

    Returns:
        The page; `items` may be None, for an account that has none.

    Raises:
        InvalidResponseError: not JSON, an application without an ID, or too many of them for the
            response's size.
    """
    return ApplicationsPage(*_joined(_parts(body, "items", _decode_applications)))


def _lists_of_runs(body: Bytes) -> Iterator[list[Run]]:
    for runs, _ in _parts(body, "runs", _decode_runs):
        if runs is None:
            raise InvalidResponseError('the response has no list of "runs"')
        yield runs


def _joined(parts: Iterable[Part[Entry]]) -> Part[Entry]:
    entries: list[Entry] | None = None
    token = None
    for part, next_page_token in parts:
        token = next_page_token or token
        if part is not None:
            entries = entries or []
            entries += part
    return entries, token


def _parts(body: Bytes, key: str, decode: Callable[[Bytes], Part[Entry]]) -> Iterator[Part[Entry]]:
    """Decode a response in pieces, and check the number of its entries."""
    most = max(FEW_RUNS, len(body) // BYTES_PER_RUN)
    for entries, token in _decoded_pieces(body, key, decode):
        most -= len(entries or ())
        if most < 0:
            raise InvalidResponseError(f"too many entries for {len(body)} bytes")
        yield entries, token


def _decoded_pieces(
    body: Bytes, key: str, decode: Callable[[Bytes], Part[Entry]]
) -> Iterator[Part[Entry]]:
    """Decode a response in pieces, each a valid response with a part of the list."""
    listed = re.search(rb'"%s"%s:%s\[' % (key.encode(), _SPACE, _SPACE), body)
    first = listed.end() if listed else len(body)
    start, opening = 0, b""
    while gap := _GAP.search(body, max(start + _PIECE, first)):
        end = gap.start() + 1
        part = _decode_marked(opening, body, start, end, decode)
        if part is None and (sure_end := _end_of_entry(body, max(start, first))):
            end = sure_end
            part = _decode_marked(opening, body, start, end, decode)
        if part is None:
            break  # the list ends here, or this is not JSON
        yield part
        # An entry before the comma, so that a comma too few or too many is invalid here too.
        start, opening = end, _OPENING % key.encode()
    yield _without_first(opening, decode(_piece(opening, body, start, len(body), b"")))


def _decode_marked(
    opening: bytes, body: Bytes, start: int, end: int, decode: Callable[[Bytes], Part[Entry]]
) -> Part[Entry] | None:
    """Decode a piece, if it ends with an entry.

    What looks like the end of an entry may be inside a string or another list. So a mark is
    appended to the piece: it is decoded as an entry only if the piece ends with one.
    """
    try:
        entries, token = decode(_piece(opening, body, start, end, _ENDING))
    except _NotJSONError:
        return None
    if entries and entries.pop().id == _LAST:
        return _without_first(opening, (entries, token))
    return None


def _without_first(opening: bytes, part: Part[Entry]) -> Part[Entry]:
    """Drop the entry with which the pieces after the first one begin.

    It is missing where another list of the same name replaces the one that the pieces are of.
    """
    if opening:
        entries = part[0]
        if not entries or entries.pop(0).id != _FIRST:
            raise InvalidResponseError("the response has two lists of the same name")
    return part


def _piece(opening: bytes, body: Bytes, start: int, end: int, ending: bytes) -> bytes:
    if end - start > MAX_PIECE:
        raise InvalidResponseError(f"more than {MAX_PIECE} bytes without the end of an entry")
    return b"".join((opening, memoryview(body)[start:end], ending))


def _end_of_entry(body: Bytes, start: int) -> int | None:
    """Find the end of the first entry that ends a piece's length after the start of another."""
    level = 0
    for token in _TOKEN.finditer(body, start, start + MAX_PIECE):
        symbol = token[0]
        level += _LEVELS.get(symbol, 0)
        if level < 0:
            return None
        if level == 0 and symbol == b"}" and token.end() - start >= _PIECE:
            return token.end()
    return None


def _decode_runs(piece: Bytes) -> Part[Run]:
    _check_nesting(piece)
    try:
        try:
            page = _decode_runs_page(piece)
        except msgspec.ValidationError:
            page = _decode_runs_leniently(piece)
    except _NOT_JSON as error:
        raise _NotJSONError(f"the response is not a list of runs: {error}") from None
    return page.runs, page.next_page_token


def _decode_applications(piece: Bytes) -> Part[Application]:
    _check_nesting(piece)
    try:
        page = _decode_applications_page(piece)
    except _NOT_JSON as error:
        raise _NotJSONError(f"invalid list of applications: {error}") from None
    return page.items, page.next_page_token


def _check_nesting(piece: Bytes) -> None:
    """Reject nesting that could exhaust the stack, which Python 3.12 and 3.13 do not check."""
    # A level of objects takes four bytes; most pieces are too short, and have one list.
    if len(piece) < 4 * _MAX_NESTING and piece.find(b"[") == piece.rfind(b"["):
        return
    if piece.count(b"{") + piece.count(b"[") <= _MAX_NESTING:
        return
    openings = (token for token in _TOKEN.finditer(piece) if _LEVELS.get(token[0]) == 1)
    if next(islice(openings, _MAX_NESTING, None), None):  # not counting those inside strings
        raise InvalidResponseError(f"an entry of more than {_MAX_NESTING} lists and objects")


def _decode_runs_leniently(piece: Bytes) -> RunsPage:
    """Decode the runs one by one, so that an invalid one does not affect the others."""
    if piece.count(b",") > _MAX_ENTRIES:
        raise InvalidResponseError("too many values that are not runs")
    page = _decode_raw_page(piece)
    runs = None if page.runs is None else [_decode_run_leniently(entry) for entry in page.runs]
    return RunsPage(runs, page.next_page_token)


def _decode_run_leniently(entry: msgspec.Raw) -> Run:
    """Decode the fields one by one; an entry that is not an object has none."""
    run = Run()
    with suppress(msgspec.ValidationError):
        raw = msgspec.structs.asdict(_decode_raw_run(entry))
        for field, value in raw.items():
            decode = _decode_moment if field == "created_at" else _decode_text
            with suppress(msgspec.ValidationError):
                if value is not msgspec.UNSET:
                    setattr(run, field, decode(value))
    return run
