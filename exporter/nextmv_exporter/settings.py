"""Define every setting once: its type, flag, environment variables, default and help.

The README's table of flags is checked against `OPTIONS`.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nextmv_exporter import units
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.units import Address

ENVIRONMENT_PREFIX = "NEXTMV_EXPORTER_"

# Kubernetes sets variables for every Service; the chart's may be called nextmv-exporter.
_SERVICE_VARIABLE = re.compile(
    r"\w*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


class _Parsed(click.ParamType[Any]):
    """A type of values that a function of `units` parses.

    Args:
        name: what the help calls such a value.
        parse: raises ValueError with what is wrong.
    """

    envvar_list_splitter = ","

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_DURATION = _Parsed("duration", units.duration)
_DURATION_OR_ZERO = _Parsed("duration", units.duration_or_zero)
_FILE = click.Path(path_type=Path)


def _option(
    flag: str,
    help: str,  # noqa: A002
    type: click.ParamType[Any] | None = None,  # noqa: A002
    *,
    variables: Sequence[str] = (),
    **attributes: Any,
) -> Any:
    """Declare a setting with a flag, which the environment can set too.

    Args:
        flag: such as `web.listen-address`.
        help: its help text.
        type: converts its value; without one it is text.
        variables: environment variables that Nextmv's own tools use for it.
        attributes: further arguments of `click.Option`.
    """
    spellings = (flag.replace(".", "_"), flag.replace(".", "__"))
    own = [ENVIRONMENT_PREFIX + s.replace("-", "_").upper() for s in dict.fromkeys(spellings)]
    option = click.Option(
        [f"--{flag}", spellings[0].replace("-", "_")],
        envvar=[*own, *variables],
        help=help,
        type=type,
        **attributes,
    )
    return field(metadata={"option": option})


@dataclass(frozen=True)
class Settings:
    """The settings of the program; durations are seconds, sizes bytes."""

    demo: bool = _option(
        "demo",
        "Monitor a simulated Nextmv account that the program itself serves on loopback; "
        "needs no key and no network.",
        is_flag=True,
    )
    once: bool = _option(
        "once",
        "Print one scrape to stdout and exit: 0 if all accounts are up, 1 if any is down, "
        "2 if it could not be printed.",
        is_flag=True,
    )
    nextmv_profile: Sequence[str] = _option(
        "nextmv.profile",
        "Profile of the Nextmv configuration file to monitor, one account each; repeatable; "
        "* for all that have a key. [default: the default profile]",
        _Parsed("name", units.name_or_empty),
        variables=["NEXTMV_PROFILE"],
        multiple=True,
    )
    nextmv_config_file: Path | None = _option(
        "nextmv.config-file",
        "Nextmv configuration file. [default: ~/.nextmv/config.yaml]",
        _FILE,
        variables=["NEXTMV_CONFIG_FILE"],
    )
    nextmv_api_key_file: Path | None = _option(
        "nextmv.api-key-file",
        "File that holds the API key; read again when it changes.",
        _FILE,
        variables=["NEXTMV_API_KEY_FILE"],
    )
    nextmv_endpoint: str | None = _option(
        "nextmv.endpoint",
        "Base URL of the API. [default: https://api.cloud.nextmv.io]",
        variables=["NEXTMV_ENDPOINT"],
        metavar="URL",
    )
    nextmv_account_name: str = _option(
        "nextmv.account-name",
        "Value of the account label for a bare API key or the default profile.",
        _Parsed("name", units.name),
        default="default",
        variables=["NEXTMV_ACCOUNT_NAME"],
    )
    nextmv_timeout: float = _option(
        "nextmv.timeout",
        "Longest time one account's fetch may take in all.",
        _DURATION,
        default="10s",
    )
    nextmv_max_response_bytes: int = _option(
        "nextmv.max-response-bytes",
        "Largest decompressed response accepted.",
        _Parsed("size", units.size),
        default="64MiB",
    )
    nextmv_source: str = _option(
        "nextmv.source",
        "Where the queue is read from.",
        click.Choice(["auto", "account-queue", "application-runs"]),
        default="auto",
    )
    nextmv_run_lookback: float = _option(
        "nextmv.run-lookback",
        "Maximum age of a run to be found by application-runs.",
        _DURATION,
        default="24h",
    )
    queue_zero_retention: float = _option(
        "queue.zero-retention",
        "How long a drained group is still reported, as 0.",
        _DURATION_OR_ZERO,
        default="5m",
    )
    queue_max_groups: int = _option(
        "queue.max-groups",
        "Most label groups reported per account; the rest are folded into __other__.",
        click.IntRange(min=1),
        default="2000",
    )
    queue_wait_buckets: Sequence[float] = _option(
        "queue.wait-buckets",
        "Buckets of the wait histogram.",
        _Parsed("durations", units.buckets),
        default="5s,15s,30s,1m,2m,5m,10m,30m,1h,2h,6h,12h",
    )
    web_listen_address: Sequence[Address] = _option(
        "web.listen-address",
        "host:port to listen on; IPv6 as [::]:10057; repeatable.",
        _Parsed("host:port", units.address),
        default=[":10057"],
        multiple=True,
    )
    web_telemetry_path: str = _option(
        "web.telemetry-path",
        "Path under which metrics are served.",
        _Parsed("path", units.path),
        default="/metrics",
    )
    web_timeout_offset: float = _option(
        "web.timeout-offset",
        "Subtracted from Prometheus's scrape timeout, to leave time for the response.",
        _DURATION_OR_ZERO,
        default="0.5s",
    )
    web_external_url: str | None = _option(
        "web.external-url",
        "URL under which Prometheus reaches the exporter, for /sd. "
        "[default: the host of the request to /sd]",
        _Parsed("URL", units.url),
    )
    web_config_file: Path | None = _option(
        "web.config.file",
        "Web configuration file for TLS, basic authentication and headers, "
        "in the format of Prometheus's exporter-toolkit.",
        _FILE,
    )
    log_level: str = _option(
        "log.level",
        "Lowest level logged.",
        click.Choice(["debug", "info", "warn", "error"]),
        default="info",
    )
    log_format: str = _option(
        "log.format", "Format of log lines.", click.Choice(["logfmt", "json"]), default="logfmt"
    )


OPTIONS: tuple[click.Option, ...] = tuple(each.metadata["option"] for each in fields(Settings))


def unknown_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Find variables that look like settings of this program but are unknown.

    Args:
        environment: the environment.

    Yields:
        The name of such a variable, and the most similar known name.
    """
    known = [f"{ENVIRONMENT_PREFIX}REVISION"]
    known += [name for option in OPTIONS for name in option.envvar or ()]
    for name, value in environment.items():
        injected = _SERVICE_VARIABLE.fullmatch(name) or _SERVICE_URL.match(value)
        ours = name.upper().startswith(ENVIRONMENT_PREFIX)
        if ours and name not in known and not injected:
            yield name, difflib.get_close_matches(name.upper(), known, cutoff=0)[0]


