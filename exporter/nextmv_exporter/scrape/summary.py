"""Summarise runs at a given time, without side effects."""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from math import isnan, nan
from operator import sub
from typing import NamedTuple, cast

from nextmv_exporter.nextmv.errors import InvalidResponseError
from nextmv_exporter.scrape.runs import Run

UNKNOWN = "unknown"
OTHER = "__other__"
QUEUED = "queued"
RUNNING = "running"

MAX_LABEL_LENGTH = 256
"""Longest label value; longer ones are truncated. IDs are far shorter."""

_STATUSES = frozenset({"canceled", "failed", "none", QUEUED, RUNNING, "succeeded"})
_KEPT = frozenset({QUEUED, RUNNING})  # statuses that are never folded
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MIB = 1024 * 1024
_GROUP_BYTES = 1100  # memory that a group takes in addition to its labels
_FEW_GROUPS_BYTES = 8 * _MIB
_MAX_CACHED = 8192
# Prometheus treats NUL as the end of its input, and UTF-8 has no surrogates.
_UNSAFE = re.compile("[\0\ud800-\udfff]")


class Group(NamedTuple):
    """The labels by which runs are counted."""

    status_v2: str
    execution_class: str
    application_id: str


class Backlog(NamedTuple):
    """The labels by which ages and flow are reported."""

    execution_class: str
    application_id: str


class Members(NamedTuple):
    """The runs of a group.

    Args:
        created: `created_at` of each; None where it is missing or invalid.
        ids: the hash of each one's ID, in the same order. A hash takes less memory than an ID,
            and the same for each.
        oldest: the least valid `created_at`, if there is any.
        ageless: number of runs without a valid one.
    """

    created: list[datetime | None]
    ids: list[int]
    oldest: datetime | None
    ageless: int


class Snapshot(NamedTuple):
    """An account's queue at one moment.

    Args:
        groups: the runs of each group.
        malformed: runs with a missing, mistyped or invalid field.
        now: time of the snapshot, unix seconds.
    """

    groups: Mapping[Group, Members]
    malformed: int
    now: float


@dataclass(frozen=True)
class Distribution:
    """Observations of a histogram.

    Args:
        bounds: upper bounds of the buckets, ascending.
        buckets: for each bound, number of observations not above it.
        count: number of all observations, including those whose value is unknown.
        sum: sum of the known values.
    """

    bounds: Sequence[float]
    buckets: Sequence[int]
    count: int
    sum: float


@dataclass(frozen=True)
class Summary:
    """An account's queue in numbers.

    Args:
        length: runs in each group.
        oldest: when the oldest queued run was created, unix seconds; None where none is queued.
        oldest_running: the same for running runs.
        waits: waits of the queued runs of each execution class.
        runs: runs of each status; `queued` and `running` are always present.
        malformed: runs with a missing, mistyped or invalid field.
        folded: groups that were folded into `__other__`.
        now: the time at which ages are calculated, unix seconds.
    """

    length: Mapping[Group, int]
    oldest: Mapping[Backlog, float | None]
    oldest_running: Mapping[Backlog, float | None]
    waits: Mapping[str, Distribution]
    runs: Mapping[str, int]
    malformed: int
    folded: int
    now: float


_Labels = tuple[str | None, ...]
_groups: dict[_Labels, Group] = {}


