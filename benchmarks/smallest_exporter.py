"""`python -m benchmarks.smallest_exporter [decoder]`: the least that an exporter can be.

prometheus-client's own server and one `requests` session. The exporter reads the queue with the
standard library's JSON and reports its length by its labels, and nothing else: no ages, no flow,
no deadline and no limit. The decoder calls `orjson.loads` on the response, and reports nothing.
"""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import orjson
import requests
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LABELS = ("status_v2", "execution_class", "application_id")


class Decoder(Collector):
    """Reads the queue and decodes its JSON."""

    def __init__(self) -> None:
        self._url = f"{os.environ['NEXTMV_ENDPOINT']}/v1/account/queue"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {os.environ['NEXTMV_API_KEY']}"

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing, so that registering sends no request."""
        yield from ()

    def read(self) -> bytes:
        """Fetch the queue."""
        response = self._session.get(self._url, timeout=10)
        response.raise_for_status()
        return response.content

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Fetch the queue, and yield nothing."""
        orjson.loads(self.read())
        yield from ()


class QueueLength(Decoder):
    """Collector of the queue's length."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Fetch the queue, and yield its length."""
        runs = json.loads(self.read())["runs"]
        length = GaugeMetricFamily("nextmv_account_queue_length", "Runs.", labels=LABELS)
        for labels, count in Counter(tuple(run[key] for key in LABELS) for run in runs).items():
            length.add_metric(labels, count)
        yield length


def main() -> None:
    """Serve the metrics until the process is killed."""
    host, _, port = os.environ["NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS"].partition(":")
    registry = CollectorRegistry()
    registry.register(Decoder() if "decoder" in sys.argv else QueueLength())
    start_http_server(int(port), host, registry)
    threading.Event().wait()


if __name__ == "__main__":
    main()
