"""What changed from one snapshot of an account's queue to the next."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain

from nextmv_exporter.scrape.summary import QUEUED, RUNNING, Backlog, Group, Members, Snapshot

MAX_GAP = 300.0
"""Seconds between two snapshots beyond which starts are counted, but no waits are observed."""

_NO_ID = frozenset(map(hash, (None, "")))


@dataclass(frozen=True)
class Baseline:
    """What the next snapshot is compared with.

    Args:
        ids: hashes of the runs' IDs, by group.
        distinct: each of them once.
        missing: those that the latest snapshot did not have.
        now: when the latest snapshot was taken, unix seconds.
    """

    ids: Mapping[Group, Sequence[int]]
    distinct: AbstractSet[int]
    missing: AbstractSet[int]
    now: float


@dataclass(frozen=True)
class Change:
    """What happened between two snapshots, as far as they show it.

    Args:
        now: when the later one was taken, unix seconds.
        groups: the groups that have runs.
        entered: runs that are in the queue for the first time.
        started: runs that are running, and were queued or absent.
        left: runs that are gone, by the status that they were last seen with.
        waits: how long started runs had waited, seconds, estimated, by execution class.
    """

    now: float
    groups: Sequence[Group] = ()
    entered: Mapping[Backlog, int] = field(default_factory=dict)
    started: Mapping[Backlog, int] = field(default_factory=dict)
    left: Mapping[Group, int] = field(default_factory=dict)
    waits: Mapping[str, Sequence[float]] = field(default_factory=dict)


def compare(
    previous: Baseline | None, snapshot: Snapshot, *, complete: bool = True
) -> tuple[Baseline, Change]:
    """Compare a snapshot with the one before.

    Runs are compared by ID; those without one are ignored. Several with the same ID are one run,
    with the status that is furthest: running, then queued, then any other.

    Args:
        previous: the one before; None for the first, from which nothing is counted.
        snapshot: the later one.
        complete: whether the snapshot is of a single response. One that was put together from
            pages can miss a run that moved to another page between two requests. So a run counts
            as left only when it is missing from two such snapshots in a row, and one that is back
            after a single one counts neither as left nor as entered.

    Returns:
        What the next snapshot is to be compared with, and the change.
    """
    ids = {group: members.ids for group, members in snapshot.groups.items()}
    present = frozenset(chain.from_iterable(ids.values())) - _NO_ID
    if previous is None:
        return Baseline(ids, present, frozenset(), snapshot.now), Change(snapshot.now, list(ids))
    gone = previous.distinct - present
    left = gone if complete else gone & previous.missing
    missing = gone - left
    started = list(_by_group(_started(previous, ids), ids))
    change = Change(
        now=snapshot.now,
        groups=list(ids),
        entered=_by_backlog(_by_group(present - previous.distinct, ids)),
        started=_by_backlog(iter(started)),
        left={group: len(runs) for group, runs in _by_group(left, previous.ids)},
        waits=_waits(started, previous.now, snapshot),
    )
    for group, runs in _by_group(missing, previous.ids):
        ids[group] = [*ids.get(group, ()), *runs]
    return Baseline(ids, present | missing, missing, snapshot.now), change


def _started(previous: Baseline, ids: Mapping[Group, Sequence[int]]) -> AbstractSet[int]:
    """Find the runs that are running, and were queued or absent before."""
    started = _with_status(RUNNING, ids) - _with_status(RUNNING, previous.ids)
    known = started & previous.distinct
    return started - (known - _with_status(QUEUED, previous.ids)) if known else started


def _with_status(status: str, ids: Mapping[Group, Sequence[int]]) -> AbstractSet[int]:
    chosen = (runs for group, runs in ids.items() if group.status_v2 == status)
    return set(chain.from_iterable(chosen)) - _NO_ID


def _by_group(
    runs: AbstractSet[int], ids: Mapping[Group, Sequence[int]]
) -> Iterator[tuple[Group, AbstractSet[int]]]:
    """Find the group of each run; the first of them in a fixed order, if a run is in several."""
    runs = set(runs)
    if not runs:
        return
    for group in sorted(ids, key=_precedence):
        if found := runs.intersection(ids[group]):
            runs -= found
            yield group, found


def _precedence(group: Group) -> tuple[bool, bool, Group]:
    return group.status_v2 != RUNNING, group.status_v2 != QUEUED, group


def _by_backlog(groups: Iterator[tuple[Group, AbstractSet[int]]]) -> Mapping[Backlog, int]:
    sums: Counter[Backlog] = Counter()
    for group, runs in groups:
        sums[Backlog(group.execution_class, group.application_id)] += len(runs)
    return sums


def _waits(
    started: Sequence[tuple[Group, AbstractSet[int]]], before: float, snapshot: Snapshot
) -> Mapping[str, Sequence[float]]:
    """Estimate how long runs had waited when they started.

    They started after the snapshot before and after they were created, and before this one: the
    middle of that time is at most half of it from the truth.
    """
    waits: dict[str, list[float]] = defaultdict(list)
    if not 0 <= snapshot.now - before <= MAX_GAP:
        return waits
    for group, runs in started:
        for created in _created(snapshot.groups[group], runs):
            middle = (max(before, created) + snapshot.now) / 2
            waits[group.execution_class].append(max(0.0, middle - created))
    return waits


def _created(members: Members, runs: AbstractSet[int]) -> Iterator[float]:
    """Yield when each run was created, if that is known; the earliest, if it is there twice."""
    known: dict[int, float] = {}
    for created, run in zip(members.created, members.ids, strict=True):
        if run in runs and created is not None:
            known[run] = min(created, known.get(run, created))
    yield from known.values()
