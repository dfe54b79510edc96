"""The custom collector, which fetches the queues of its accounts at each collection."""

import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nextmv_exporter import __version__
from nextmv_exporter.nextmv.client import Deadline
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.scrape.metrics import BUILD_INFO, families
from nextmv_exporter.scrape.target import ScrapeOptions, Target

if TYPE_CHECKING:
    from nextmv_exporter.nextmv.account import Account


class QueueCollector(Collector):
    """Collector that fetches the run queues of Nextmv accounts at each collection.

    It yields, for each account::

        nextmv_account_queue_length{account="default",status_v2="queued",…} 12.0
        nextmv_account_queue_oldest_queued_run_age_seconds{account="default",…} 95.2
        nextmv_up{account="default"} 1.0

    A failed fetch yields `nextmv_up` 0 and no queue series; it raises nothing. Collecting is
    safe from several threads at once: they share one request for each account. Registering
    sends no request.

    Args:
        accounts: the accounts by the value of their `account` label. A `Target` is an account
            whose state is shared with other collectors. Without them, credentials are
            looked up as by the `nextmv-exporter` program: in `NEXTMV_API_KEY` and the other
            variables of its settings, and in `~/.nextmv/config.yaml`; options that are not given
            then come from its settings too.
        timeout: longest time that a collection may take in all, seconds; by default 10.
        source: `auto`, `account-queue` or `application-runs`; by default `auto`.
        run_lookback: maximum age of a run to be found by `application-runs`, seconds; by default
            a day.
        wait_buckets: upper bounds of the wait histograms, seconds, ascending; by default from 5
            seconds to 12 hours.
        max_groups: most label groups reported for each account; by default 2000.
        zero_retention: how long a drained group is still reported as 0, seconds; by default 300.

    A collector may be made before a fork, as servers do that load the program first: it opens its
    connections at the first collection. Collect only after the fork, in each process.

    Raises:
        ConfigurationError: no accounts are given, and no valid credentials are found; two of the
            accounts have the same credentials; or an option is invalid.

    Example:
        >>> from prometheus_client import REGISTRY
        >>> REGISTRY.register(QueueCollector())  # doctest: +SKIP
    """

    def __init__(  # noqa: PLR0913 - the settings of a collection, all optional
        self,
        accounts: "Mapping[str, Account | Target] | None" = None,
        *,
        timeout: float | None = None,
        source: str | None = None,
        run_lookback: float | None = None,
        wait_buckets: Sequence[float] | None = None,
        max_groups: int | None = None,
        zero_retention: float | None = None,
    ) -> None:
        if wait_buckets is not None:  # as prometheus-client's histograms, with infinity or without
            wait_buckets = tuple(bound for bound in wait_buckets if bound != math.inf)
        options = {
            "nextmv_timeout": timeout,
            "nextmv_source": source,
            "nextmv_run_lookback": run_lookback,
            "queue_wait_buckets": wait_buckets,
            "queue_max_groups": max_groups,
            "queue_zero_retention": zero_retention,
        }
        given: dict[str, Any] = {each: v for each, v in options.items() if v is not None}
        if accounts is None:
            # Imported here, since only this case needs the settings of the program.
            from nextmv_exporter.accounts import Accounts
            from nextmv_exporter.settings import from_environment

            settings = replace(from_environment(), **given)
            self._timeout = settings.nextmv_timeout
            self._accounts: Accounts | None = Accounts(settings)
            return
        shared = ScrapeOptions(**{each.partition("_")[2]: v for each, v in given.items()})
        self._timeout = shared.timeout
        self._accounts = None
        self._targets = _targets(accounts, shared)

    def collect(self) -> Iterator[Metric]:
        """Fetch the queues of all accounts in parallel and yield the metric families."""
        if self._accounts:
            self._accounts.refresh()
        targets = self._accounts.targets if self._accounts else self._targets
        deadline = Deadline(self._timeout)
        fetches = [(target, target.start(deadline)) for target in targets.values()]
        yield from families([target.result(fetch, deadline) for target, fetch in fetches])

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that registering fetches nothing."""
        yield from families(())


def _targets(
    accounts: "Mapping[str, Account | Target]", options: ScrapeOptions
) -> Mapping[str, Target]:
    """Make targets of accounts; reject those of which several would report the same queue."""
    targets: dict[str, Target] = {}
    owners: dict[object, str] = {}
    for name, account in accounts.items():
        if isinstance(account, Target):
            targets[name] = account
            continue
        if (other := owners.setdefault(account.client.credentials, name)) != name:
            raise ConfigurationError(
                f"accounts {other!r} and {name!r} have the same API key: if NEXTMV_API_KEY or "
                "NEXTMV_PROFILE is set, which take precedence over a profile, unset it"
            )
        targets[name] = Target(name, account.client, replace(options, endpoint=account.endpoint))
    return targets


class ProcessMetricsCollector(Collector):
    """The exporter's own metrics: its build, its process, its Python."""

    def __init__(self) -> None:
        self._collectors = (ProcessCollector(registry=None), PlatformCollector(registry=None))

    def collect(self) -> Iterable[Metric]:
        """Yield `nextmv_exporter_build_info`, `process_*` and `python_info`."""
        build = GaugeMetricFamily(BUILD_INFO.name, BUILD_INFO.help, labels=BUILD_INFO.labels)
        revision = os.environ.get("NEXTMV_EXPORTER_REVISION", "unknown")
        build.add_metric((__version__, revision, platform.python_version()), 1)
        yield build
        for collector in self._collectors:
            yield from collector.collect()

    describe = collect
