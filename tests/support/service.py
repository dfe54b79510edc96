"""A stand-in for a Kubernetes Service with `sessionAffinity: ClientIP` and several ports.

As kube-proxy does, it decides for each connection. A port goes on with the replica that it chose
before, for as long as that one is ready, and else takes the next in turn. Replicas are asked for
their readiness as a kubelet asks.
"""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PROBE_SECONDS = 0.2


class Service:
    """Passes connections on to replicas while its context lasts.

    Args:
        replicas: URLs of the replicas.
        ports: how many ports there are; each has an affinity of its own.
    """

    def __init__(self, replicas: Sequence[str], ports: int) -> None:
        self.ports: list[int] = []
        self.chosen: dict[int, str] = {}
        """The replica that each port leads to at present."""
        self._ready: dict[str, bool] = {urlsplit(url).netloc: True for url in replicas}
        self._turn = 0
        self._wanted = ports
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with (
            contextlib.suppress(asyncio.CancelledError),
            asyncio.Runner(loop_factory=lambda: self._loop) as runner,
        ):
            runner.run(self._serve())

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task
        self._main = task
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(self._wanted):
                server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
                stack.callback(server.close)
                self.ports.append(server.sockets[0].getsockname()[1])
            self._listening.set()
            while True:
                for replica in self._ready:
                    self._ready[replica] = await _is_ready(replica)
                await asyncio.sleep(PROBE_SECONDS)

    def _choose(self, port: int) -> str:
        known = self.chosen.get(port)
        if known is None or not self._ready[known]:
            ready = [replica for replica, is_ready in self._ready.items() if is_ready]
            self.chosen[port] = ready[self._turn % len(ready)]
            self._turn += 1
        return self.chosen[port]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._choose(writer.get_extra_info("sockname")[1]).rpartition(":")
        with contextlib.closing(writer.transport):
            try:
                to_reader, to_writer = await asyncio.open_connection(host, int(port))
            except OSError:
                writer.transport.abort()
                return
            with contextlib.closing(to_writer.transport):
                await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _is_ready(replica: str) -> bool:
    host, _, port = replica.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.closing(writer.transport):
            writer.write(b"GET /-/ready HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 1)
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")
