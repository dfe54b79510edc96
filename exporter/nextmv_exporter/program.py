"""Run the exporter with its settings: serve, or print one scrape."""

import contextlib
import gc
import os
import time
from collections.abc import Sequence

from prometheus_client import disable_created_metrics

from nextmv_exporter import __version__, logs
from nextmv_exporter.accounts import Accounts
from nextmv_exporter.collector import ProcessMetricsCollector, QueueCollector
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.output import write
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.settings import Settings, unknown_variables

EXIT_DOWN = 1

log = logs.get_logger()


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
    for name, nearest in unknown_variables(os.environ):
        log.warning("Ignoring unknown environment variable", variable=name, nearest=nearest)
    if settings.demo:
        _warn_of_ignored(settings)
        # Imported here, since only the demo needs it.
        from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator

        # A proxy can't reach this loopback. In lower case, which takes precedence.
        os.environ["no_proxy"] = "127.0.0.1"
        with DemoServer(DemoAPI({DEMO_KEY: Simulator(seed=1, start=time.time())})) as server:
            given = {"demo": Credentials(api_key=DEMO_KEY, url=server.url)}
            return _run(settings, Accounts(settings, given))
    return _run(settings, Accounts(settings))


def _warn_of_ignored(settings: Settings) -> None:
    """Warn of settings that choose an account, which the demo has of its own."""
    chosen = {
        "--nextmv.profile": settings.nextmv_profile,
        "--nextmv.config-file": settings.nextmv_config_file,
        "--nextmv.api-key-file": settings.nextmv_api_key_file,
        "--nextmv.endpoint": settings.nextmv_endpoint,
    }
    if ignored := ",".join(filter(chosen.get, chosen)):
        log.warning("The demo ignores settings of real accounts", ignored=ignored)


def _run(settings: Settings, accounts: Accounts) -> int:
    return _once(settings, accounts) if settings.once else _serve(settings, accounts)


def _once(settings: Settings, accounts: Accounts) -> int:
    queues = QueueCollector(accounts.targets, timeout=settings.nextmv_timeout)
    body, _ = expose([queues, ProcessMetricsCollector()])
    _print(body)
    scrapes = [target.last for target in accounts.targets.values()]
    return 0 if all(scrape and scrape.outcome.summary for scrape in scrapes) else EXIT_DOWN


def _print(body: bytes) -> None:
    try:
        write(body)
    except OSError as error:
        raise ConfigurationError(f"can't write to stdout: {error.strerror}") from None


def _serve(settings: Settings, accounts: Accounts) -> int:
    # Imported here, since printing a single scrape needs no server.
    from nextmv_exporter.web.server import serve

    def announce(urls: Sequence[str]) -> None:
        for url in urls:
            address = url.partition("://")[2]
            log.info(
                "Listening",
                version=__version__,
                address=address,
                accounts=",".join(accounts.targets),
            )
        if settings.demo:
            scheme, _, port = urls[0].partition(":")
            _welcome(scheme, int(port.rpartition(":")[2]), settings.web_telemetry_path)

    # Disabled in __main__.py. What was imported is never freed, so it is not examined either.
    gc.freeze()
    gc.enable()
    serve(settings, accounts, announce)
    log.info("Stopped")
    return 0


def _welcome(scheme: str, port: int, path: str) -> None:
    text = f"""
The demo is running: a simulated Nextmv account whose queue grows and drains.

  Metrics      {scheme}://localhost:{port}{path}
  Status page  {scheme}://localhost:{port}/

To see it in Prometheus, scrape localhost:{port}. Ctrl+C ends it.

"""
    with contextlib.suppress(ConfigurationError):  # the demo serves without stdout too
        _print(text.encode())
