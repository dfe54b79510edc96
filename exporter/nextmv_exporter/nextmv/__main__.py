"""`nextmv-queue`: print the runs of an account's queue for people."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from nextmv_exporter import __version__
from nextmv_exporter.nextmv import Account, Client, QueuedRun
from nextmv_exporter.nextmv.credentials import (
    ALL_PROFILES,
    load_config,
    profile_name,
    profiles_with_key,
    read_api_key_file,
    resolve,
)
from nextmv_exporter.nextmv.errors import ConfigurationError, NextmvError
from nextmv_exporter.nextmv.table import UNKNOWN, printable, table
from nextmv_exporter.output import echo, write
from nextmv_exporter.settings import OPTIONS, variable_of

EXIT_UNREADABLE = 1
EXIT_CONFIGURATION = 2

_EXPORTER_OPTIONS = {option.name: option for option in OPTIONS}
_LAST = datetime.max.replace(tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit.

    Args:
        arguments: those of the command line; without them, the process's own.
    """
    try:
        status = print_queue.main(arguments, prog_name="nextmv-queue", standalone_mode=False)
    except click.ClickException as error:
        status = _fail(error.format_message(), EXIT_CONFIGURATION)
    except ConfigurationError as error:
        flag = f" (see --{error.setting})" if error.setting else ""
        status = _fail(f"{error}{flag}", EXIT_CONFIGURATION)
    except NextmvError as error:
        status = _fail(f"cannot read the queue: {error}", EXIT_UNREADABLE)
    except OSError as error:
        status = _fail(f"cannot write to stdout: {error.strerror}", EXIT_UNREADABLE)
    except click.Abort:
        status = 128 + 2
    sys.exit(status)


def _shared(flag: str, help: str) -> Callable[..., Any]:  # noqa: A002 - click's own name
    """Declare a flag with the type, default and variables that it has in the exporter."""
    option = _EXPORTER_OPTIONS["nextmv_" + flag.removeprefix("--").replace("-", "_")]
    kept = ("type", "default", "envvar", "metavar", "multiple")
    return click.option(flag, help=help, **{name: getattr(option, name) for name in kept})


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--status", "status_v2", multiple=True, help="Only runs with this status; repeatable."
)
@click.option("--execution-class", multiple=True, help="Only runs of this class; repeatable.")
@click.option(
    "--application",
    "application_id",
    multiple=True,
    help="Only runs of this application; repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=20,
    help="Maximum number of runs to print; 0 for all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, all fields.")
@click.option(
    "--wide", is_flag=True, help="Print versions and e-mail addresses too; truncate nothing."
)
@_shared("--profile", "Profile of the configuration file. [default: the default profile]")
@_shared("--config-file", "Nextmv configuration file. [default: ~/.nextmv/config.yaml]")
@_shared("--api-key-file", "File that holds the API key.")
@_shared("--endpoint", "Base URL of the API. [default: https://api.cloud.nextmv.io]")
@_shared("--timeout", "Longest time that reading the queue may take.")
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
def print_queue(  # noqa: PLR0913 - one for each flag
    *,
    limit: int,
    as_json: bool,
    wide: bool,
    profile: Sequence[str],
    config_file: Path | None,
    api_key_file: Path | None,
    endpoint: str | None,
    timeout: float,
    **filters: Sequence[str],
) -> int:
    """Print the runs of a Nextmv account's queue, oldest first.

    The API key comes from NEXTMV_API_KEY, from a key file, or from the Nextmv configuration file.
    A missing status, execution class or application is called "unknown".
    """
    key = read_api_key_file(api_key_file) if api_key_file else None
    credentials = resolve(
        _only(profile, config_file), api_key=key, url=endpoint, config_file=config_file
    )
    account = Account(Client(credentials.api_key, credentials.url, timeout=timeout))
    runs = [run for run in account.queue().runs if _matches(run, filters)]
    runs.sort(key=lambda run: run.created_at or _LAST)
    shown = runs[: limit or None]
    if as_json:
        _print(json.dumps(run.model_dump(mode="json")) for run in shown)
    elif shown:
        width = None if wide or not os.isatty(1) else shutil.get_terminal_size().columns
        _print(table(shown, datetime.now(UTC), wide=wide, width=width))
    else:
        echo("No runs found.", err=True)
    if left := len(runs) - len(shown):
        echo(f"{left} more run{'s' * (left > 1)}: --limit 0 prints all.", err=True)
    return 0


def _only(profiles: Sequence[str], config_file: Path | None) -> str:
    names = list(dict.fromkeys(map(profile_name, profiles))) or [""]
    if len(names) == 1 and names != [ALL_PROFILES]:
        return names[0]
    choices = profiles_with_key(load_config(config_file)) if ALL_PROFILES in names else names
    origin = variable_of("profile", click.get_current_context()) or "--profile"
    raise ConfigurationError(
        f"{origin} is {','.join(names)}, but only one profile can be read: "
        + (f"choose one of {', '.join(choices)}" if choices else "none has an API key"),
        "profile",
    )


def _matches(run: QueuedRun, filters: Mapping[str, Sequence[str]]) -> bool:
    return all(
        not wanted or (getattr(run, field) or UNKNOWN).lower() in map(str.lower, wanted)
        for field, wanted in filters.items()
    )


def _print(lines: Iterable[str]) -> None:
    """Write lines to stdout; replace characters that its encoding lacks by `?`."""
    encoding = getattr(sys.stdout, "encoding", "utf-8")  # without a stdout, sys.stdout is None
    with suppress(BrokenPipeError):  # which is how `head` ends its input
        write("".join(f"{line}\n" for line in lines).encode(encoding, "replace"))


def _fail(message: str, status: int) -> int:
    echo(f"nextmv-queue: {printable(message)}", err=True)
    return status


if __name__ == "__main__":
    main()
