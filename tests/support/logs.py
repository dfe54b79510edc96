"""What the package logs, as a test sees it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nextmv_exporter import logs

_USUAL = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _List(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: value for name, value in vars(record).items() if name not in _USUAL}
        self.lines.append(
            {"event": record.getMessage(), "log_level": record.levelname.lower(), **fields}
        )


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The lines logged meanwhile, from level info on: event, log_level and fields."""
    handler, logger = _List(), logging.getLogger("nextmv_exporter")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logs, "_renders_fields", True)
            # Of an earlier test in this process that configured the program's own logging.
            patch.setattr(logging.getLogger(logs.CLIENTS), "filters", [])
            yield handler.lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
