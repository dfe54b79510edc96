"""Log lines in the format of Prometheus's own programs: logfmt or JSON on stderr."""

import atexit
import contextlib
import errno
import json
import logging
import os
import queue
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any

CLIENTS = "nextmv_exporter.clients"
"""Logger for events caused by clients: each of its messages is logged at most once a minute."""

MAX_WAITING_LINES = 1000
FLUSH_SECONDS = 1.0
REPEAT_SECONDS = 60.0

_waiting: queue.Queue[Any] = queue.Queue(MAX_WAITING_LINES)


class Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger of the standard library that takes fields as keyword arguments.

    The fields are part of the message, so that a program that uses this package as a library
    sees them wherever its own logging sends the lines.
    """

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the fields to the message, and both to the record for the program's own format."""
        exc_info = kwargs.pop("exc_info", None)
        fields = dict(kwargs)
        message = f"{msg} {_logfmt(fields)}".rstrip()
        return message, {"exc_info": exc_info, "extra": {"event": msg, "fields": fields}}


def get_logger(name: str = "nextmv_exporter") -> Logger:
    """Return a logger whose methods take a message and fields: `log.info("Read", runs=3)`.

    Args:
        name: the name of the standard library's logger.

    Returns:
        The logger.
    """
    return Logger(logging.getLogger(name), {})


def configure(level: str, log_format: str) -> None:
    """Send all logging of the program and its libraries through one format.

    A thread writes the lines, so that a blocked stderr blocks nothing else. Lines beyond
    `MAX_WAITING_LINES` are dropped meanwhile.

    Args:
        level: `debug`, `info`, `warn` or `error`.
        log_format: `logfmt` or `json`.

    Raises:
        RuntimeError: the system starts no thread.
    """
    handler = QueueHandler(_waiting)
    handler.setFormatter(_Formatter(_logfmt if log_format == "logfmt" else _json))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # or a dropped line would be reported on stderr
    # uvicorn's messages about starting and stopping duplicate the program's; its errors are kept.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))
    # urllib3 quotes headers that it can't parse, and a server may echo the key in them.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    for name in (CLIENTS, "uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_once_a_minute())
    _Writer(_waiting).start()
    atexit.register(flush)


def flush() -> None:
    """Wait until all lines are written, for a second at most: stderr may be blocked."""
    with _waiting.all_tasks_done:
        _waiting.all_tasks_done.wait_for(lambda: not _waiting.unfinished_tasks, FLUSH_SECONDS)


def write(descriptor: int, text: bytes) -> None:
    """Write to stdout or stderr.

    The buffers of `sys.stdout` and `sys.stderr` are not used: Python writes what is left in them
    again when it exits, and aborts if a thread is blocked in them.

    Args:
        descriptor: 1 for stdout, 2 for stderr.
        text: what to write.

    Raises:
        OSError: it is closed or full.
    """
    if (sys.stdout, sys.stderr)[descriptor - 1] is None:  # the number may be another file's
        raise OSError(errno.EBADF, "stdout is closed")
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class _Writer(QueueListener):
    def handle(self, record: logging.LogRecord) -> None:
        """Write a record, whose message is the formatted line by now."""
        with contextlib.suppress(OSError):  # closed: no one reads the log
            write(2, f"{record.getMessage()}\n".encode(errors="backslashreplace"))


class _Formatter(logging.Formatter):
    def __init__(self, render: Callable[[Mapping[str, object]], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower().removesuffix("ing"),
            "msg": getattr(record, "event", None) or record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._render(line)


def _json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, default=str)


def _logfmt(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items())


def _quoted(text: str) -> str:
    """Quote a value if it needs that; escape characters that could control a terminal."""
    if text.isprintable() and not set(' ="').intersection(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable()).replace("\x7f", r"\u007f")


def _once_a_minute() -> Callable[[logging.LogRecord], bool]:
    """Return a filter for one record a minute of each message, with the number left out before."""
    passed: dict[object, tuple[float, int]] = {}

    def passes(record: logging.LogRecord) -> bool:
        place = record.pathname, getattr(record, "event", record.lineno)
        now = time.monotonic()
        last, repeated = passed.get(place, (-REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            passed[place] = last, repeated + 1
            return False
        passed[place] = now, 0
        if repeated:
            record.fields = {**getattr(record, "fields", {}), "repeated": repeated}
        return True

    return passes
