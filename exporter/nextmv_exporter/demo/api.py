"""The part of the Nextmv Cloud API that lists runs, served from simulated accounts."""

import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nextmv_exporter.demo import pages, wire
from nextmv_exporter.demo.simulator import Account

DEMO_KEY = "nxmvv1_7Qd2mVxJ4sTzR9bKfW1cYhLp:G8nE3uAoZ5iXtB0kMvC6wPqS"
"""An API key in the usual format, valid only for a demo."""


def wall_clock() -> float:
    """Return the time in Unix seconds, looked up at each call so that tests may replace it."""
    return time.time()


class DemoAPI:
    """An ASGI application that responds like `https://api.cloud.nextmv.io`.

    It serves `v1/account/queue`, `v1/applications` and `v1/applications/{id}/runs`: 401 without a
    known key, 404 elsewhere, 405 for anything but GET and HEAD.

    Args:
        accounts: The account of each API key.
        clock: Returns the time, in Unix seconds; accounts advance to it on each request.
        page_size: The most items on a page. Nextmv doesn't document its own.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        *,
        clock: Callable[[], float] = wall_clock,
        page_size: int = 100,
    ) -> None:
        self.queue_removed: int | None = None
        """If set, `v1/account/queue` responds with this, 404 or 410, as after its removal."""

        self._accounts = accounts
        self._clock = clock
        self._page_size = page_size
        self._queue_bodies: dict[str, tuple[int, bytes]] = {}
        self._app = Starlette(
            routes=[
                Route("/v1/account/queue", self._queue),
                Route("/v1/applications", self._applications),
                Route("/v1/applications/{id}/runs", self._runs),
            ],
            exception_handlers={HTTPException: _refuse},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        await self._app(scope, receive, send)

    async def _queue(self, request: Request) -> Response:
        key, account = self._open(request)
        if self.queue_removed is not None:
            raise HTTPException(self.queue_removed)
        return Response(self._queue_body(key, account), media_type="application/json")

    async def _applications(self, request: Request) -> Response:
        _, account = self._open(request)
        if not _wants_pages(request):
            # The SDK's list_applications(no_pagination=True) expects a bare list here.
            return JSONResponse([wire.application(app) for app in reversed(account.applications)])
        apps, token = self._turn(request, account.applications)
        items = [wire.application(app) for app in apps]
        return JSONResponse({"items": items} | _next_page(token))

    async def _runs(self, request: Request) -> Response:
        _, account = self._open(request)
        application_id = request.path_params["id"]
        if application_id not in {app.id for app in account.applications}:
            raise HTTPException(404, f"there is no application {application_id!r}")
        runs = account.runs(application_id)
        if not _wants_pages(request):
            return JSONResponse({"runs": [wire.listed_run(run) for run in reversed(runs)]})
        page, token = self._turn(request, runs)
        return JSONResponse({"runs": [wire.listed_run(run) for run in page]} | _next_page(token))

    def _open(self, request: Request) -> tuple[str, Account]:
        """Return the request's key and its account, advanced to the current time."""
        given = request.headers.get("Authorization", "").encode("latin-1")
        for key, account in self._accounts.items():
            if hmac.compare_digest(given, f"Bearer {key}".encode()):
                account.advance(self._clock())
                return key, account
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})

    def _queue_body(self, key: str, account: Account) -> bytes:
        """Return the account's queue in JSON, encoded again only when it has changed.

        So benchmarks with a long queue that does not change measure the exporter, not the demo.
        """
        revision, body = self._queue_bodies.get(key, (None, b""))
        if revision != account.revision:
            body = msgspec.json.encode({"runs": [wire.queued_run(run) for run in account.queue()]})
            self._queue_bodies[key] = account.revision, body
        return body

    def _turn(self, request: Request, items: Sequence[pages.Item]) -> tuple[list[pages.Item], str]:
        try:
            return pages.turn(items, request.query_params.get("pagetoken", ""), self._page_size)
        except pages.InvalidTokenError as error:
            raise HTTPException(400, "pagetoken is invalid") from error


def _wants_pages(request: Request) -> bool:
    return request.query_params.get("pagereturn") == "true"


def _next_page(token: str) -> dict[str, Any]:
    return {"next_page_token": token} if token else {}


async def _refuse(_request: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, refusal.headers)
