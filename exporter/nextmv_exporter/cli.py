"""`nextmv-exporter`: serve the metrics, or print one scrape."""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
from prometheus_client import disable_created_metrics

from nextmv_exporter import __version__, logs
from nextmv_exporter.accounts import Accounts
from nextmv_exporter.collector import ProcessMetricsCollector, QueueCollector
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import ConfigurationError, printable
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.settings import Settings, command, message_of, unknown_variables

EXIT_DOWN = 1
EXIT_CONFIGURATION = 2
STACK_BYTES = 4 * 2**20
"""Of each thread: nested JSON needs 2 MiB, of which musl's default is a fraction."""

log = logs.get_logger()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the exporter and exit.

    Args:
        arguments: those of the command line; without them, the process's own.
    """
    sys.exit(run_command(command(run, __version__), arguments))


def run_command(parser: click.Command, arguments: Sequence[str] | None) -> int:
    """Run a command; print what is wrong with its configuration in one line.

    Args:
        parser: the command.
        arguments: those of the command line; without them, the process's own.

    Returns:
        The exit status.
    """
    threading.stack_size(STACK_BYTES)
    try:
        status: int = parser.main(arguments, prog_name=parser.name, standalone_mode=False)
    except click.ClickException as error:
        message = message_of(error)
    except (ConfigurationError, OSError) as error:  # OSError: stdout can't be written
        message = str(error)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        message = "can't start a thread: raise the limit of processes (ulimit -u)"
    else:
        return status
    if parser.name != "nextmv-exporter":
        message = message.replace("--nextmv.", "--")
    complain(f"{parser.name}: {message}")
    return EXIT_CONFIGURATION


def complain(message: str) -> None:
    """Write a message to stderr as one line, after the lines of the log.

    Args:
        message: the message.
    """
    logs.flush()
    with contextlib.suppress(OSError):
        logs.write(2, f"{printable(message)}\n".encode(errors="backslashreplace"))


def run(settings: Settings) -> int:
    """Run the exporter.

    Args:
        settings: the settings.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: the configuration is invalid.
    """
    # `_created` series double the number of counters and add nothing that rates need.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    logs.configure(settings.log_level, settings.log_format)
    for variable in unknown_variables():
        log.warning("Ignoring unknown environment variable", variable=variable)
    if not settings.demo:
        return _run(settings)
    from nextmv_exporter.demo import simulated_account

    # A proxy can't reach this loopback. In lower case, which takes precedence.
    os.environ["no_proxy"] = "127.0.0.1"
    with simulated_account() as credentials:
        return _run(settings, credentials)


def _run(settings: Settings, demo: Credentials | None = None) -> int:
    accounts = Accounts(settings, {"demo": demo} if demo else None)
    if settings.once:
        queues = QueueCollector(accounts.targets, timeout=settings.nextmv_timeout)
        body, _ = expose([queues, ProcessMetricsCollector()])
        try:
            logs.write(1, body)
        except OSError as error:  # the status must not be that of an account that is down
            raise ConfigurationError(f"can't write to stdout: {error.strerror}") from None
        scrapes = [target.last for target in accounts.targets.values()]
        return 0 if all(scrape and scrape.outcome.summary for scrape in scrapes) else EXIT_DOWN
    # Imported here, since printing a single scrape needs no server.
    from nextmv_exporter.web.server import serve

    def announce(urls: Sequence[str]) -> None:
        for url in urls:
            address, names = urlsplit(url).netloc, ",".join(accounts.targets)
            log.info("Listening", version=__version__, address=address, accounts=names)
        if demo:
            with contextlib.suppress(OSError):  # the demo serves without stdout too
                logs.write(1, _welcome(urls[0], settings.web_telemetry_path, demo).encode())

    serve(settings, accounts, announce)
    log.info("Stopped")
    logs.flush()
    os._exit(0)  # scrapes that hang end with it


def _welcome(url: str, path: str, demo: Credentials) -> str:
    parts = urlsplit(url)
    base = f"{parts.scheme}://localhost:{parts.port}"
    queue = shutil.which("nextmv-queue") or Path(sys.executable).with_name("nextmv-queue")
    scheme = ", with `scheme: https`" if parts.scheme == "https" else ""
    return f"""
The demo is running: a simulated Nextmv account whose queue grows and drains.

  Metrics      {base}{path}
  Status page  {base}/
  Its runs     NEXTMV_API_KEY={demo.api_key} {queue} --endpoint {demo.url}

To see it in Prometheus, scrape localhost:{parts.port}{scheme}. Ctrl+C ends it.

"""
