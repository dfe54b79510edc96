"""The server: uvicorn in a thread, TLS contexts, idle connections and signals."""

import asyncio
import os
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.logs import CLIENTS, get_logger
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.settings import Settings
from nextmv_exporter.web.app import Exporter, tolerant

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from nextmv_exporter.web.config import WebConfig

REQUEST_TIMEOUT = 10.0
"""Seconds in which a client must have sent the head of its first request."""

IDLE_TIMEOUT = 65.0
"""Seconds without a new request after which a connection is closed, once its scrape is over."""

DRAIN_TIMEOUT = 3.0
"""Seconds that scrapes in progress have after a termination signal."""

CLOSE_TIMEOUT = 1.0
"""Seconds that clients then have to read what is buffered for them."""

log = get_logger(CLIENTS)


def serve(
    settings: Settings, accounts: Accounts, on_listening: Callable[[Sequence[str]], None]
) -> None:
    """Serve until SIGTERM or SIGINT, and reload the accounts at SIGHUP.

    Requests in progress then have `DRAIN_TIMEOUT`; a second signal ends it at once.

    Args:
        settings: the settings.
        accounts: the monitored accounts.
        on_listening: called with the URLs of the addresses once requests are answered.

    Raises:
        ConfigurationError: an address can't be used, or the web configuration is invalid.
    """
    # As programs in Go do. Silent connections take one each.
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    with running(settings, accounts) as urls:
        # The number of each signal arrives in a pipe, whichever thread the system interrupts.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        on_listening(urls)
        while os.read(reader, 1)[0] == signal.SIGHUP:
            accounts.reload()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))


@contextmanager
def running(settings: Settings, accounts: Accounts) -> Iterator[Sequence[str]]:
    """Serve from a thread until the block ends, and then drain.

    Args:
        settings: the settings.
        accounts: the monitored accounts.

    Yields:
        The URLs of the addresses.

    Raises:
        ConfigurationError: an address can't be used, or the web configuration is invalid.
    """
    exporter = Exporter(settings, accounts)
    app: ASGIApp = exporter.app()
    web = None
    if settings.web_config_file:
        # Imported here, since they take a third of the start.
        from nextmv_exporter.web.auth import Guard
        from nextmv_exporter.web.config import web_config

        web = web_config(settings.web_config_file)
        app = Guard(app, web)
    config = uvicorn.Config(
        tolerant(app),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_TIMEOUT),
        # asyncio tries to accept so many connections at once, also where that fails.
        backlog=1,
    )
    config.load()
    if web and web().tls_server_config:
        config.ssl = cast("ssl.SSLContext", _FreshContexts(web))
    server = uvicorn.Server(config)
    listeners = [listen(*address) for address in settings.web_listen_address]
    # A daemon, as are the threads that it starts: none of them delays the end.
    serving = _run(server, listeners, settings.nextmv_timeout, web)
    thread = threading.Thread(target=asyncio.run, args=(serving,), name="server", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    for listener in listeners:
        listener.listen(1024)
    scheme = "https" if config.ssl else "http"
    try:
        yield [f"{scheme}://{_host_port(*each.getsockname()[:2])}" for each in listeners]
    finally:
        exporter.draining = True
        end = time.monotonic() + DRAIN_TIMEOUT
        while server.server_state.tasks and time.monotonic() < end:
            time.sleep(0.05)
        server.should_exit = True
        if not server.server_state.tasks:
            thread.join(CLOSE_TIMEOUT)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Args:
        host: where to listen; if empty, on all interfaces, IPv6 and IPv4.
        port: the port; 0 for any free one.

    Returns:
        The socket.

    Raises:
        ConfigurationError: the address is in use, not this machine's, or not allowed.
    """
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]
        raise ConfigurationError(
            f"can't listen on {_host_port(host, port)}: {reason}: choose another "
            "--web.listen-address"
        ) from None
    # Connections inherit it. asyncio would set it only on sockets with TCP as explicit protocol,
    # and without it the body waits 40 ms for the client to acknowledge the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _FreshContexts:
    """Stands for the TLS context of a server, of which asyncio only calls `wrap_bio`.

    Each connection gets a context of its own, from the latest configuration. With `sni_callback`
    a new `client_auth_type` would not take effect, and sessions of TLS 1.2 could be resumed. A
    context takes 1 ms.
    """

    def __init__(self, web: "Callable[[], WebConfig]") -> None:
        self._web = web

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return self._web().tls_server_config.context().wrap_bio(*args, **options)


async def _run(
    server: uvicorn.Server,
    listeners: list[socket.socket],
    scrape_timeout: float,
    web: "Callable[[], WebConfig] | None",
) -> None:
    """Serve, and look after the connections each second."""
    asyncio.get_running_loop().set_exception_handler(_log_error)
    serving = asyncio.create_task(server.serve(listeners))
    connections: set[Any] = server.server_state.connections
    since: dict[tuple[Any, object], float] = {}
    tls = web and web().tls_server_config
    while not serving.done():
        now = time.monotonic()
        since = {(c, c.cycle): since.get((c, c.cycle), now) for c in connections}
        scarce = len(since) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        silence = 0.0 if scarce else REQUEST_TIMEOUT
        old, tls = tls, web and web().tls_server_config
        changed = (
            old and tls and (old.verify_mode, old.client_ca) != (tls.verify_mode, tls.client_ca)
        )
        for (connection, cycle), began in since.items():
            limit = scrape_timeout + IDLE_TIMEOUT if cycle else silence
            if changed or now - began > limit:
                connection.transport.abort()
        await asyncio.wait({serving}, timeout=1)
    serving.result()


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of a connection, such as too many open files, without a traceback."""
    log.warning(context["message"].partition("\n")[0], err=str(context.get("exception", "")))
