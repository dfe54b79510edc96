"""From outcomes to the text that Prometheus reads."""

import gzip
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from itertools import chain

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import (
    UNDERSCORES,
    escape_label_name,
    escape_metric_name,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from nextmv_exporter.scrape.metrics import OF_ACCOUNTS

_ACCOUNT_SERIES = frozenset(series for metric in OF_ACCOUNTS for series in metric.series) | {
    metric.name for metric in OF_ACCOUNTS
}
_FASTEST = 1


def concerns_accounts(names: Collection[str]) -> bool:
    """Tell whether a scrape needs the accounts' queues at all.

    Args:
        names: the `name[]` parameters.

    Returns:
        True if there are none, or one of them names a series of the accounts.
    """
    return not names or any(name in _ACCOUNT_SERIES for name in names)


def expose(
    collectors: Sequence[Collector],
    *,
    names: Collection[str] = (),
    accept: str = "",
    accept_encoding: str = "",
) -> tuple[bytes, dict[str, str]]:
    """Write metrics in the format that the client prefers.

    Args:
        collectors: give the metric families.
        names: series to write; all if there are none.
        accept: the `Accept` header.
        accept_encoding: the `Accept-Encoding` header.

    Returns:
        The body, and the headers that describe it.
    """
    encode, content_type = _choose_encoder(accept)
    families = list(_families(collectors, names))
    gauges = [_gauge(family, content_type) for family in families if family.type == "gauge"]
    body = "".join(gauges).encode() + encode(
        _Others([family for family in families if family.type != "gauge"])
    )
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip_accepted(accept_encoding):
        body = gzip.compress(body, compresslevel=_FASTEST)
        headers["Content-Encoding"] = "gzip"
    return body, headers


def _choose_encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Choose a format; one whose version is no version is passed over."""
    try:
        return choose_encoder(accept)
    except TypeError:  # it compares the parts of the version with numbers
        return choose_encoder("")


def _families(collectors: Iterable[Collector], names: Collection[str]) -> Iterable[Metric]:
    if not names:
        return chain.from_iterable(collector.collect() for collector in collectors)
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry.restricted_registry(names).collect()


class _Others(Collector):
    """The families that prometheus-client's encoder writes: all but the gauges."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(family: Metric, content_type: str) -> str:
    """Write a gauge, byte for byte as prometheus-client's encoders do.

    They examine the names of all labels at each sample. A gauge of the queue has a sample for
    each of up to thousands of groups, so here it is done once.
    """
    escaping = content_type.partition("escaping=")[2] or UNDERSCORES
    openmetrics = content_type.startswith("application/openmetrics-text")
    name = escape_metric_name(family.name, escaping)
    names = sorted(family.samples[0].labels) if family.samples else []
    labels = [(label, escape_label_name(label, escaping)) for label in names]
    lines = [
        f"# HELP {name} {_escape(family.documentation, quotes=openmetrics)}\n",
        f"# TYPE {name} gauge\n",
    ]
    for sample in family.samples:
        pairs = ",".join([_pair(shown, sample.labels[label]) for label, shown in labels])
        braced = f"{{{pairs}}}" if pairs else ""
        value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
        lines.append(f"{name}{braced} {value}\n")
    return "".join(lines)


@lru_cache(maxsize=4096)
def _pair(name: str, value: str) -> str:
    """Write a label; the same ones recur at sample after sample, and scrape after scrape."""
    return f'{name}="{_escape(value, quotes=True)}"'


def _escape(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
