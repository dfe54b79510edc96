"""Runs as a table of text that is safe to print on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from unicodedata import category, east_asian_width

from nextmv_exporter.nextmv.account import QueuedRun

UNKNOWN = "unknown"
"""Shown where the status, execution class or application is missing, as in the metrics."""

_GAP = "  "
_ALWAYS_SHOWN = 3
"""Columns from the left that are shown on a terminal of any width."""
_NEVER_CUT = 4
"""Columns from the left whose values are shown in full, if at all."""
_NARROWEST = 8
"""Width to which the other columns are narrowed before columns are left out."""


def age(run: QueuedRun, now: datetime) -> str | None:
    """Format how long ago a run was created, in its two largest units.

    Args:
        run: the run.
        now: the time to which the age is counted.

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
    runs: Sequence[QueuedRun], now: datetime, *, wide: bool = False, width: int | None = None
) -> Iterator[str]:
    """Format runs as lines of a table.

    Args:
        runs: the runs, in the order of the lines.
        now: the time to which ages are counted.
        wide: whether to show e-mail addresses and versions.
        width: columns of the terminal; None for no limit. ID, status, age and class are never
            cut, the others are; where that is not enough, columns are left out from the right,
            but never the first three.

    Yields:
        The lines, the header first, each `printable`.
    """
    columns = {name: value for name, value in _COLUMNS.items() if wide or name not in _WIDE}
    rows = [list(columns)]
    rows += (
        [printable(value(run, now) or "") or "-" for value in columns.values()] for run in runs
    )
    widths = [max(map(_width, cells)) for cells in zip(*rows, strict=True)]
    if width is not None:
        widths = _fit(widths, width)
    for row in rows:
        yield _GAP.join(map(_cell, row, widths)).rstrip()


def printable(text: str) -> str:
    """Return a text as one line, without characters that could control a terminal."""
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


def _fit(widths: list[int], available: int) -> list[int]:
    """Leave out columns from the right until the rest can be narrowed to fit, and narrow them."""

    def missing(sizes: list[int]) -> int:
        return sum(sizes) + len(_GAP) * (len(sizes) - 1) - available

    least = widths[:_NEVER_CUT] + [min(width, _NARROWEST) for width in widths[_NEVER_CUT:]]
    while len(least) > _ALWAYS_SHOWN and missing(least) > 0:
        least.pop()
    fitted = [min(width, max(available, low)) for width, low in zip(widths, least, strict=False)]
    while len(fitted) > _NEVER_CUT and missing(fitted) > 0:
        widest = max(range(_NEVER_CUT, len(fitted)), key=fitted.__getitem__)
        fitted[widest] -= 1
    return fitted


def _cell(text: str, width: int) -> str:
    if _width(text) > width:
        text = text[:width]
        while _width(text) >= width:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _width(text))
