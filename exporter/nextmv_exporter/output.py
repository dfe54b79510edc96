"""Lines for stdout and stderr, which may be full or closed."""

import os

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
        discard(2 if err else 1)


def discard(descriptor: int) -> None:
    """Discard what could not be written: Python would fail to write it again when it exits.

    Args:
        descriptor: that of stdout or stderr.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
