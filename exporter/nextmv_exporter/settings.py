"""Define every setting once: its type, flag, environment variables, default and help.

`docs/flags.md` is checked against `OPTIONS`.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from nextmv_exporter.nextmv.credentials import check_url
from nextmv_exporter.nextmv.errors import ConfigurationError

ENVIRONMENT_PREFIX = "NEXTMV_EXPORTER_"
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
"""Settings of click for the help."""

_SECONDS = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0,
            "ms": 0.001}  # fmt: skip
_DURATION = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _SECONDS))
_LONGEST = 100 * _SECONDS["y"]  # the clocks of the standard library overflow beyond 292 years
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
          "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}  # fmt: skip
# Kubernetes sets such variables for every Service; the chart's may be called nextmv-exporter.
_OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")


class Address(NamedTuple):
    """An address to listen on.

    Args:
        host: name or address; empty for all interfaces.
        port: the port; 0 for any free one.
    """

    host: str
    port: int


def duration_or_zero(text: str) -> float:
    """Parse a duration in Prometheus's format.

    Args:
        text: such as `500ms`, `10s` or `1h30m`, units from large to small; or `0`.

    Returns:
        Seconds.

    Raises:
        ValueError: it is not a duration, or too long.

    Example:
        >>> duration_or_zero("1h30m")
        5400.0
    """
    match = _DURATION.fullmatch("0s" if text == "0" else text)
    amounts = zip(match.groups("0") if match else (), _SECONDS.values(), strict=False)
    total = sum(float(amount) * seconds for amount, seconds in amounts)
    if not text or not match or total > _LONGEST:
        raise ValueError(f"{text!r} is not a duration up to 100y: write it like 500ms or 1h30m")
    return total


def duration(text: str) -> float:
    """Parse a duration that is longer than 0, as `duration_or_zero` does."""
    if not (seconds := duration_or_zero(text)):
        raise ValueError(f"{text!r} must be longer than 0")
    return seconds


def buckets(text: str) -> tuple[float, ...]:
    """Parse upper bounds of a histogram: ascending durations, separated by commas."""
    bounds = tuple(duration(part.strip()) for part in text.split(","))
    if list(bounds) != sorted(set(bounds)):
        raise ValueError(f"{text!r} is not in ascending order")
    return bounds


def size(text: str) -> int:
    """Parse a size, such as `64MiB` or `1000000`, to bytes."""
    match = re.fullmatch(r"([1-9][0-9]*)\s*([A-Za-z]*)", text.strip())
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{text!r} is not a size: write it like 64MiB or 1000000")
    return int(match[1]) * _BYTES[match[2]]


def address(text: str) -> Address:
    """Parse an address to listen on: `host:port`, with IPv6 in brackets."""
    match = re.fullmatch(r"(\[[^\[\]]+\]|(?!.*\.\.)[^:\[\]]*):([0-9]{1,5})", text.strip())
    if not match or int(match[2]) >= 2**16:
        raise ValueError(f"{text!r} is not host:port: write it like :10057 or [::]:10057")
    return Address(match[1].strip("[]"), int(match[2]))


def path(text: str) -> str:
    """Check that a path is free for the metrics."""
    if not re.fullmatch(r"(?!/sd$|/-/)(/[A-Za-z0-9._~-]+)+", text):
        raise ValueError(f"{text!r} is not a path, or one with another use: write it like /metrics")
    return text


def url(text: str) -> str:
    """Check a URL of http or https, without user and query."""
    if "://" not in text:
        raise ValueError("it has no scheme: write it like https://exporter.example:10057")
    return check_url(text, "it")


def name(text: str) -> str:
    """Check a name, such as a profile's; decode it as UTF-8 where the locale could not."""
    decoded = text.strip()
    with suppress(UnicodeError):
        decoded = os.fsencode(decoded).decode()
    if not decoded.isprintable():
        raise ValueError(f"{text!r} has characters that can't be printed")
    return decoded


