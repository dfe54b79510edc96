"""Define every setting once: its type, flag, environment variables, default and help.

`docs/flags.md` is checked against `OPTIONS`.
"""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from nextmv_exporter.nextmv.credentials import check_url
from nextmv_exporter.nextmv.errors import ConfigurationError

ENVIRONMENT_PREFIX = "NEXTMV_EXPORTER_"

_SECONDS = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0,
            "ms": 0.001}  # fmt: skip
_DURATION = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _SECONDS))
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
          "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}  # fmt: skip
_MAX_YEARS = 100  # the clocks of the standard library overflow beyond 292
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
    if not text or not match:
        raise ValueError(f"{text!r} is not a duration: write it like 500ms, 10s, 5m or 1h30m")
    amounts = zip(match.groups(), _SECONDS.values(), strict=True)
    total = sum(float(amount) * seconds for amount, seconds in amounts if amount)
    if total > _MAX_YEARS * _SECONDS["y"]:
        raise ValueError(f"{text!r} is longer than {_MAX_YEARS}y, the longest duration allowed")
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
    match = re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", text.strip())
    if not match or match[2] not in _BYTES or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size: write it like 64MiB or 1000000")
    return int(match[1]) * _BYTES[match[2]]


def address(text: str) -> Address:
    """Parse an address to listen on: `host:port`, with IPv6 in brackets."""
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]+)", text.strip())
    with suppress(UnicodeError):  # the system's functions encode it with IDNA
        if match and int(match[3]) < 2**16:
            host = match[1] or match[2] or ""
            host.encode("idna")
            return Address(host, int(match[3]))
    raise ValueError(
        f"{text!r} is not host:port: write it like :10057, 127.0.0.1:10057 or [::]:10057"
    )


def path(text: str) -> str:
    """Check that a path is free for the metrics."""
    taken = text == "/sd" or text.startswith("/-/")
    if taken or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        raise ValueError(
            f"{text!r} is not a free path: write it like /metrics (/, /sd and /-/ have other uses)"
        )
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

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True)
class Settings:
    """The settings of the program; durations are seconds, sizes bytes."""

    demo: bool
    once: bool
    nextmv_profile: Sequence[str]
    nextmv_config_file: Path | None
    nextmv_api_key_file: Path | None
    nextmv_endpoint: str | None
    nextmv_account_name: str
    nextmv_timeout: float
    nextmv_max_response_bytes: int
    nextmv_source: str
    nextmv_run_lookback: float
    queue_zero_retention: float
    queue_max_groups: int
    queue_wait_buckets: Sequence[float]
    web_listen_address: Sequence[Address]
    web_telemetry_path: str
    web_timeout_offset: float
    web_external_url: str | None
    web_config_file: Path | None
    log_level: str
    log_format: str


def _option(flag: str, help: str, **attributes: Any) -> click.Option:  # noqa: A002
    """Declare the flag and the variables of a setting.

    Args:
        flag: such as `web.listen-address`.
        help: its help text.
        attributes: further arguments of `click.Option`; `own` is the variable of Nextmv's tools.
    """
    spellings = dict.fromkeys([flag.replace(".", "_"), flag.replace(".", "__")])
    variables = [ENVIRONMENT_PREFIX + each.replace("-", "_").upper() for each in spellings]
    variables += [own] if (own := attributes.pop("own", None)) else []
    declared = [f"--{flag}", re.sub("[.-]", "_", flag)]
    return click.Option(declared, envvar=variables, help=help, **attributes)


NAME = Parsed("name", name)
_FILE = click.Path(path_type=Path)
_LENGTH, _LENGTH_OR_ZERO = Parsed("duration", duration), Parsed("duration", duration_or_zero)
_SOURCES = click.Choice(["auto", "account-queue", "application-runs"])
_LEVELS = click.Choice(["debug", "info", "warn", "error"])
_BUCKETS = "5s,15s,30s,1m,2m,5m,10m,30m,1h,2h,6h,12h"

