"""Summarise runs at a given time, without side effects."""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
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
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MIB = 1024 * 1024
_GROUP_BYTES = 1100  # memory that a group takes in addition to its labels
_FEW_GROUPS_BYTES = 32 * _MIB
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


@dataclass
class _Tally:
    """Runs of one or several groups.

    Args:
        length: number of runs.
        created: the valid `created_at`, in several lists.
        oldest: the least of them.
    """

    length: int = 0
    created: list[Sequence[datetime]] = field(default_factory=list)
    oldest: datetime | None = None

    def add(self, other: "_Tally") -> None:
        self.length += other.length
        self.created += other.created
        self.oldest = min(filter(None, (self.oldest, other.oldest)), default=None)


class _ByLabels(dict[tuple[str | None, ...], tuple[list[datetime | None], list[int]]]):
    """The runs of each group, within a limit of memory."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def __missing__(
        self, labels: tuple[str | None, ...]
    ) -> tuple[list[datetime | None], list[int]]:
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
        status, execution_class, application_id = map(_label, labels)
        group = Group(_status(status), execution_class, application_id)
        if group in groups:
            same = groups[group]
            members = _members(same.created + members.created, same.ids + ids)
        groups[group] = members
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
            folded, so that the sums stay exact.
        recent: groups seen recently, to be reported as 0 where they are empty now, within
            `max_groups`.

    Returns:
        The summary.
    """
    tallies = {group: _tally(members) for group, members in snapshot.groups.items()}
    kept, folded = _fold(tallies, max_groups)
    for group in sorted(recent):
        if len(kept) >= max_groups:
            break
        kept.setdefault(group, _Tally())
    oldest = _oldest(kept, folded)
    return Summary(
        length={group: tally.length for group, tally in kept.items()},
        oldest=oldest[QUEUED],
        oldest_running=oldest[RUNNING],
        waits=_waits(kept, datetime.fromtimestamp(snapshot.now, UTC), wait_buckets),
        runs=_by_status(kept),
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
    with suppress(TypeError):  # raised where some are missing, or have no time zone
        oldest = min(cast("list[datetime]", created))
        if oldest >= _YEAR_2000:
            return Members(created, ids, oldest, 0)
    aware = [
        moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment
        for moment in created
    ]
    created = [moment if moment and moment >= _YEAR_2000 else None for moment in aware]
    known = list(filter(None, created))
    return Members(created, ids, min(known, default=None), len(created) - len(known))


def _tally(members: Members) -> _Tally:
    created = list(filter(None, members.created)) if members.ageless else members.created
    return _Tally(len(members.ids), [cast("Sequence[datetime]", created)], members.oldest)


def _label(value: str | None) -> str:
    """Return a label value that every parser of the text formats accepts."""
    return _UNSAFE.sub("\ufffd", value[:MAX_LABEL_LENGTH]) if value else UNKNOWN


def _status(value: str) -> str:
    return lower if (lower := value.lower()) in _STATUSES else value


def _fold(
    tallies: dict[Group, _Tally], max_groups: int
) -> tuple[dict[Group, _Tally], frozenset[Group]]:
    """Keep the longest groups and fold the rest; also return which were folded.

    Folding applications into `__other__` is enough unless there are too many execution classes
    or statuses: then these are folded too.
    """
    if len(tallies) <= max_groups:
        return dict(tallies), frozenset()
    longest_first = sorted(tallies, key=lambda group: (-tallies[group].length, group))
    foldings: tuple[Callable[[Group], Group], ...] = (
        lambda group: Group(group.status_v2, group.execution_class, OTHER),
        lambda group: Group(group.status_v2, OTHER, OTHER),
        lambda _: Group(OTHER, OTHER, OTHER),
    )
    # The last folding leaves a single group, so there is always one that fits.
    keep, folding = next(
        (keep, folding)
        for folding in foldings
        if (keep := _most_to_keep(longest_first, folding, max_groups)) is not None
    )
    kept = {group: tallies[group] for group in longest_first[:keep]}
    for group in longest_first[keep:]:
        kept.setdefault(folding(group), _Tally()).add(tallies[group])
    return kept, frozenset(longest_first[keep:])


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


def _oldest(
    kept: Mapping[Group, _Tally], folded: Collection[Group]
) -> dict[str, dict[Backlog, float | None]]:
    """Find the oldest queued and the oldest running run of each backlog.

    A backlog whose runs have no valid `created_at`, or were folded, is left out: it has runs of
    that status, so 0 would be wrong.
    """
    oldest: dict[str, dict[Backlog, float | None]] = {QUEUED: {}, RUNNING: {}}
    without_age = {
        status: {Backlog(*group[1:]) for group in folded if group.status_v2 == status}
        for status in oldest
    }
    for group, tally in kept.items():
        backlog = Backlog(*group[1:])
        for status, moments in oldest.items():
            moments.setdefault(backlog, None)
            if group.status_v2 == status and tally.length:
                if tally.oldest:
                    moments[backlog] = tally.oldest.timestamp()
                    without_age[status].discard(backlog)
                else:
                    without_age[status].add(backlog)
    for status, backlogs in without_age.items():
        for backlog in backlogs:
            oldest[status].pop(backlog, None)
    return oldest


def _waits(
    kept: Mapping[Group, _Tally], now: datetime, bounds: Sequence[float]
) -> dict[str, Distribution]:
    queued: dict[str, _Tally] = defaultdict(_Tally)
    for group, tally in kept.items():
        by_class = queued[group.execution_class]
        if group.status_v2 == QUEUED:
            by_class.add(tally)
    return {name: _distribution(tally, now, bounds) for name, tally in queued.items()}


def _distribution(tally: _Tally, now: datetime, bounds: Sequence[float]) -> Distribution:
    """Count the ages of runs by bucket; a run created in the future has an age of 0.

    The oldest are dropped from one bound to the next, so that most buckets of most queues take
    no time.
    """
    total = sum(map(sub, repeat(now), chain.from_iterable(tally.created)), timedelta())
    moments: Iterable[datetime] = chain.from_iterable(tally.created)
    oldest, number = tally.oldest or now, sum(map(len, tally.created))
    buckets: list[int] = []
    for bound in (*reversed(bounds), 0.0):
        earliest = now - timedelta(seconds=bound)
        if oldest < earliest:
            moments = [moment for moment in moments if moment >= earliest]
            number = len(moments)
        buckets.append(number)
    total -= sum(map(sub, repeat(now), moments), timedelta())
    return Distribution(bounds, buckets[-2::-1], tally.length, total.total_seconds())


def _by_status(kept: Mapping[Group, _Tally]) -> dict[str, int]:
    runs = Counter({QUEUED: 0, RUNNING: 0})
    for group, tally in kept.items():
        runs[group.status_v2] += tally.length
    return dict(runs)
