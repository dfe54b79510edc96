"""Counters and histograms that are kept for each account apart."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Kept = TypeVar("Kept", Counter, Histogram)


class ByAccount(Collector, Generic[Kept]):
    """A counter or histogram of all accounts, a scrape of one of which costs nothing of the others.

    prometheus-client's own would walk through the samples of a thousand accounts to give one's.

    Args:
        make: makes the counter or histogram of an account; its first label is `account`.
    """

    def __init__(self, make: Callable[[], Kept]) -> None:
        self._make: Callable[[], Kept] = make
        self._of: dict[str, Kept] = {}

    def labels(self, account: str, *values: str) -> Kept:
        """Give the counter or histogram of these label values.

        Args:
            account: the account's name.
            values: of the other labels.

        Returns:
            What `prometheus_client` calls a child.
        """
        kept = self._of.get(account) or self._of.setdefault(account, self._make())
        return kept.labels(account, *values)

    def remove(self, account: str) -> None:
        """Drop an account's samples.

        Args:
            account: the account's name.
        """
        self._of.pop(account, None)

    def collect(self, accounts: Iterable[str] | None = None) -> Iterator[Metric]:
        """Yield the family.

        Args:
            accounts: those whose samples are wanted; without them, all.
        """
        [family] = self._make().collect()
        for account in list(self._of) if accounts is None else accounts:
            if kept := self._of.get(account):
                [own] = kept.collect()
                family.samples += own.samples
        yield family
