"""The part of the Nextmv Cloud API that lists runs, served from simulated accounts."""

import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from typing import Any, Self, TypeVar

import msgspec
import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nextmv_exporter.demo.catalogue import Application
from nextmv_exporter.demo.simulator import Account, Run, position

DEMO_KEY = "nxmvv1_7Qd2mVxJ4sTzR9bKfW1cYhLp:G8nE3uAoZ5iXtB0kMvC6wPqS"
"""An API key in the usual format. It is public, and valid only for a demo."""

PAGE_SIZE = 50
"""Items on a page of a list, as the Nextmv API has them."""

_PATIENCE = 5.0
"""Seconds to wait for the server's thread at the end; with a frozen clock it might never end."""

Item = TypeVar("Item", Run, Application)


def wall_clock() -> float:
    """Return the time in Unix seconds, looked up at each call so that tests may replace it."""
    return time.time()


class DemoAPI:
    """An ASGI application that responds as the Nextmv API does.

    It serves `v1/account/queue`, `v1/applications` and `v1/applications/{id}/runs`, with the
    fields that Nextmv's SDK reads at version 1.13.0.

    Args:
        accounts: The account of each API key.
        clock: Returns the time, in Unix seconds. Accounts advance to it at each request, and
            responses are dated by it.
        page_size: The most items on a page.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        *,
        clock: Callable[[], float] = wall_clock,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self.queue_removed: int | None = None
        """If set, `v1/account/queue` responds with this status, as after its removal."""

        self._accounts = accounts
        self._clock = clock
        self._page_size = page_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        response: Response
        try:
            content = msgspec.json.encode(self._content(Request(scope)))
            response = Response(content, media_type="application/json")
        except HTTPException as refusal:
            response = JSONResponse({"error": refusal.detail}, refusal.status_code)
        response.headers["Date"] = formatdate(self._clock(), usegmt=True)
        await response(scope, receive, send)

    def _content(self, request: Request) -> object:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        account = self._accounts.get(key)
        if scheme != "Bearer" or account is None:
            raise HTTPException(401)
        if request.method not in {"GET", "HEAD"}:
            raise HTTPException(405)
        account.advance(self._clock())
        match request.scope["path"].split("/"):
            case ["", "v1", "account", "queue"]:
                if self.queue_removed is not None:
                    raise HTTPException(self.queue_removed)
                return {"runs": account.queue()}
            case ["", "v1", "applications"]:
                found, further = self._page(request, account.applications)
                items = [_application(app) for app in found]
                # Without pages, the SDK expects a bare list here.
                return {"items": items} | further if _wants_pages(request) else items
            case ["", "v1", "applications", name, "runs"]:
                if name in {app.id for app in account.applications}:
                    listed, further = self._page(request, account.runs(name))
                    return {"runs": [_listed_run(run) for run in listed]} | further
        raise HTTPException(404)

    def _page(self, request: Request, items: Sequence[Item]) -> tuple[Sequence[Item], Any]:
        """Return a page, newest first, and the token of the next page if there is one.

        A token names the item that the next page follows, so that items that come or go between
        two requests cause no repetition and no gap.
        """
        if not _wants_pages(request):
            return items[::-1], {}
        token = request.query_params.get("pagetoken")
        end = bisect_left(items, token, key=position) if token else len(items)
        start = max(0, end - self._page_size)
        further = {"next_page_token": position(items[start])} if start else {}
        return items[start:end][::-1], further


def _wants_pages(request: Request) -> bool:
    return request.query_params.get("pagereturn") == "true"


def _application(app: Application) -> dict[str, Any]:
    name = app.id.replace("-", " ").capitalize()
    return {"id": app.id, "name": name, "type": "custom", "created_at": app.created_at}


def _listed_run(run: Run) -> dict[str, Any]:
    """Return a run as lists of an application's runs have it: with more than the queue has."""
    fields: dict[str, Any] = msgspec.to_builtins(run)
    return fields | {"run_type": {"type": "standard"}, "runtime": "python"}


class DemoServer:
    """Serves an ASGI application on 127.0.0.1 from a thread, while its context lasts.

    Args:
        app: Usually a `DemoAPI`.
        port: The port; 0 for any free one.

    Raises:
        OSError: On entering, if the port is taken.

    Example:
        >>> with DemoServer(api) as server:
        ...     print(server.url)
        http://127.0.0.1:41233
    """

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        config = uvicorn.Config(
            app,
            access_log=False,
            date_header=False,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._port = port
        self._thread = threading.Thread(target=self._serve, name="nextmv-demo", daemon=True)

    def __enter__(self) -> Self:
        """Start serving; `url`, to use as the Nextmv endpoint, responds from then on."""
        # It listens already: clients that connect before uvicorn has started wait.
        self._socket = socket.create_server(("127.0.0.1", self._port))
        # Connections inherit it. Without it a short response is delayed by 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving, within about a second if requests are in progress."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)

    def _serve(self) -> None:
        with self._socket:  # uvicorn does not close it if it is stopped before it has started
            self._server.run(sockets=[self._socket])