class _ByLabels(dict[_Labels, tuple[list[datetime | None], list[int]]]):
    """The runs of each group, within a limit of memory."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def __missing__(self, labels: _Labels) -> tuple[list[datetime | None], list[int]]:
        self._left -= _GROUP_BYTES + 2 * sum(map(sys.getsizeof, labels))
        if self._left < 0:
            raise InvalidResponseError(f"too many label groups: more than {len(self)}")
        return self.setdefault(labels, ([], []))


def take_snapshot(runs: Iterable[Run], now: float, *, max_bytes: int = 64 * _MIB) -> Snapshot:
    """Group runs.

    Args:
        runs: the runs in the queue; iterated over once.
        now: the time of the snapshot, unix seconds.
        max_bytes: the largest response accepted, which limits the memory that groups may take.

    Returns:
        The snapshot, which does not reference the runs.

    Raises:
        InvalidResponseError: too many groups. Iterating over the runs can raise it too.
    """
    by_labels = _ByLabels(max(_FEW_GROUPS_BYTES, max_bytes * 3 // 2))
    for run in runs:
        created, ids = by_labels[run.status_v2, run.execution_class, run.application_id]
        created.append(run.created_at)
        ids.append(hash(run.id))
    groups: dict[Group, Members] = {}
    malformed = 0
    for labels, (created, ids) in by_labels.items():
        members = _members(created, ids)
        malformed += members.ageless if all(labels) else len(ids)
        group = _groups.get(labels) or _group(labels)
        groups[group] = _merged([groups[group], members]) if group in groups else members
    return Snapshot(groups, malformed, now)


def summarise(
    snapshot: Snapshot,
    *,
    wait_buckets: Sequence[float],
    max_groups: int,
    recent: Collection[Group] = (),
) -> Summary:
    """Summarise a queue.

    Args:
        snapshot: the queue.
        wait_buckets: upper bounds of the wait histogram, seconds, ascending.
        max_groups: most groups in `length`; at least 1. The longest are kept and the rest
            folded, so that the sums stay exact. Queued, running and other runs have at least a
            group each.
        recent: groups seen recently, to be reported as 0 where they are empty now, within
            `max_groups`.

    Returns:
        The summary.
    """
    kept, folded = _fold(snapshot.groups, max_groups)
    for group in sorted(recent):
        if len(kept) >= max_groups:
            break
        kept.setdefault(group, _members([], []))
    length: dict[Group, int] = {}
    runs = Counter({QUEUED: 0, RUNNING: 0})
    queued: defaultdict[str, list[Members]] = defaultdict(list)
    # Of each status, when the oldest run was created; NaN where that is unknown, so that 0 would
    # be wrong: all of a backlog's runs lack a valid `created_at`, or were folded.
    oldest: dict[str, dict[Backlog, float]] = {QUEUED: {}, RUNNING: {}}
    backlogs: dict[Backlog, float | None] = {}
    for group, members in kept.items():
        status, execution_class, application_id = group
        backlog = Backlog(execution_class, application_id)
        backlogs[backlog] = None
        length[group] = number = len(members.ids)
        runs[status] += number
        waiting = queued[execution_class]
        if status == QUEUED:
            waiting.append(members)
        if number and status in oldest:
            oldest[status][backlog] = members.oldest.timestamp() if members.oldest else nan
    for status, *labels in folded:
        if status in oldest:
            oldest[status].setdefault(Backlog(*labels), nan)
    oldest_queued, oldest_running = (
        {b: t for b, t in (backlogs | oldest[status]).items() if t is None or not isnan(t)}
        for status in (QUEUED, RUNNING)
    )
    now = datetime.fromtimestamp(snapshot.now, UTC)
    return Summary(
        length=length,
        oldest=oldest_queued,
        oldest_running=oldest_running,
        waits={name: _distribution(parts, now, wait_buckets) for name, parts in queued.items()},
        runs=dict(runs),
        malformed=snapshot.malformed,
        folded=len(folded),
        now=snapshot.now,
    )


def created_timestamp(created: datetime | None) -> float | None:
    """Convert a `created_at`.

    Args:
        created: the time; without a time zone it is taken as UTC.

    Returns:
        Unix seconds, or None if it is missing, or before the year 2000, as Go's zero time is.
    """
    moment = _members([created], []).oldest
    return None if moment is None else moment.timestamp()


def _members(created: list[datetime | None], ids: list[int]) -> Members:
    """Make all times comparable, and replace invalid ones by None."""
    try:
        oldest = min(cast("list[datetime]", created))
        if oldest >= _YEAR_2000:
            return Members(created, ids, oldest, 0)
    except (TypeError, ValueError):  # some are missing, or have no time zone
        pass
    aware = [
        moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment
        for moment in created
    ]
    created = [moment if moment and moment >= _YEAR_2000 else None for moment in aware]
    known = list(filter(None, created))
    return Members(created, ids, min(known, default=None), len(created) - len(known))


def _merged(parts: Iterable[Members]) -> Members:
    created, ids, *_ = zip(*parts, strict=True)
    return _members([*chain.from_iterable(created)], [*chain.from_iterable(ids)])


def _group(labels: _Labels) -> Group:
    """Return the group of runs with these labels, and cache it: most recur at each scrape."""
    status, execution_class, application_id = map(_label, labels)
    group = Group(_status(status), execution_class, application_id)
    if sum(len(label or "") for label in labels) <= MAX_LABEL_LENGTH:
        if len(_groups) >= _MAX_CACHED:
            _groups.clear()
        _groups[labels] = group
    return group


def _label(value: str | None) -> str:
    """Return a label value that every parser of the text formats accepts."""
    text = value[:MAX_LABEL_LENGTH] if value else UNKNOWN
    return text if text.isprintable() else _UNSAFE.sub("\ufffd", text)


def _status(value: str) -> str:
    return lower if (lower := value.lower()) in _STATUSES else value


def _fold(
    groups: Mapping[Group, Members], max_groups: int
) -> tuple[dict[Group, Members], frozenset[Group]]:
    """Keep the longest groups and fold the rest; also return which were folded.

    Folding applications into `__other__` is enough unless there are too many execution classes
    or statuses: then these are folded too.
    """
    if len(groups) <= max_groups:
        return dict(groups), frozenset()
    longest_first = sorted(groups, key=lambda group: (-len(groups[group].ids), group))
    foldings: tuple[Callable[[Group], Group], ...] = (
        lambda group: Group(group.status_v2, group.execution_class, OTHER),
        lambda group: Group(group.status_v2, OTHER, OTHER),
        lambda group: Group(status if (status := group[0]) in _KEPT else OTHER, OTHER, OTHER),
    )
    fitting = (
        (keep, folding)
        for folding in foldings
        if (keep := _most_to_keep(longest_first, folding, max_groups)) is not None
    )
    # The last folding leaves three groups at most.
    keep, folding = next(fitting, (0, foldings[-1]))
    kept = {group: [groups[group]] for group in longest_first[:keep]}
    for group in longest_first[keep:]:
        kept.setdefault(folding(group), []).append(groups[group])
    merged = {
        group: parts[0] if len(parts) == 1 else _merged(parts) for group, parts in kept.items()
    }
    return merged, frozenset(longest_first[keep:])


def _most_to_keep(
    longest_first: Sequence[Group], folding: Callable[[Group], Group], max_groups: int
) -> int | None:
    """Return how many groups can be kept if the rest is folded; None if even 0 are too many."""
    others: set[Group] = set()
    for keep in reversed(range(len(longest_first))):
        others.add(folding(longest_first[keep]))
        if keep + len(others) <= max_groups:
            return keep
    return None


def _distribution(parts: Sequence[Members], now: datetime, bounds: Sequence[float]) -> Distribution:
    """Count the ages of runs by bucket; a run created in the future has an age of 0.

    The oldest are dropped from one bound to the next, so that most buckets of most queues take
    no time.
    """
    lists = [[*filter(None, part.created)] if part.ageless else part.created for part in parts]
    moments = cast("Iterable[datetime]", chain.from_iterable(lists))
    number = sum(map(len, lists))
    oldest = min((part.oldest for part in parts if part.oldest), default=now)
    buckets: list[int] = []
    for bound in (*reversed(bounds), 0.0):
        earliest = now - timedelta(seconds=bound)
        if oldest < earliest:
            moments = [moment for moment in moments if moment >= earliest]
            number = len(moments)
        buckets.append(number)
    try:
        total = sum(map(sub, repeat(now), chain.from_iterable(lists)), timedelta())
        total -= sum(map(sub, repeat(now), moments), timedelta())
        seconds = total.total_seconds()
    except OverflowError:  # a timedelta holds up to a thousand million days
        ages = map(sub, repeat(now), chain.from_iterable(lists))
        seconds = sum(max(0.0, age.total_seconds()) for age in ages)
    count = sum(len(part.ids) for part in parts)
    return Distribution(bounds, buckets[-2::-1], count, seconds)
