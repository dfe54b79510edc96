"""Write metric families in the exposition formats."""

import gzip
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nextmv_exporter.scrape.metrics import Family, le_values


def expose(
    collectors: Sequence[Collector],
    *,
    names: Collection[str] = (),
    accept: str = "",
    accept_encoding: str = "",
) -> tuple[bytes, dict[str, str]]:
    """Write metrics in the format that the client prefers.

    Names are written unchanged under every escaping scheme: all are valid in each.

    Args:
        collectors: yield the metric families.
        names: series to write; all if there are none.
        accept: the `Accept` header.
        accept_encoding: the `Accept-Encoding` header.

    Returns:
        The body, and the headers that describe it.
    """
    content_type = _content_type(accept)
    openmetrics = content_type.startswith("application/openmetrics-text")
    families = _families(collectors, names)
    lines = chain.from_iterable(_lines(family, openmetrics=openmetrics) for family in families)
    body = ("".join(lines) + ("# EOF\n" if openmetrics else "")).encode()
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip_accepted(accept_encoding):
        body = gzip.compress(body, 1, mtime=0)  # with a time, Python 3.11 is slower
        headers["Content-Encoding"] = "gzip"
    return body, headers


def _content_type(accept: str) -> str:
    """Choose the format that the client prefers; text 0.0.4 if it accepts none of them."""
    try:
        _, content_type = choose_encoder(accept.lower())
    except (TypeError, ValueError):  # a version that is not a number
        _, content_type = choose_encoder("")
    # prometheus-client repeats any later version of OpenMetrics.
    return re.sub("(openmetrics-text; version=)[^;]*", r"\g<1>1.0.0", content_type)


def _families(collectors: Iterable[Collector], names: Collection[str]) -> Iterable[Metric]:
    if not names:
        return chain.from_iterable(collector.collect() for collector in collectors)
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry.restricted_registry(names).collect()


def _lines(family: Metric, *, openmetrics: bool) -> Iterator[str]:
    """Write a family in a tenth of the time that prometheus-client's encoders take.

    They examine the name and the labels of each sample, which here are the same at each scrape.
    Families of other collectors and those filtered by name are short.
    """
    name, kind = family.name, family.type
    if not openmetrics:
        name += "_total" if kind == "counter" else ""
        kind = "untyped" if kind == "unknown" else kind
    yield f"# HELP {name} {family.documentation}\n# TYPE {name} {kind}\n"
    if not isinstance(family, Family):
        for sample in family.samples:
            pairs = _label_writer(tuple(sample.labels))(tuple(sample.labels.values()))
            labels_of_sample = f"{{{pairs[1:]}}}" if pairs else ""
            yield f"{sample.name}{labels_of_sample} {float(sample.value)}\n"
        return
    name, labels = family.metric.name, _label_writer(family.metric.labels[1:])
    for account, rows in family.accounts:
        start = f'{{account="{_escape(account)}"'
        if kind == "histogram":
            for values, value in rows:
                text = f"{start}{labels(values)}"
                for le, number in zip(le_values(value.bounds), value.buckets, strict=True):
                    yield f'{name}_bucket{text},le="{le}"}} {number}.0\n'
                yield f"{name}_count{text}}} {value.buckets[-1]}.0\n"
                yield f"{name}_sum{text}}} {float(value.sum)}\n"
            continue
        lines = [
            f"{name}{start}{labels(values)}}} {value}{'.0' if type(value) is int else ''}\n"
            for values, value in rows
        ]
        yield "".join(lines)


@cache
def _label_writer(names: tuple[str, ...]) -> Callable[[Sequence[str]], str]:
    """Return a function that writes labels, which are cached as they recur at each scrape."""
    return lru_cache(8192)(lambda values: _pairs(names, values))


def _pairs(names: Iterable[str], values: Iterable[str]) -> str:
    pairs = zip(names, values, strict=True)
    return "".join([f',{name}="{_escape(value)}"' for name, value in pairs])


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
