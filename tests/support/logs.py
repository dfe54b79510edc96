"""What the package logs, as a test sees it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nextmv_exporter import logs


class _List(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        event, fields = getattr(record, "event", record.getMessage()), getattr(record, "fields", {})
        self.lines.append({"event": event, "log_level": record.levelname.lower(), **fields})


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The lines logged meanwhile, from level info on: event, log_level and fields."""
    handler, logger = _List(), logging.getLogger("nextmv_exporter")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Of an earlier test in this process that configured the program's own logging.
            patch.setattr(logging.getLogger(logs.CLIENTS), "filters", [])
            yield handler.lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
