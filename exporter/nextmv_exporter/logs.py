"""Log lines in the format of Prometheus's own programs: logfmt or JSON on stderr."""

import contextlib
import logging
import math
import os
import queue
import sys
import threading
import time

import structlog

CLIENTS = "nextmv_exporter.clients"
"""Logger for events caused by clients: each of its messages is logged at most once a minute."""

MAX_WAITING_LINES = 1000
FLUSH_SECONDS = 1.0
REPEAT_SECONDS = 60.0

_LEVELS = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}

_renders_fields = False  # whether the handler does, rather than the logger


def get_logger(name: str = "nextmv_exporter") -> structlog.stdlib.BoundLogger:
    """Return a logger that takes fields as keyword arguments.

    It wraps a logger of the standard library, so that a program that uses this package as a
    library decides where its lines go. There the fields are part of the message; after
    `configure`, the formatter renders them.

    Args:
        name: the name of the standard library's logger.

    Returns:
        The logger.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[_to_logging],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def _to_logging(
    logger: logging.Logger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.ProcessorReturnValue:
    if _renders_fields:
        return structlog.stdlib.render_to_log_kwargs(logger, method, event)
    exc_info, message = event.pop("exc_info", None), event.pop("event")
    event = _printable(logger, method, event)
    fields = structlog.processors.LogfmtRenderer()(logger, method, event)
    return (f"{message} {fields}".rstrip(),), {"exc_info": exc_info}


def _printable(
    _logger: logging.Logger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape characters that could control a terminal; logfmt itself escapes line breaks."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(
                c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in value
            )
    return event


log = get_logger()


def configure(level: str, log_format: str) -> None:
    """Send all logging of the program and its libraries through one format.

    Args:
        level: `debug`, `info`, `warn` or `error`.
        log_format: `logfmt` or `json`.
    """
    global _renders_fields  # noqa: PLW0603 - logging is global too
    _renders_fields = True
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        lambda _logger, _method, event: {**event, "level": event["level"].removesuffix("ing")},
        structlog.processors.TimeStamper(fmt="iso", key="ts"),
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("msg"),
    ]
    renderers: list[structlog.typing.Processor] = [structlog.processors.JSONRenderer()]
    if log_format == "logfmt":
        order = ["ts", "level", "msg"]
        logfmt = structlog.processors.LogfmtRenderer(key_order=order, bool_as_flag=False)
        renderers = [_printable, logfmt]
    handler = _ThreadHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=_LEVELS[level], force=True)
    logging.captureWarnings(capture=True)
    # uvicorn's messages about starting and stopping duplicate the program's; its errors are kept.
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))
    # urllib3 quotes headers that it can't parse, and a server may echo the key in them.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    for name in (CLIENTS, "uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_RepeatFilter())


def flush() -> None:
    """Wait until all lines are written, unless stderr is blocked."""
    for handler in logging.root.handlers:
        handler.flush()


class _ThreadHandler(logging.Handler):
    """Handler that writes lines in its own thread, so that a blocked stderr blocks nothing else.

    Lines beyond `MAX_WAITING_LINES` are dropped, and their number is logged later.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(MAX_WAITING_LINES)
        self._dropped = 0
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until all lines are written, for a second at most."""
        with (lines := self._lines).all_tasks_done:
            lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, FLUSH_SECONDS)

    def _write_lines(self) -> None:
        reported = 0
        while True:
            line = f"{self._lines.get()}\n".encode(errors="backslashreplace")
            with contextlib.suppress(OSError):  # closed: no one reads the log
                # Not through sys.stderr: a thread blocked there makes Python abort when it exits.
                while line and sys.stderr:
                    line = line[os.write(2, line) :]
            if self._dropped > reported and self._lines.empty():
                dropped, reported = self._dropped - reported, self._dropped
                log.warning("Dropped log lines while stderr was blocked", count=dropped)
            self._lines.task_done()


class _RepeatFilter(logging.Filter):
    """Filter that passes one record a minute of each message, with the number suppressed."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged.

        Args:
            record: the record; `repeated` is set to the number suppressed before it.

        Returns:
            Whether it is logged.
        """
        # All of the package's records come from the same line of structlog.
        place = record.msg if record.name == CLIENTS else (record.pathname, record.lineno)
        now = time.monotonic()
        passed, repeated = self._passed.get(place, (-math.inf, 0))
        if now - passed < REPEAT_SECONDS:
            self._passed[place] = passed, repeated + 1
            return False
        self._passed[place] = now, 0
        if repeated:
            record.repeated = repeated
        return True
