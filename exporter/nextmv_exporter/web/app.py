"""The HTTP endpoints."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.collector import ProcessMetricsCollector, QueueCollector
from nextmv_exporter.logs import CLIENTS, get_logger
from nextmv_exporter.nextmv.client import Deadline
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.target import Target
from nextmv_exporter.settings import Settings

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

MAX_SCRAPES = 256
"""Maximum number of concurrent scrapes and pages, a thread each."""

_AUTHORITY = re.compile("^https?://[^/]*", re.IGNORECASE)

log = get_logger(CLIENTS)


@dataclass
class Exporter:
    """The endpoints and their shared state.

    Args:
        settings: the settings.
        accounts: the monitored accounts.
        draining: whether the program is shutting down.
    """

    settings: Settings
    accounts: Accounts
    draining: bool = False
    _process: ProcessMetricsCollector = field(default_factory=ProcessMetricsCollector)
    _scrapes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_SCRAPES))
    _threads: Executor = field(default_factory=lambda: ThreadPoolExecutor(MAX_SCRAPES))

    def app(self) -> Router:
        """Create the ASGI application."""
        return Router(
            [
                Route("/", self._threaded(self.landing)),
                Route(self.settings.web_telemetry_path, self._threaded(self.metrics)),
                Route("/sd", self._threaded(self.discovery)),
                Route("/-/healthy", PlainTextResponse("Healthy\n"), methods=["GET"]),
                Route("/-/ready", self.ready),
            ],
            redirect_slashes=False,
            default=PlainTextResponse("Not Found\n", 404),
        )

    def _threaded(
        self, endpoint: Callable[[Request], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Run an endpoint in threads, as many as there may be."""

        async def call(request: Request) -> Response:
            if self._scrapes.locked():
                log.warning("Rejecting scrapes", limit=MAX_SCRAPES)
                return PlainTextResponse("Too many scrapes\n", 503, {"Retry-After": "1"})
            async with self._scrapes:
                loop = asyncio.get_running_loop()
                try:
                    return await loop.run_in_executor(self._threads, endpoint, request)
                except HTTPException as error:
                    return PlainTextResponse(f"{error.detail}\n", error.status_code)

        return call

    def metrics(self, request: Request) -> Response:
        """Scrape the accounts.

        Args:
            request: may select accounts (`account`) and series (`name[]`).

        Returns:
            The metrics; 404 if an account is unknown.
        """
        deadline = Deadline(scrape_timeout(request.headers, self.settings))
        known, chosen = self._accounts(request)
        targets = {name: known[name] for name in chosen or known}
        queues = QueueCollector(targets, timeout=deadline.remaining())
        body, headers = expose(
            [queues] if chosen else [queues, self._process],
            names=tuple(request.query_params.getlist("name[]")),
            accept=request.headers.get("Accept", ""),
            accept_encoding=request.headers.get("Accept-Encoding", ""),
        )
        return Response(body, headers=headers)

    def discovery(self, request: Request) -> Response:
        """Return a target for each account, in the format of Prometheus's `http_sd_configs`.

        Args:
            request: the request, whose URL is the default for that of the targets.

        Returns:
            The targets, in JSON. `instance` is the account, so that its series keep the same
            labels whichever replica is scraped.
        """
        self.accounts.refresh()
        url = urlsplit(self.settings.web_external_url or str(request.base_url))
        address = url.netloc if url.port else f"{url.netloc}:{443 if url.scheme == 'https' else 80}"
        labels = {
            "__scheme__": url.scheme,
            "__metrics_path__": url.path.rstrip("/") + self.settings.web_telemetry_path,
        }
        accounts = [{"__param_account": name, "instance": name} for name in self.accounts.targets]
        return JSONResponse([{"targets": [address], "labels": labels | each} for each in accounts])

    async def ready(self, _: Request) -> Response:
        """Report whether requests should be sent to this process."""
        if self.draining:
            return PlainTextResponse("Shutting down\n", 503)
        return PlainTextResponse("Ready\n")

    def landing(self, request: Request) -> Response:
        """Show each account's queue at its last scrape.

        Args:
            request: may select accounts (`account`).

        Returns:
            The status page; 404 if an account is unknown.
        """
        # Imported here, since few look at the page.
        from nextmv_exporter.web.landing import render

        return HTMLResponse(render(self.settings.web_telemetry_path, *self._accounts(request)))

    def _accounts(self, request: Request) -> tuple[Mapping[str, Target], Sequence[str]]:
        """Return the known accounts, and the names of those that a request selects."""
        self.accounts.refresh()
        known = self.accounts.targets
        chosen = request.query_params.getlist("account")
        if unknown := ", ".join(repr(name) for name in chosen if name not in known):
            names = ", ".join(known)
            raise HTTPException(
                404, f"No account {unknown} is monitored here. Known accounts: {names}."
            )
        return known, chosen


def tolerant(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that requests that are odd, and valid, do no harm.

    Args:
        app: the application; it ignores the bodies of requests.

    Returns:
        The application that is to be served.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        # A body that is no valid HTTP ends the connection, in which no response can follow.
        while (await receive()).get("more_body"):
            pass
        # RFC 9112 6.1: with both, the next request might be smuggled, so the connection is closed.
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            scope["headers"].append((b"connection", b"close"))
        # RFC 9112 3.2.2: the target may be a URL, as for a proxy.
        scope["path"] = _AUTHORITY.sub("", scope["path"], count=1) or "/"
        await app(scope, receive, send)

    return call


def scrape_timeout(headers: Mapping[str, str], settings: Settings) -> float:
    """Return how long a scrape may take.

    Args:
        headers: of the request; Prometheus sends its timeout in one of them.
        settings: the longest time for a fetch, and the offset subtracted from the header's value.

    Returns:
        Seconds.
    """
    text = headers.get(TIMEOUT_HEADER, "inf")
    try:
        timeout = float(text)
    except ValueError:
        timeout = 0.0
    if not timeout > 0:  # such as nan
        log.warning("Ignoring malformed header", header=TIMEOUT_HEADER, value=text[:50])
        timeout = math.inf
    # An offset larger than the timeout must still leave some time.
    return min(settings.nextmv_timeout, max(timeout - settings.web_timeout_offset, timeout / 2))
