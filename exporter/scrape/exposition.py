"""From outcomes to the text that Prometheus reads."""

import gzip
from collections.abc import Collection, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from exporter.scrape.metrics import OF_ACCOUNTS

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
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    encode, content_type = choose_encoder(accept)
    body = encode(registry.restricted_registry(names) if names else registry)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip_accepted(accept_encoding):
        body = gzip.compress(body, compresslevel=_FASTEST)
        headers["Content-Encoding"] = "gzip"
    return body, headers
