"""What an account's scrapes have counted since the start."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from prometheus_client import Histogram

from nextmv_exporter.nextmv.client import Exchange
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.flow import Change
from nextmv_exporter.scrape.summary import OTHER, QUEUED, RUNNING, Backlog, Group

# Seconds before a scrape for which the status page shows arrivals and starts.
RECENT = 300.0


class Distribution(NamedTuple):
    """Observations of a histogram.

    Args:
        bounds: upper bounds of the buckets, ascending.
        buckets: for each bound, number of observations not above it, and last the number of all.
        sum: their sum.
    """

    bounds: tuple[float, ...]
    buckets: Sequence[int]
    sum: float = 0.0

    def observed(self, values: Sequence[float]) -> "Distribution":
        """Return this distribution and further observations.

        Args:
            values: the observations.
        """
        ordered = sorted(values)
        added = (*(bisect_right(ordered, bound) for bound in self.bounds), len(ordered))
        buckets = [old + new for old, new in zip(self.buckets, added, strict=True)]
        return Distribution(self.bounds, buckets, self.sum + sum(values))


@dataclass
class Counters:
    """The counters of an account. Not safe to use from several threads at once.

    Args:
        wait_buckets: upper bounds of the histogram of waits, seconds, ascending.
        max_groups: most pairs of execution class and application; further ones are counted as
            `__other__`, once for each class.
        errors: failed scrapes, by reason.
        requests: requests sent, by path and code.
        request_times: durations of requests, by path.
        entered: runs that entered the queue.
        started: runs that started.
        left: runs that left the queue, by the status that they were last seen with.
        start_waits: waits of the runs that started, by execution class.
        last_starts: unix time of the scrape that last saw a run start, by execution class.
        recent: of each scrape lately, the unix time and the runs that entered and started, by
            execution class.
    """

    wait_buckets: Sequence[float]
    max_groups: int
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    request_times: dict[str, Distribution] = field(default_factory=dict)
    entered: Counter[Backlog] = field(default_factory=Counter)
    started: Counter[Backlog] = field(default_factory=Counter)
    left: Counter[Group] = field(default_factory=Counter)
    start_waits: dict[str, Distribution] = field(default_factory=dict)
    last_starts: dict[str, float] = field(default_factory=dict)
    recent: Sequence[tuple[float, Counter[str], Counter[str]]] = ()

    def count_request(self, exchange: Exchange) -> None:
        """Count a request to the API.

        Args:
            exchange: the request.
        """
        self.requests[exchange.path, exchange.code] += 1
        times = self.request_times.get(exchange.path) or _empty(Histogram.DEFAULT_BUCKETS[:-1])
        self.request_times[exchange.path] = times.observed([exchange.seconds])

    def count_flow(self, change: Change) -> None:
        """Count the changes between two snapshots.

        Args:
            change: the changes.
        """
        for group in change.groups:
            if group not in self.left and (group := self._group(group)) not in self.left:
                self._add_group(group)
        entered = _summed(change.entered, self._backlog)
        started = _summed(change.started, self._backlog)
        self.entered.update(entered)
        self.started.update(started)
        self.left.update(_summed(change.left, self._group))
        for execution_class, waits in change.waits.items():
            known = execution_class if execution_class in self.start_waits else OTHER
            self.start_waits[known] = self.start_waits[known].observed(waits)
        came, began = (_summed(flow, attrgetter("execution_class")) for flow in (entered, started))
        self.last_starts |= dict.fromkeys(began, change.now)
        if entered or started:
            self.recent = [*self._recent(change.now), (change.now, came, began)]

    def recent_flow(self, now: float) -> Mapping[str, tuple[int, int]]:
        """Sum up the runs entered and started in the `RECENT` seconds before a time.

        Args:
            now: unix seconds.

        Returns:
            Runs entered and started, by execution class.
        """
        entered, started = Counter[str](), Counter[str]()
        for _, came, began in self._recent(now):
            entered += came
            started += began
        return {name: (entered[name], started[name]) for name in sorted(entered | started)}

    def copy(self) -> "Counters":
        """Copy the counters, so that they can be written while counting continues.

        Returns:
            The current values.
        """
        return Counters(**{name: copy(value) for name, value in vars(self).items()})

    def _recent(self, now: float) -> Sequence[tuple[float, Counter[str], Counter[str]]]:
        """Return the recent flow; none of the future, if the clock was set back."""
        return [flow for flow in self.recent if 0 <= now - flow[0] <= RECENT]

    def _add_group(self, group: Group) -> None:
        """Initialise a group's counters to 0, so that `increase()` sees the first change."""
        backlog = Backlog(*group[1:])
        self.entered[backlog] += 0
        self.started[backlog] += 0
        for status in (QUEUED, RUNNING, group.status_v2):
            self.left[Group(status, *backlog)] += 0
        self.start_waits.setdefault(backlog.execution_class, _empty(self.wait_buckets))

    def _backlog(self, backlog: Backlog) -> Backlog:
        """Return the labels under which a backlog is counted."""
        if backlog in self.entered or len(self.entered) < self.max_groups:
            return backlog
        known = backlog.execution_class in self.start_waits
        return Backlog(backlog.execution_class if known else OTHER, OTHER)

    def _group(self, group: Group) -> Group:
        """Return the labels under which runs that left are counted."""
        group = Group(group.status_v2, *self._backlog(Backlog(*group[1:])))
        usual = group.status_v2 in {QUEUED, RUNNING} or group in self.left
        if usual or len(self.left) < 4 * self.max_groups:
            return group
        return Group(OTHER, *group[1:])


def _empty(bounds: Sequence[float]) -> Distribution:
    return Distribution(tuple(bounds), [0] * (len(bounds) + 1))


def _summed(numbers: Mapping[Any, int], label: Callable[[Any], Any]) -> Counter[Any]:
    """Add up numbers whose keys get the same label."""
    sums = Counter[Any]()
    for key, number in numbers.items():
        sums[label(key)] += number
    return sums
