"""Lines for stdout and stderr, which may be full or closed."""

import os

import click


def echo_error(line: str) -> None:
    """Write a line to stderr, if that is possible.

    Args:
        line: the line.
    """
    try:
        click.echo(line, err=True)
    except OSError:
        discard(2)


def discard(descriptor: int) -> None:
    """Discard what could not be written: Python would fail to write it again when it exits.

    Args:
        descriptor: that of stdout or stderr.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
