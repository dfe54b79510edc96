"""Whether files have changed."""

from collections.abc import Sequence
from pathlib import Path

Stamp = tuple[tuple[int, ...] | None, ...]


def stamp(files: Sequence[Path]) -> Stamp:
    """Tell the state of files, to find out whether one has changed.

    Args:
        files: the files; a link stands for what it leads to.

    Returns:
        Something that differs when a file was written, replaced, made or removed.
    """
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
