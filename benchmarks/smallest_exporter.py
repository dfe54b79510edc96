"""`python -m benchmarks.smallest_exporter`: the least that an exporter of the queue can be.

prometheus-client's own server, one `requests` session and the standard library's JSON. It reports
the queue's length by its labels and nothing else: no ages, flow, deadlines or limits.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator

import requests
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_LABELS = ("status_v2", "execution_class", "application_id")


class QueueLength(Collector):
    """Collector of the queue's length."""

    def __init__(self) -> None:
        self._url = f"{os.environ['NEXTMV_ENDPOINT']}/v1/account/queue"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {os.environ['NEXTMV_API_KEY']}"

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing, so that registering sends no request."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Fetch the queue, and yield its length."""
        response = self._session.get(self._url, timeout=10)
        response.raise_for_status()
        runs = json.loads(response.content)["runs"]
        length = GaugeMetricFamily("nextmv_account_queue_length", "Runs.", labels=_LABELS)
        for labels, count in Counter(tuple(run[key] for key in _LABELS) for run in runs).items():
            length.add_metric(labels, count)
        yield length


def main() -> None:
    """Serve the metrics until the process is killed."""
    host, _, port = os.environ["NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS"].partition(":")
    registry = CollectorRegistry()
    registry.register(QueueLength())
    start_http_server(int(port), host, registry)
    threading.Event().wait()


if __name__ == "__main__":
    main()