def variable_of(parameter: str, context: click.Context) -> str | None:
    """Return the environment variable that gave a parameter its value.

    Args:
        parameter: the parameter's name.
        context: the context in which the command line was parsed.

    Returns:
        The variable; None if the value is of a flag, or the default.
    """
    if context.get_parameter_source(parameter) is not ParameterSource.ENVIRONMENT:
        return None
    names = next(p.envvar for p in context.command.params if p.name == parameter)
    return next(filter(os.environ.get, names or ()), None)


def command(run: Callable[[Settings], object], version: str) -> click.Command:
    """Create the command line's parser.

    Args:
        run: called with the settings; `main` of the command returns its result.
        version: printed by `--version`.

    Returns:
        The command.
    """

    def callback(**values: Any) -> object:
        return run(Settings(**values))

    made = click.Command(
        "nextmv-exporter",
        params=list(OPTIONS),
        callback=callback,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "show_default": True,
            "max_content_width": 100,
        },
        help="Prometheus exporter for the run queue of Nextmv Cloud accounts.",
        epilog="Every flag can be set in the environment too: NEXTMV_EXPORTER_ and its name in "
        "capitals, with . and - as _. The API key comes from NEXTMV_API_KEY, from a key file, or "
        "from the Nextmv configuration file; it is never a flag, since process lists show flags.",
    )
    return click.version_option(version, "--version", message="%(prog)s %(version)s")(made)


def from_environment() -> Settings:
    """Return the settings from the environment variables, without any flags.

    Returns:
        The settings.

    Raises:
        ConfigurationError: a variable has an invalid value.
    """
    try:
        found: Settings = command(lambda settings: settings, "").main([], standalone_mode=False)
    except click.ClickException as error:
        raise ConfigurationError(error.format_message()) from None
    return found
