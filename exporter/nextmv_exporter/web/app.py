"""The HTTP endpoints."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.collector import ProcessMetricsCollector, QueueCollector
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.logs import CLIENTS, get_logger
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.target import Target
from nextmv_exporter.settings import Settings
from nextmv_exporter.web.discovery import base_url, target_groups
from nextmv_exporter.web.scrapes import ScrapeThreads, TooManyScrapesError

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

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
    _scrapes: ScrapeThreads = field(default_factory=ScrapeThreads)

    def app(self) -> Router:
        """Create the ASGI application."""
        return Router(
            [
                Route("/", self.landing),
                Route(self.settings.web_telemetry_path, self.metrics),
                Route("/sd", self.discovery),
                Route("/-/healthy", self.healthy),
                Route("/-/ready", self.ready),
            ],
            redirect_slashes=False,
            default=PlainTextResponse("Not Found\n", HTTPStatus.NOT_FOUND),
        )

    async def metrics(self, request: Request) -> Response:
        """Scrape the accounts and respond with the metrics.

        Args:
            request: may select accounts (`account`) and series (`name[]`).

        Returns:
            The metrics; 404 if an account is unknown, 503 if too many scrapes are waiting.
        """
        deadline = Deadline(scrape_timeout(request.headers, self.settings))
        known = await self._targets()
        chosen = dict.fromkeys(request.query_params.getlist("account"))
        if unknown := [name for name in chosen if name not in known]:
            return _no_such_account(unknown, known)
        targets = {name: known[name] for name in chosen or known}
        names = tuple(request.query_params.getlist("name[]"))
        accept = request.headers.get("Accept", "")
        accept_encoding = request.headers.get("Accept-Encoding", "")

        def scrape() -> tuple[bytes, dict[str, str]]:
            queues = QueueCollector(targets, timeout=deadline.remaining())
            collectors = [queues] if chosen else [queues, self._process]
            return expose(collectors, names=names, accept=accept, accept_encoding=accept_encoding)

        key = tuple(targets.values()), bool(chosen), names, accept, accept_encoding
        try:
            body, headers = await self._scrapes.run(key, deadline, scrape)
        except TooManyScrapesError:
            return PlainTextResponse(
                "Too many scrapes are waiting\n",
                HTTPStatus.SERVICE_UNAVAILABLE,
                {"Retry-After": "1"},
            )
        return Response(body, headers=headers)

    async def discovery(self, request: Request) -> Response:
        """Return a target for each account, for Prometheus's HTTP service discovery.

        Args:
            request: the request, whose URL is the default for that of the targets.

        Returns:
            The targets, in JSON.
        """
        base = base_url(request, self.settings.web_external_url)
        path = self.settings.web_telemetry_path
        return JSONResponse(target_groups(await self._targets(), base, path))

    async def healthy(self, _: Request) -> Response:
        """Report that the process serves requests."""
        return PlainTextResponse("Healthy\n")

    async def ready(self, _: Request) -> Response:
        """Report whether requests should be sent to this process."""
        if self.draining:
            return PlainTextResponse("Shutting down\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("Ready\n")

    async def landing(self, request: Request) -> Response:
        """Show each account's queue at its last scrape.

        Args:
            request: may select accounts (`account`).

        Returns:
            The status page; 404 if an account is unknown.
        """
        from nextmv_exporter.web.landing import render

        known = await self._targets()
        chosen = request.query_params.getlist("account")
        if unknown := [name for name in chosen if name not in known]:
            return _no_such_account(unknown, known)
        return HTMLResponse(render(self.settings.web_telemetry_path, known, chosen))

    async def _targets(self) -> Mapping[str, Target]:
        """Return the current accounts, reloaded if files changed, without blocking the loop."""
        if self.accounts.outdated:
            with contextlib.suppress(TooManyScrapesError):
                # Not shared: the files may have changed since another one was started.
                await self._scrapes.run(object(), Deadline(0), self.accounts.refresh)
        return self.accounts.targets


def scrape_timeout(headers: Mapping[str, str], settings: Settings) -> float:
    """Return how long a scrape may take.

    Args:
        headers: of the request; Prometheus sends its timeout in one of them.
        settings: the longest time for a fetch, and the offset subtracted from the header's value.

    Returns:
        Seconds.
    """
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return settings.nextmv_timeout
    timeout = _seconds(text)
    if timeout is None:
        log.warning("Ignoring malformed header", header=TIMEOUT_HEADER, value=text[:50])
        return settings.nextmv_timeout
    # An offset larger than the timeout must still leave some time.
    return min(settings.nextmv_timeout, max(timeout - settings.web_timeout_offset, timeout / 2))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _no_such_account(unknown: Sequence[str], known: Mapping[str, Target]) -> Response:
    return PlainTextResponse(
        f"No account {', '.join(map(repr, unknown))} is monitored here. "
        f"Known accounts: {', '.join(known)}.\n",
        HTTPStatus.NOT_FOUND,
    )
