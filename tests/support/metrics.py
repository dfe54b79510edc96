"""Reading an exposition as Prometheus does."""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Series = tuple[str, Labels]


def parse(text: str) -> dict[Series, float]:
    """Values by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(text: str, name: str) -> dict[Labels, float]:
    """Return the samples of a metric, by their labels."""
    return {labels: value for (series, labels), value in parse(text).items() if series == name}


def by(label: str, found: Mapping[Labels, float]) -> dict[str, float]:
    """Return sums of samples by one label."""
    sums: Counter[str] = Counter()
    for labels, value in found.items():
        sums[dict(labels)[label]] += value  # type: ignore[assignment]
    return dict(sums)


def values(text: str, name: str, **labels: str) -> list[float]:
    """The values of a metric's series that have these labels."""
    return [
        value
        for (series, given), value in parse(text).items()
        if series == name and labels.items() <= dict(given).items()
    ]


def value(text: str, name: str, **labels: str) -> float:
    """The value of the one series that has these labels."""
    [only] = values(text, name, **labels)
    return only


def open_metrics(text: str) -> Iterator[Metric]:
    """The families of an exposition in OpenMetrics, whose parser refuses whatever is not."""
    yield from openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
