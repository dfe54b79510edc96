"""What an account's scrapes have counted since the start."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from typing import TypeVar

from prometheus_client import Histogram

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.flow import Change
from nextmv_exporter.scrape.summary import OTHER, QUEUED, RUNNING, Backlog, Distribution, Group

REQUEST_BUCKETS = Histogram.DEFAULT_BUCKETS[:-1]
"""Upper bounds of `nextmv_api_request_duration_seconds`, seconds: those of prometheus-client."""

RECENT = 300.0
"""Seconds before a scrape for which the status page shows arrivals and starts."""

Key = TypeVar("Key")
Label = TypeVar("Label")
RecentFlow = tuple[float, Mapping[str, int], Mapping[str, int]]  # when, entered, started


@dataclass(frozen=True)
class Counters:
    """The values of an account's counters.

    Args:
        errors: failed scrapes, by reason.
        requests: requests sent, by endpoint and code.
        request_times: durations of requests, by endpoint.
        entered: runs that entered the queue.
        started: runs that started.
        left: runs that left the queue, by the status that they were last seen with.
        start_waits: waits of the runs that started, by execution class.
        recent: times, unix seconds, with the runs entered and started by execution class.
    """

    errors: Mapping[str, int]
    requests: Mapping[tuple[str, str], int]
    request_times: Mapping[str, Distribution]
    entered: Mapping[Backlog, int]
    started: Mapping[Backlog, int]
    left: Mapping[Group, int]
    start_waits: Mapping[str, Distribution]
    recent: Sequence[RecentFlow]

    def recent_flow(self, now: float) -> Mapping[str, tuple[int, int]]:
        """Sum up the runs entered and started in the `RECENT` seconds before a time.

        Args:
            now: unix seconds.

        Returns:
            Runs entered and started, by execution class.
        """
        entered: Counter[str] = Counter()
        started: Counter[str] = Counter()
        for then, entered_then, started_then in self.recent:
            if 0 <= now - then <= RECENT:
                entered.update(entered_then)
                started.update(started_then)
        return {name: (entered[name], started[name]) for name in sorted(entered | started)}


class _Histogram:
    """Histogram that counts observations.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> Distribution:
        *buckets, count = accumulate(self._counts)
        return Distribution(self._bounds, buckets, count, self._sum)


class AccountMetrics:
    """The counters of an account. Not safe to use from several threads at once.

    Args:
        wait_buckets: upper bounds of the histogram of waits, seconds, ascending.
        max_groups: most pairs of execution class and application; further ones are counted as
            `__other__`, once for each class.
    """

    def __init__(self, *, wait_buckets: Sequence[float], max_groups: int) -> None:
        self._wait_buckets = wait_buckets
        self._max_groups = max_groups
        self._errors = {reason.value: 0 for reason in Reason}
        self._requests: Counter[tuple[str, str]] = Counter()
        self._request_times: dict[str, _Histogram] = {}
        self._entered: Counter[Backlog] = Counter()
        self._started: Counter[Backlog] = Counter()
        self._left: Counter[Group] = Counter()
        self._start_waits: dict[str, _Histogram] = {}
        self._recent: deque[RecentFlow] = deque()

    def count_error(self, reason: Reason) -> None:
        """Count a failed scrape.

        Args:
            reason: why it failed.
        """
        self._errors[reason.value] += 1

    def observe_request(self, endpoint: str, code: str, seconds: float) -> None:
        """Count a request to the API.

        Args:
            endpoint: the path requested, without IDs.
            code: HTTP status, or `error`.
            seconds: how long it took.
        """
        self._requests[endpoint, code] += 1
        times = self._request_times.setdefault(endpoint, _Histogram(REQUEST_BUCKETS))
        times.observe(seconds)

    def add_flow(self, change: Change) -> None:
        """Count the changes between two snapshots.

        Args:
            change: the changes.
        """
        for group in change.groups:
            if group not in self._left and (group := self._group(group)) not in self._left:
                self._add_group(group)
        entered = _summed(change.entered, self._backlog)
        started = _summed(change.started, self._backlog)
        self._entered.update(entered)
        self._started.update(started)
        self._left.update(_summed(change.left, self._group))
        for execution_class, waits in change.waits.items():
            known = execution_class in self._start_waits
            histogram = self._start_waits_of(execution_class if known else OTHER)
            for wait in waits:
                histogram.observe(wait)
        # Not those of the future either, if the clock was set back.
        while self._recent and not 0 <= change.now - self._recent[0][0] <= RECENT:
            self._recent.popleft()
        if entered or started:
            by_class = attrgetter("execution_class")
            self._recent.append(
                (change.now, _summed(entered, by_class), _summed(started, by_class))
            )

    def copy(self) -> Counters:
        """Copy the counters, so that they can be written while counting continues.

        Returns:
            The current values.
        """
        return Counters(
            errors=dict(self._errors),
            requests=dict(self._requests),
            request_times={name: times.read() for name, times in self._request_times.items()},
            entered=dict(self._entered),
            started=dict(self._started),
            left=dict(self._left),
            start_waits={name: waits.read() for name, waits in self._start_waits.items()},
            recent=tuple(self._recent),
        )

    def _add_group(self, group: Group) -> None:
        """Initialise a group's counters to 0, so that `increase()` sees the first change."""
        backlog = Backlog(*group[1:])
        self._entered[backlog] += 0
        self._started[backlog] += 0
        for status in (QUEUED, RUNNING, group.status_v2):
            self._left[Group(status, *backlog)] += 0
        self._start_waits_of(backlog.execution_class)

    def _backlog(self, backlog: Backlog) -> Backlog:
        """Return the labels under which a backlog is counted."""
        if backlog in self._entered or len(self._entered) < self._max_groups:
            return backlog
        if backlog.execution_class in self._start_waits:
            return Backlog(backlog.execution_class, OTHER)
        return Backlog(OTHER, OTHER)

    def _group(self, group: Group) -> Group:
        """Return the labels under which runs that left are counted."""
        group = Group(group.status_v2, *self._backlog(Backlog(*group[1:])))
        usual = group.status_v2 in {QUEUED, RUNNING} or group in self._left
        if usual or len(self._left) < 4 * self._max_groups:
            return group
        return Group(OTHER, *group[1:])

    def _start_waits_of(self, execution_class: str) -> _Histogram:
        if execution_class not in self._start_waits:
            self._start_waits[execution_class] = _Histogram(self._wait_buckets)
        return self._start_waits[execution_class]


def _summed(numbers: Mapping[Key, int], label: Callable[[Key], Label]) -> Counter[Label]:
    """Add up numbers whose keys get the same label."""
    sums: Counter[Label] = Counter()
    for key, number in numbers.items():
        sums[label(key)] += number
    return sums