# fmt: off
OPTIONS: tuple[click.Option, ...] = (
    _option("demo", "Monitor a simulated account that the program itself serves on loopback; needs "
            "no key and no network.", is_flag=True),
    _option("once", "Print one scrape and exit: 0 if all accounts are up, 1 if any is down, 2 if "
            "it could not be printed.", is_flag=True),
    _option("nextmv.profile", "Profile of the configuration file to monitor, one account each; "
            "repeatable; * for all that have a key. [default: the default profile]",
            type=NAME, multiple=True, own="NEXTMV_PROFILE"),
    _option("nextmv.config-file", "Nextmv configuration file. [default: ~/.nextmv/config.yaml]",
            type=_FILE, own="NEXTMV_CONFIG_FILE"),
    _option("nextmv.api-key-file", "File that holds the API key; read again when it changes.",
            type=_FILE, own="NEXTMV_API_KEY_FILE"),
    _option("nextmv.endpoint", "Base URL of the API. [default: https://api.cloud.nextmv.io]",
            metavar="URL", own="NEXTMV_ENDPOINT"),
    _option("nextmv.account-name", "Account label for a bare API key or the default profile.",
            type=NAME, default="default", own="NEXTMV_ACCOUNT_NAME"),
    _option("nextmv.timeout", "Timeout for reading one account.", type=_LENGTH, default="10s"),
    _option("nextmv.max-response-bytes", "Maximum size of a response, decompressed.",
            type=Parsed("size", size), default="64MiB"),
    _option("nextmv.source", "Where the queue is read from.", type=_SOURCES, default="auto"),
    _option("nextmv.run-lookback", "Maximum age of a run to be found by application-runs.",
            type=_LENGTH, default="24h"),
    _option("queue.zero-retention", "How long a drained group is still reported, as 0.",
            type=_LENGTH_OR_ZERO, default="5m"),
    _option("queue.max-groups", "Maximum label groups per account; the rest count as __other__.",
            type=click.IntRange(min=1), default="2000"),
    _option("queue.wait-buckets", "Buckets of the wait histogram.",
            type=Parsed("durations", buckets), default=_BUCKETS),
    _option("web.listen-address", "host:port to listen on; IPv6 as [::]:10057; repeatable.",
            type=Parsed("host:port", address), default=[":10057"], multiple=True),
    _option("web.telemetry-path", "Path under which metrics are served.",
            type=Parsed("path", path), default="/metrics"),
    _option("web.timeout-offset", "Subtracted from Prometheus's scrape timeout, to leave time for "
            "the response.", type=_LENGTH_OR_ZERO, default="0.5s"),
    _option("web.external-url", "URL under which Prometheus reaches the exporter, for /sd. "
            "[default: the host of the request to /sd]", type=Parsed("URL", url)),
    _option("web.config.file", "Web configuration file for TLS, basic authentication and headers, "
            "in the format of Prometheus's exporter-toolkit.", type=_FILE),
    _option("log.level", "Lowest level logged.", type=_LEVELS, default="info"),
    _option("log.format", "Format of log lines.", type=click.Choice(["logfmt", "json"]),
            default="logfmt"),
)
# fmt: on


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


def _reject_replaced_profile(settings: Settings) -> None:
    """Reject a profile asked for by flag, of which something else replaces key or endpoint.

    A flag is a statement: the queue of another account is never shown under that name.
    """
    context = click.get_current_context()
    if context.get_parameter_source("nextmv_profile") is not ParameterSource.COMMANDLINE:
        return
    by_name = {option.name: option for option in OPTIONS}
    key, file = os.environ.get("NEXTMV_API_KEY"), settings.nextmv_api_key_file
    replacing = "NEXTMV_API_KEY" if key else variable_of(by_name["nextmv_endpoint"], context)
    if file:
        replacing = variable_of(by_name["nextmv_api_key_file"], context) or "--nextmv.api-key-file"
    if replacing:
        raise ConfigurationError(
            f"--nextmv.profile asks for {' and '.join(settings.nextmv_profile)}, but {replacing} "
            f"would replace its {'key' if key or file else 'endpoint'}: unset one of the two"
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
    message = error.format_message()
    variable = None
    if isinstance(error, click.BadParameter) and error.ctx and error.param:
        variable = variable_of(error.param, error.ctx)
    return f"{message} (from {variable})" if variable else message
