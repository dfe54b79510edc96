"""The obvious alternative: a collector written on the models of Nextmv's own SDK."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from nextmv import StatusV2  # type: ignore[import-untyped]
from nextmv.cloud import Queue  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from benchmarks.ours import WAIT_BUCKETS


class QueueCollector(Collector):
    """Metrics of a queue, in a straightforward implementation.

    Args:
        body: the response of `v1/account/queue`.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering reads nothing."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the queue's lengths, the age of the oldest queued run, and how long runs wait."""
        queue = Queue.from_dict(json.loads(self._body))
        now = datetime.now(UTC)
        lengths: Counter[tuple[str, str, str]] = Counter()
        oldest: dict[tuple[str, str], float] = {}
        waits: defaultdict[str, list[float]] = defaultdict(list)
        for run in queue.runs:
            lengths[run.status_v2.value, run.execution_class, run.application_id] += 1
            if run.status_v2 is StatusV2.queued:
                age = (now - run.created_at).total_seconds()
                group = (run.execution_class, run.application_id)
                oldest[group] = max(age, oldest.get(group, 0.0))
                waits[run.execution_class].append(age)

        length = GaugeMetricFamily(
            "nextmv_account_queue_length",
            "Runs in the account's queue.",
            labels=("status_v2", "execution_class", "application_id"),
        )
        for labels, number in lengths.items():
            length.add_metric(labels, number)
        yield length

        age_of_oldest = GaugeMetricFamily(
            "nextmv_account_queue_oldest_queued_run_age_seconds",
            "Age of the oldest queued run.",
            labels=("execution_class", "application_id"),
        )
        for group, age in oldest.items():
            age_of_oldest.add_metric(group, age)
        yield age_of_oldest

        wait = GaugeHistogramMetricFamily(
            "nextmv_account_queue_wait_seconds",
            "How long the queued runs have waited.",
            labels=("execution_class",),
        )
        for execution_class, ages in waits.items():
            buckets = [
                (str(bound), sum(age <= bound for age in ages))
                for bound in (*WAIT_BUCKETS, float("inf"))
            ]
            wait.add_metric((execution_class,), buckets, sum(ages))
        yield wait


def exposition_of(body: bytes) -> bytes:
    """Scrape once.

    Args:
        body: the response of `v1/account/queue`.

    Returns:
        The metrics in the text format.
    """
    registry = CollectorRegistry()
    registry.register(QueueCollector(body))
    return generate_latest(registry)
