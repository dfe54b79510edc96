"""`nextmv-queue`: print the runs of the accounts' queues for people."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import click

from nextmv_exporter import __version__
from nextmv_exporter.accounts import account_name, profiles, resolve
from nextmv_exporter.cli import complain, run_command
from nextmv_exporter.logs import write
from nextmv_exporter.nextmv.account import Account, Queue, QueuedRun
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.credentials import listed, load_config, profiles_with_key
from nextmv_exporter.nextmv.errors import ConfigurationError, NextmvError, printable
from nextmv_exporter.settings import CONTEXT, NAME, Settings, from_environment

EXIT_FAILED = 1
UNKNOWN = "unknown"
"""Shown where the status, execution class or application is missing, as in the metrics."""

_CONCURRENT = 8  # accounts that are read at once
_FILTERS = ("status_v2", "execution_class", "application_id")
_LAST = datetime.max.replace(tzinfo=UTC)


class Row(NamedTuple):
    """A run, and the account that it is of."""

    account: str
    run: QueuedRun


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit.

    Args:
        arguments: those of the command line; without them, the process's own.
    """
    sys.exit(run_command(print_queue, arguments))


def _filter(flag: str, field: str, help: str) -> Callable[..., Callable[..., int]]:  # noqa: A002
    return click.option(flag, field, type=NAME, multiple=True, help=f"{help}; repeatable.")


def _setting(flag: str, help: str) -> Callable[..., Callable[..., int]]:  # noqa: A002
    """Declare a flag that the exporter has as `--nextmv.…`, and that its parser checks."""
    return click.option(flag, multiple=True, help=help)


@click.command("nextmv-queue", context_settings=CONTEXT)
@_filter("--status", "status_v2", "Only runs with this status")
@_filter("--execution-class", "execution_class", "Only runs of this class")
@_filter("--application", "application_id", "Only runs of this application")
@click.option("--limit", type=click.IntRange(0), default=20, help="Maximum runs; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, all fields.")
@click.option("--wide", is_flag=True, help="Print versions and e-mail addresses too; cut no line.")
@click.option("--account", type=NAME, help="Account, named as in the metrics. [default: all]")
@_setting("--profile", "Profile of the configuration file; * for all that have a key.")
@_setting("--config-file", "Nextmv configuration file. [default: ~/.nextmv/config.yaml]")
@_setting("--api-key-file", "File that holds the API key.")
@_setting("--endpoint", "Base URL of the API. [default: https://api.cloud.nextmv.io]")
@_setting("--timeout", "Timeout for reading one account. [default: 10s]")
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
def print_queue(
    *, limit: int, as_json: bool, wide: bool, account: str | None, **flags: Sequence[str]
) -> int:
    """Print the runs of a Nextmv account's queue, oldest first.

    Accounts, keys and endpoint are those of an exporter with the same environment. A missing
    status, execution class or application is called "unknown".
    """
    filters = {field: flags.pop(field) for field in _FILTERS}
    given = [(key.replace("_", "-"), value) for key, values in flags.items() for value in values]
    arguments = [f"--nextmv.{flag}={value}" for flag, value in given]
    settings, accounts = _select(arguments, account)
    rows, failures = _read_all(settings, accounts)
    found = [row for row in rows if all(_has(row, *each) for each in filters.items())]
    found.sort(key=lambda row: row.run.created_at or _LAST)
    shown = found[: limit or None]
    hidden = (set() if wide else {"VERSION", "USER"}) | (set() if accounts[1:] else {"ACCOUNT"})
    room = shutil.get_terminal_size().columns if os.isatty(1) and not wide else None
    named = "ACCOUNT" not in hidden
    lines = (_json(row, named=named) for row in shown) if as_json else table(shown, hidden, room)
    encoding = getattr(sys.stdout, "encoding", "utf-8")  # without a stdout, sys.stdout is None
    with suppress(BrokenPipeError):  # which is how `head` ends its input
        write(1, "".join(f"{line}\n" for line in lines).encode(encoding, "replace"))
    if not shown and failures < len(accounts):
        complain(_why_none(rows, filters))
    if left := len(found) - len(shown):
        complain(f"{left} more run{'s' * (left > 1)}: --limit 0 prints all.")
    return EXIT_FAILED if failures else 0


