"""The command line of `nextmv-exporter`."""

import sys
from collections.abc import Sequence

import click

from nextmv_exporter import __version__
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.output import echo
from nextmv_exporter.settings import Settings, command, variable_of

EXIT_CONFIGURATION = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    Args:
        arguments: those of the command line; without them, the process's own.
    """
    parser = command(run, __version__)
    try:
        status = parser.main(arguments, prog_name=parser.name, standalone_mode=False)
    except click.ClickException as error:
        status = _fail(_with_variable(error))
    except ConfigurationError as error:
        status = _fail(_with_flag(error))
    sys.exit(status)


def run(settings: Settings) -> int:
    """Check an exporter's health, or run one.

    Args:
        settings: the settings.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: the configuration is invalid.
    """
    from nextmv_exporter import program

    return program.run(settings)


def _with_flag(error: ConfigurationError) -> str:
    """Return the message of an error with the flag that changes the setting."""
    if not error.setting:
        return str(error)
    demo = "; --demo needs no key" if error.setting == "api-key-file" else ""
    return f"{error} (see --nextmv.{error.setting}{demo})"


def _with_variable(error: click.ClickException) -> str:
    """Return click's message, with the variable that an invalid value came from."""
    message = error.format_message()
    variable = None
    if isinstance(error, click.BadParameter) and error.ctx and error.param:
        variable = variable_of(error.param.name or "", error.ctx)
    return f"{message} (from {variable})" if variable else message


def _fail(message: str) -> int:
    from nextmv_exporter import logs

    logs.flush()  # so that earlier log lines are written first
    echo(f"nextmv-exporter: {' '.join(message.split())}", err=True)
    return EXIT_CONFIGURATION
