"""Runs as a table of text that is safe to print on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from unicodedata import category, east_asian_width

from nextmv_exporter.nextmv.account import QueuedRun

UNKNOWN = "unknown"
"""Shown where the status, execution class or application is missing, as in the metrics."""

_GAP = 2
_NARROWEST = 8


def age(run: QueuedRun, now: datetime) -> str | None:
    """Format how long ago a run was created, in its two largest units.

    Args:
        run: the run.
        now: the time at which the age is calculated.

    Returns:
        The age, like `45s`, `12m30s` or `2d4h`; `0s` if the run was created in the future, None
        if `created_at` is None.
    """
    if run.created_at is None:
        return None
    seconds = max(0, int((now - run.created_at).total_seconds()))
    units = {"d": seconds // 86400, "h": seconds // 3600 % 24, "m": seconds // 60 % 60}
    parts = [f"{amount}{unit}" for unit, amount in (units | {"s": seconds % 60}).items()]
    first = next((i for i, amount in enumerate(units.values()) if amount), len(units))
    return "".join(parts[first : first + 2])


_COLUMNS: dict[str, Callable[[QueuedRun, datetime], str | None]] = {
    "ID": lambda run, _: run.id,
    "STATUS": lambda run, _: run.status_v2 or UNKNOWN,
    "AGE": age,
    "CLASS": lambda run, _: run.execution_class or UNKNOWN,
    "APPLICATION": lambda run, _: run.application_id or UNKNOWN,
    "INSTANCE": lambda run, _: run.application_instance_id,
    "VERSION": lambda run, _: run.application_version_id,
    "USER": lambda run, _: run.user_email,
    "NAME": lambda run, _: run.name,
}
_WIDE = {"VERSION", "USER"}


def table(
    runs: Sequence[QueuedRun], now: datetime, *, wide: bool, width: int | None
) -> Iterator[str]:
    """Format runs as lines of a table.

    Args:
        runs: the runs, in the order of the lines.
        now: the time at which ages are calculated.
        wide: whether to show e-mail addresses and versions.
        width: columns of the terminal; None for no limit. ID, status, age and class are never
            cut; the other columns share the rest, and those without room are left out.

    Yields:
        The lines, the header first, each `printable`.
    """
    columns = {name: value for name, value in _COLUMNS.items() if wide or name not in _WIDE}
    rows = [list(columns)]
    rows += (
        [printable(value(run, now) or "") or "-" for value in columns.values()] for run in runs
    )
    natural = [max(map(_width, cells)) for cells in zip(*rows, strict=True)]
    widths = natural if width is None else _fit(natural, width)
    for row in rows:
        yield (" " * _GAP).join(map(_cell, row, widths)).rstrip()


def printable(text: str) -> str:
    """Return a text as one line, without characters that could control a terminal.

    Args:
        text: the text.

    Returns:
        The line.
    """
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide character."""
    if text.isascii():
        return len(text)
    return sum(
        2 if east_asian_width(char) in "WF" else category(char) not in ("Mn", "Me") for char in text
    )


def _fit(widths: Sequence[int], available: int) -> Sequence[int]:
    """Divide the width left by the first four columns among as many others as fit."""
    room = available - sum(widths[:4]) - 3 * _GAP
    if room < 0:
        return widths[:3]
    fitted = list(widths[: 4 + room // (_GAP + _NARROWEST)])
    others = sorted(range(4, len(fitted)), key=fitted.__getitem__)
    for place, column in enumerate(others):
        fitted[column] = min(fitted[column], room // (len(others) - place) - _GAP)
        room -= _GAP + fitted[column]
    return fitted


def _cell(text: str, width: int) -> str:
    if _width(text) > width:
        text = text[:width]
        while _width(text) >= width:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _width(text))
