"""Write to stdout and stderr, which may be full or closed."""

import errno
import os
import sys

import click


def echo(line: str, *, err: bool) -> None:
    """Write a line, if that is possible.

    Args:
        line: the line.
        err: whether to write to stderr rather than stdout.
    """
    try:
        click.echo(line, err=err)
    except OSError:
        _discard(2 if err else 1)


def write(data: bytes) -> None:
    """Write to stdout.

    Args:
        data: what to write.

    Raises:
        OSError: stdout is closed or full.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    try:
        click.echo(data, nl=False)
    except OSError:
        _discard(1)
        raise


def _discard(descriptor: int) -> None:
    """Discard what could not be written: Python would fail to write it again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