def _select(arguments: list[str], account: str | None) -> tuple[Settings, list[str]]:
    """Return the settings and the profiles, one for each account to read."""
    settings = from_environment(arguments)
    chosen = list(profiles(settings))
    if account is None:
        return settings, chosen
    known = {account_name(settings, profile): profile for profile in chosen}
    if account in known:
        return settings, [known[account]]
    if not settings.nextmv_profile:  # the exporter may have a flag that the environment lacks
        others = profiles_with_key(load_config(settings.nextmv_config_file))
        if account in others:
            return from_environment([*arguments, f"--nextmv.profile={account}"]), [account]
    raise ConfigurationError(f"no account is named {account!r}: choose one of {listed([*known])}")


def _read_all(settings: Settings, accounts: Sequence[str]) -> tuple[list[Row], int]:
    """Return the runs of all profiles' accounts, and the number of those that can't be read."""
    with ThreadPoolExecutor(_CONCURRENT) as pool:
        read = {
            account_name(settings, each): pool.submit(_read, settings, each) for each in accounts
        }
    rows: list[Row] = []
    failures = 0
    for name, result in read.items():
        try:
            rows += (Row(name, run) for run in result.result().runs)
        except (ConfigurationError, NextmvError) as error:
            if isinstance(error, ConfigurationError) and len(accounts) == 1:
                raise
            failures += 1
            complain(f"nextmv-queue: cannot read the queue of {name}: {error}")
    return rows, failures


def _read(settings: Settings, profile: str) -> Queue:
    credentials = resolve(settings, profile)
    timeout, limit = settings.nextmv_timeout, settings.nextmv_max_response_bytes
    client = Client(credentials=lambda: credentials, timeout=timeout, max_response_bytes=limit)
    source, lookback = settings.nextmv_source, settings.nextmv_run_lookback
    return Account(client).queue(source=source, run_lookback=lookback)


def _value(row: Row, field: str) -> str:
    return getattr(row.run, field) or UNKNOWN


def _has(row: Row, field: str, wanted: Sequence[str]) -> bool:
    return not wanted or _value(row, field).lower() in map(str.lower, wanted)


def _why_none(rows: Sequence[Row], filters: Mapping[str, Sequence[str]]) -> str:
    if not rows:
        return "No runs found."
    for field, wanted in filters.items():
        if not any(_has(row, field, wanted) for row in rows):
            what = field.removesuffix("_v2").removesuffix("_id").replace("_", " ")
            there = listed(sorted({_value(row, field) for row in rows}))
            return f"No run has the {what} {' or '.join(wanted)}: there are {there}."
    return "No run matches all of these filters."


def _json(row: Row, *, named: bool) -> str:
    account = {"account": row.account} if named else {}
    return json.dumps(account | row.run.model_dump(mode="json"))


def age(created: datetime | None, now: datetime) -> str | None:
    """Format how long ago a run was created, in its two largest units.

    Args:
        created: when it was created.
        now: the time at which the age is calculated.

    Returns:
        The age, like `45s`, `12m30s` or `2d4h`; `0s` for a time in the future, None without one.
    """
    if created is None:
        return None
    seconds = max(0, int((now - created).total_seconds()))
    counts = (seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60)
    parts = [f"{count}{unit}" for count, unit in zip(counts, "dhms", strict=True)]
    first = next((place for place, count in enumerate(counts) if count), 3)
    return "".join(parts[first : first + 2])


_COLUMNS: Mapping[str, Callable[[Row, datetime], str | None]] = {
    "ACCOUNT": lambda row, _: row.account,
    "ID": lambda row, _: row.run.id,
    "STATUS": lambda row, _: _value(row, "status_v2"),
    "AGE": lambda row, now: age(row.run.created_at, now),
    "CLASS": lambda row, _: _value(row, "execution_class"),
    "APPLICATION": lambda row, _: _value(row, "application_id"),
    "INSTANCE": lambda row, _: row.run.application_instance_id,
    "VERSION": lambda row, _: row.run.application_version_id,
    "USER": lambda row, _: row.run.user_email,
    "NAME": lambda row, _: row.run.name,
}


def table(rows: Sequence[Row], hidden: Collection[str], room: int | None) -> Iterator[str]:
    """Format runs as lines of a table that are safe to print on a terminal.

    Args:
        rows: the runs, in the order of the lines.
        hidden: names of columns to leave out.
        room: characters of a line; None for all.

    Yields:
        The lines, the header first; none without runs.
    """
    now = datetime.now(UTC)
    columns = {title: value for title, value in _COLUMNS.items() if title not in hidden}
    cells = [list(columns)]
    cells += (
        [printable(value(row, now) or "") or "-" for value in columns.values()] for row in rows
    )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells if rows else ():
        yield "  ".join(map(str.ljust, line, widths)).rstrip()[:room]
