"""Define every setting once: its flag, environment variables, default and help.

The README's table of flags is checked against `OPTIONS`.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nextmv_exporter import units
from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.units import Address

ENVIRONMENT_PREFIX = "NEXTMV_EXPORTER_"

# Kubernetes sets variables for every Service; the chart's may be called nextmv-exporter.
_SERVICE_VARIABLE = re.compile(
    r"\w*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True)
class Settings:
    """The settings of the program; durations are seconds, sizes bytes.

    Each is documented by the flag of the same name in `OPTIONS`.
    """

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
    web_healthcheck: bool
    log_level: str
    log_format: str


def _option(flag: str, *variables: str, help: str, **attributes: Any) -> click.Option:  # noqa: A002
    """Declare a flag that the environment can set too.

    Args:
        flag: such as `web.listen-address`.
        variables: environment variables that Nextmv's own tools use for it.
        help: its help text.
        attributes: further arguments of `click.Option`.
    """
    spellings = (flag.replace(".", "_"), flag.replace(".", "__"))
    own = [ENVIRONMENT_PREFIX + s.replace("-", "_").upper() for s in dict.fromkeys(spellings)]
    return click.Option(
        [f"--{flag}", spellings[0].replace("-", "_")],
        envvar=[*own, *variables],
        help=help,
        **attributes,
    )


_FILE = click.Path(path_type=Path)

OPTIONS: tuple[click.Option, ...] = (
    _option(
        "demo",
        is_flag=True,
        help="Monitor a simulated Nextmv account that the program itself serves on loopback; "
        "needs no key and no network.",
    ),
    _option(
        "once",
        is_flag=True,
        help="Print one scrape to stdout and exit: 0 if all accounts are up, 1 if some is down.",
    ),
    _option(
        "nextmv.profile",
        "NEXTMV_PROFILE",
        type=units.ProfileName(),
        multiple=True,
        help="Profile of the Nextmv configuration file to monitor, one account each; repeatable; "
        "* for all that have a key. "
        "[default: the default profile]",
    ),
    _option(
        "nextmv.config-file",
        "NEXTMV_CONFIG_FILE",
        type=_FILE,
        help="Nextmv configuration file. [default: ~/.nextmv/config.yaml]",
    ),
    _option(
        "nextmv.api-key-file",
        "NEXTMV_API_KEY_FILE",
        type=_FILE,
        help="File that holds the API key; read again when it changes.",
    ),
    _option(
        "nextmv.endpoint",
        "NEXTMV_ENDPOINT",
        metavar="URL",
        help="Base URL of the API. [default: https://api.cloud.nextmv.io]",
    ),
    _option(
        "nextmv.account-name",
        "NEXTMV_ACCOUNT_NAME",
        type=units.AccountName(),
        default="default",
        help="Value of the account label for a bare API key or the default profile.",
    ),
    _option(
        "nextmv.timeout",
        type=units.Duration(),
        default="10s",
        help="Longest time one account's fetch may take in all.",
    ),
    _option(
        "nextmv.max-response-bytes",
        type=units.Bytes(),
        default="64MiB",
        help="Largest decompressed response accepted.",
    ),
    _option(
        "nextmv.source",
        type=click.Choice(["auto", "account-queue", "application-runs"]),
        default="auto",
        help="Where the queue is read from.",
    ),
    _option(
        "nextmv.run-lookback",
        type=units.Duration(),
        default="24h",
        help="Maximum age of a run to be found by application-runs.",
    ),
    _option(
        "queue.zero-retention",
        type=units.Duration(zero=True),
        default="5m",
        help="How long a drained group is still reported, as 0.",
    ),
    _option(
        "queue.max-groups",
        type=click.IntRange(min=1),
        default="2000",
        help="Most label groups reported per account; the rest are folded into __other__.",
    ),
    _option(
        "queue.wait-buckets",
        type=units.Buckets(),
        default="5s,15s,30s,1m,2m,5m,10m,30m,1h,2h,6h,12h",
        help="Buckets of the wait histogram.",
    ),
    _option(
        "web.listen-address",
        type=units.ListenAddress(),
        multiple=True,
        default=[":10057"],
        help="host:port to listen on; IPv6 as [::]:10057; repeatable.",
    ),
    _option(
        "web.telemetry-path",
        type=units.UrlPath(),
        default="/metrics",
        help="Path under which metrics are served.",
    ),
    _option(
        "web.timeout-offset",
        type=units.Duration(zero=True),
        default="0.5s",
        help="Subtracted from Prometheus's scrape timeout, to leave time for the response.",
    ),
    _option(
        "web.external-url",
        type=units.Url(),
        help="URL under which Prometheus reaches the exporter, for /sd. "
        "[default: the host of the request to /sd]",
    ),
    _option(
        "web.config.file",
        type=_FILE,
        help="Web configuration file for TLS, basic authentication and headers, "
        "in the format of Prometheus's exporter-toolkit.",
    ),
    _option(
        "web.healthcheck",
        is_flag=True,
        help="Check the exporter that runs with the same flags, and exit: 0 if /-/healthy "
        "responds at every listen address, else 1.",
    ),
    _option(
        "log.level",
        type=click.Choice(["debug", "info", "warn", "error"]),
        default="info",
        help="Lowest level logged.",
    ),
    _option(
        "log.format",
        type=click.Choice(["logfmt", "json"]),
        default="logfmt",
        help="Format of log lines.",
    ),
)


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
            yield name, difflib.get_close_matches(name.upper(), known, n=1, cutoff=0)[0]


def command(run: Callable[[Settings], int], version: str) -> click.Command:
    """Create the command line's parser.

    Args:
        run: called with the settings; its result is the exit status.
        version: printed by `--version`.

    Returns:
        The command.
    """

    def callback(**values: Any) -> int:
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
    found: list[Settings] = []

    def keep(settings: Settings) -> int:
        found.append(settings)
        return 0

    try:
        command(keep, "").main([], prog_name="nextmv-exporter", standalone_mode=False)
    except click.ClickException as error:
        raise ConfigurationError(error.format_message()) from None
    return found[0]