class Parsed(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on
    """A type of values that a function parses, which raises ValueError with what is wrong.

    Args:
        name: what the help calls such a value.
        parse: the function.
    """

    envvar_list_splitter = ","

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _option(help: str, type: Any = None, **attributes: Any) -> Any:  # noqa: A002
    """Declare a setting: its help text, the type of its flag, more arguments of `click.Option`."""
    return dataclasses.field(metadata={"help": help, "type": type, **attributes})


NAME = Parsed("name", name)
_FILE = click.Path(path_type=Path)
_LENGTH, _LENGTH_OR_ZERO = Parsed("duration", duration), Parsed("duration", duration_or_zero)
_COUNT = click.IntRange(min=1)
_ADDRESS = Parsed("host:port", address)
_ENDPOINT = Parsed("URL", partial(check_url, origin="it"))
_SOURCES = click.Choice(["auto", "account-queue", "application-runs"])
_LEVELS = click.Choice(["debug", "info", "warn", "error"])
_BUCKETS = "5s,15s,30s,1m,2m,5m,10m,30m,1h,2h,6h,12h"


# fmt: off
@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the program; durations are seconds, sizes bytes."""

    demo: bool = _option("Monitor a simulated account; needs no key and no network.", is_flag=True)
    once: bool = _option(
        "Print one scrape and exit: 0 if all accounts are up, 1 if any is down.", is_flag=True)
    nextmv_profile: Sequence[str] = _option(
        "Profile of the configuration file to monitor, one account each; repeatable; * for all "
        "that have a key. [default: the default profile]", NAME, multiple=True)
    nextmv_config_file: Path | None = _option(
        "Nextmv configuration file. [default: ~/.nextmv/config.yaml]", _FILE)
    nextmv_api_key_file: Path | None = _option(
        "File that holds the API key; read again when it changes.", _FILE)
    nextmv_endpoint: str | None = _option(
        "Base URL of the API. [default: https://api.cloud.nextmv.io]", _ENDPOINT)
    nextmv_account_name: str = _option(
        "Account label for a bare API key or the default profile.", NAME, default="default")
    nextmv_timeout: float = _option("Timeout for reading one account.", _LENGTH, default="10s")
    nextmv_max_response_bytes: int = _option(
        "Maximum size of a response, decompressed.", Parsed("size", size), default="64MiB")
    nextmv_source: str = _option("Where the queue is read from.", _SOURCES, default="auto")
    nextmv_run_lookback: float = _option(
        "Maximum age of a run to be found by application-runs.", _LENGTH, default="24h")
    queue_zero_retention: float = _option(
        "How long a drained group is still reported, as 0.", _LENGTH_OR_ZERO, default="5m")
    queue_max_groups: int = _option(
        "Maximum label groups per account; the rest count as __other__.", _COUNT, default="2000")
    queue_wait_buckets: Sequence[float] = _option(
        "Buckets of the wait histogram.", Parsed("durations", buckets), default=_BUCKETS)
    web_listen_address: Sequence[Address] = _option(
        "Address to listen on; IPv6 as [::]:10057; repeatable.", _ADDRESS,
        default=[":10057"], multiple=True)
    web_telemetry_path: str = _option(
        "Path under which metrics are served.", Parsed("path", path), default="/metrics")
    web_timeout_offset: float = _option(
        "Subtracted from Prometheus's scrape timeout.", _LENGTH_OR_ZERO, default="0.5s")
    web_external_url: str | None = _option(
        "URL under which Prometheus reaches the exporter, for /sd. [default: the host of the "
        "request to /sd]", Parsed("URL", url))
    web_config_file: Path | None = _option(
        "Web configuration file, in the format of Prometheus's exporter-toolkit.", _FILE,
        flag="web.config.file")
    log_level: str = _option("Lowest level logged.", _LEVELS, default="info")
    log_format: str = _option(
        "Format of log lines.", click.Choice(["logfmt", "json"]), default="logfmt")
# fmt: on

# Nextmv's own tools have variables for these too, without the exporter's prefix.
_NEXTMVS = re.compile("nextmv_(profile|config_file|api_key_file|endpoint|account_name)")


def _flag(field: dataclasses.Field[Any]) -> click.Option:
    """Create the flag of a setting, which is named as its field, and its variables."""
    attributes = dict(field.metadata)
    flag = attributes.pop("flag", field.name.replace("_", ".", 1).replace("_", "-"))
    spellings = field.name, flag.replace(".", "__").replace("-", "_")
    variables = [f"{ENVIRONMENT_PREFIX}{each.upper()}" for each in spellings]
    variables += [field.name.upper()] if _NEXTMVS.fullmatch(field.name) else []
    return click.Option([f"--{flag}", field.name], envvar=variables, **attributes)


OPTIONS = tuple(map(_flag, dataclasses.fields(Settings)))


def unknown_variables() -> list[str]:
    """Return the names of variables that look like settings of this program but are unknown."""
    known = {f"{ENVIRONMENT_PREFIX}REVISION"}.union(*(option.envvar or () for option in OPTIONS))
    ours = [each for each in os.environ if each.startswith(ENVIRONMENT_PREFIX)]
    return [each for each in ours if each not in known and not _OF_A_SERVICE.search(each)]


def variable_of(parameter: click.Parameter, context: click.Context) -> str | None:
    """Return the environment variable that a parameter has its value from, if any."""
    if context.get_parameter_source(parameter.name or "") is not ParameterSource.ENVIRONMENT:
        return None
    return next(filter(os.environ.get, parameter.envvar or ()), None)


def command(run: Callable[[Settings], object], version: str) -> click.Command:
    """Create the command line's parser.

    Args:
        run: called with the settings; `main` of the command returns its result.
        version: printed by `--version`.

    Returns:
        The command.
    """

    def callback(**values: Any) -> object:
        settings = Settings(**values)
        if not settings.demo:
            _reject_replaced_profile(settings)
        return run(settings)

    made = click.Command(
        "nextmv-exporter",
        params=list(OPTIONS),
        callback=callback,
        context_settings=CONTEXT,
        help="Prometheus exporter for the run queue of Nextmv Cloud accounts.",
        epilog="Every flag can be set in the environment too: NEXTMV_EXPORTER_ and its name in "
        "capitals, with . and - as _. The API key comes from NEXTMV_API_KEY, from a key file, or "
        "from the Nextmv configuration file; it is never a flag, since process lists show flags.",
    )
    return click.version_option(version, "--version", message="%(prog)s %(version)s")(made)


def _reject_replaced_profile(settings: Settings) -> None:
    """Reject a profile asked for by flag, of which something else replaces key or endpoint.

    A flag is a statement: the queue of another account is never shown under that name.
    """
    context = click.get_current_context()
    if context.get_parameter_source("nextmv_profile") is not ParameterSource.COMMANDLINE:
        return
    by_name = {option.name: option for option in OPTIONS}
    replacing = (
        "NEXTMV_API_KEY" if os.environ.get("NEXTMV_API_KEY") else None,
        variable_of(by_name["nextmv_api_key_file"], context),
        "--nextmv.api-key-file" if settings.nextmv_api_key_file else None,
        variable_of(by_name["nextmv_endpoint"], context),
    )
    for each in filter(None, replacing):
        raise ConfigurationError(
            f"--nextmv.profile asks for {' and '.join(settings.nextmv_profile)}, but {each} "
            "would replace its key or endpoint: unset one of the two"
        )


def from_environment(arguments: Sequence[str] = ()) -> Settings:
    """Return the settings from the environment variables.

    Args:
        arguments: flags that take precedence over them.

    Returns:
        The settings.

    Raises:
        ConfigurationError: a variable or a flag has an invalid value.
    """
    parser = command(lambda settings: settings, "")
    try:
        found: Settings = parser.main(list(arguments), standalone_mode=False)
    except click.ClickException as error:
        raise ConfigurationError(message_of(error)) from None
    return found


def message_of(error: click.ClickException) -> str:
    """Return click's message, with the variable that an invalid value came from."""
    variable = None
    if isinstance(error, click.BadParameter) and error.ctx and error.param:
        variable = variable_of(error.param, error.ctx)
    return error.format_message() + (f" (from {variable})" if variable else "")
