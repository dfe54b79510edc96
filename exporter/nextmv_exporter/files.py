"""Read files that hold configuration or secrets, and reload them when they change."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.errors import ConfigurationError, UnreadableFileError

T = TypeVar("T")
Stamp = tuple[int, ...] | None
Watch = Callable[[Path], None]
"""Called with each file that a value is loaded from, before it is read."""

log = get_logger()


def stamp(path: Path) -> Stamp:
    """Return the state of a file; symbolic links are followed.

    Args:
        path: the file.

    Returns:
        A value that differs after the file was written, replaced, created or removed; None if
        there is no file.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read(path: Path, description: str) -> bytes:
    """Read a file.

    Args:
        path: the file.
        description: what the file is, for the message of an error.

    Returns:
        The content.

    Raises:
        UnreadableFileError: the file can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"{description} {path} can't be read: {error.strerror}") from None


def read_yaml(path: Path, description: str) -> Any:
    """Read a YAML file that may hold secrets.

    Args:
        path: the file.
        description: what the file is, for the message of an error.

    Returns:
        The document.

    Raises:
        UnreadableFileError: the file can't be read.
        ConfigurationError: it is not valid YAML. The message does not quote the file.
    """
    import yaml

    content = read(path, description)
    try:
        return yaml.safe_load(content)
    # PyYAML's constructors raise any exception where a value does not fit its tag: KeyError,
    # IndexError, AttributeError, TypeError, ... Some of them quote the value.
    except Exception as error:  # noqa: BLE001
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
    raise ConfigurationError(f"{description} {path} is not valid YAML{line}: correct it")


class Reloaded(Generic[T]):
    """A value that is loaded from files, and reloaded when one of them changes.

    After a failure the last valid value is kept. A failure is logged once, and again when its
    message changes. A file that could not be read is tried again at each call, an invalid one
    only when it has changed. Safe to use from several threads.

    Args:
        load: loads the value, from the last valid one (None at first) and files that it first
            passes to the `Watch`; raises ConfigurationError.
        on_reload: called with the old and the new value after each reload.
        failure: the log message of a failure, which says what is kept.

    Raises:
        ConfigurationError: the first load failed.
    """

    def __init__(
        self, load: Callable[[T | None, Watch], T], on_reload: Callable[[T, T], None], failure: str
    ) -> None:
        self._load = load
        self._on_reload = on_reload
        self._failure = failure
        self._lock = threading.Lock()
        self._stamps: dict[Path, Stamp] = {}
        self._try_again = False
        self._error = ""
        self._value = load(None, self._watch)

    def __call__(self) -> T:
        """Return the value that the files hold now, or else the last valid one."""
        with self._lock:
            if self.outdated:
                self._reload()
            return self._value

    @property
    def outdated(self) -> bool:
        """Whether the next call reloads the value."""
        return self._try_again or any(stamp(file) != was for file, was in self._stamps.items())

    def reload(self) -> None:
        """Reload the value, whether or not a file has changed."""
        with self._lock:
            self._reload()

    def _watch(self, file: Path) -> None:
        self._stamps = {**self._stamps, file: stamp(file)}

    def _reload(self) -> None:
        self._stamps, self._try_again = {}, True
        try:
            value = self._load(self._value, self._watch)
        except (ConfigurationError, OSError) as error:
            self._try_again = isinstance(error, (UnreadableFileError, OSError))
            if str(error) != self._error:
                log.warning(self._failure, err=str(error))
            self._error = str(error)
            return
        self._try_again, self._error = False, ""
        old, self._value = self._value, value
        self._on_reload(old, value)
