"""Compare one snapshot of an account's queue with the next."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from nextmv_exporter.scrape.summary import QUEUED, RUNNING, Backlog, Group, Snapshot

MAX_GAP = 300.0
"""Seconds between two snapshots beyond which starts are counted, but no waits are observed."""

_NO_ID = frozenset(map(hash, (None, "")))
_NONE: frozenset[int] = frozenset()

Groups = Mapping[Group, AbstractSet[int]]
"""The runs of each group, by the hashes of their IDs."""


@dataclass(frozen=True)
class Baseline:
    """The state that the next snapshot is compared with.

    Args:
        groups: the runs.
        lists: the runs of the latest snapshot in its order, to detect unchanged groups quickly.
        missing: runs that the latest snapshot did not have.
        now: when the latest snapshot was taken, unix seconds.
    """

    groups: Groups
    lists: Mapping[Group, Sequence[int]]
    missing: AbstractSet[int]
    now: float


@dataclass(frozen=True)
class Change:
    """The changes between two snapshots.

    Args:
        now: when the later one was taken, unix seconds.
        groups: the groups that have runs.
        entered: runs that are in the queue for the first time.
        started: runs that are running, and were queued or absent.
        left: runs that are no longer in the queue, by the status that they were last seen with.
        waits: estimated time that started runs had waited, seconds, by execution class.
    """

    now: float
    groups: Sequence[Group] = ()
    entered: Mapping[Backlog, int] = field(default_factory=dict)
    started: Mapping[Backlog, int] = field(default_factory=dict)
    left: Mapping[Group, int] = field(default_factory=dict)
    waits: Mapping[str, Sequence[float]] = field(default_factory=dict)


def compare(
    previous: Baseline | None,
    snapshot: Snapshot,
    ended: AbstractSet[int] | None = None,
    unseen: AbstractSet[int] = _NONE,
) -> tuple[Baseline, Change]:
    """Compare a snapshot with the previous one.

    Runs are compared by ID; those without one are ignored. Several with the same ID are one run.

    Args:
        previous: state after the previous one; None for the first, from which nothing is counted.
        snapshot: the later one.
        ended: hashes of the IDs of runs that the API listed as ended; None if the snapshot is of
            a single response. One that was assembled from pages can miss a run that moved to
            another page between two requests. So a run counts as left only when it is listed as
            ended, or missing from two such snapshots in a row; one that is missing from only
            one counts neither as left nor as entered.
        unseen: hashes of the IDs of runs that the previous snapshot could not have: when they
            started is unknown, so no wait is observed.

    Returns:
        The state to compare the next snapshot with, and the changes.
    """
    lists = {group: members.ids for group, members in snapshot.groups.items()}
    groups = _sets(lists, previous)
    if previous is None:
        baseline = Baseline(groups, lists, frozenset(), snapshot.now)
        return baseline, Change(snapshot.now, list(groups))
    new, gone = _changed(groups, previous.groups)
    gone = _nowhere(gone, groups)
    left = gone
    if ended is not None:
        left = {group: ids & (ended | previous.missing) for group, ids in gone.items()}
    missing = {group: ids - left[group] for group, ids in gone.items()}
    started = _nowhere(
        {group: ids for group, ids in new.items() if group.status_v2 == RUNNING},
        {group: ids for group, ids in previous.groups.items() if group.status_v2 != QUEUED},
    )
    change = Change(
        now=snapshot.now,
        groups=list(groups),
        entered=_by_backlog(_nowhere(new, previous.groups)),
        started=_by_backlog(started),
        left={group: len(ids) for group, ids in left.items() if ids},
        waits=_waits(started, previous.now, snapshot, unseen),
    )
    for group, ids in missing.items():
        if ids:
            groups[group] = groups.get(group, _NONE) | ids
            lists.pop(group, None)
    return Baseline(groups, lists, frozenset().union(*missing.values()), snapshot.now), change


def _sets(
    lists: Mapping[Group, Sequence[int]], previous: Baseline | None
) -> dict[Group, AbstractSet[int]]:
    """Convert the lists to sets; reuse the previous sets of unchanged lists."""
    sets: dict[Group, AbstractSet[int]] = {}
    before = previous.lists if previous else {}
    for group, ids in lists.items():
        if previous and ids == before.get(group):
            sets[group] = previous.groups[group]
        else:
            runs = set(ids)
            runs -= _NO_ID
            sets[group] = runs
    return sets


def _changed(groups: Groups, others: Groups) -> tuple[Groups, Groups]:
    """Find the runs of each group that are not in the same group of others, and the reverse."""
    here, there = {}, {}
    for group in groups.keys() | others.keys():
        ids, other = groups.get(group, _NONE), others.get(group, _NONE)
        if ids is not other and (changed := ids ^ other):
            here[group], there[group] = changed & ids, changed & other
    return here, there


def _nowhere(groups: Groups, others: Groups) -> Groups:
    """Find the runs that are in no group of others, each once, even if it is in several groups."""
    ids: set[int] = set().union(*groups.values())
    for other in others.values():
        if not ids.isdisjoint(other):
            ids -= ids & other
    found: dict[Group, AbstractSet[int]] = {}
    for group in sorted(groups, key=_precedence):
        found[group] = groups[group] & ids
        ids -= found[group]
    return {group: ids for group, ids in found.items() if ids}


def _precedence(group: Group) -> tuple[bool, bool, Group]:
    return group.status_v2 != RUNNING, group.status_v2 != QUEUED, group


def _by_backlog(groups: Groups) -> Mapping[Backlog, int]:
    sums: Counter[Backlog] = Counter()
    for group, ids in groups.items():
        sums[Backlog(group.execution_class, group.application_id)] += len(ids)
    return sums


def _waits(
    started: Groups, before: float, snapshot: Snapshot, unseen: AbstractSet[int]
) -> Mapping[str, Sequence[float]]:
    """Estimate how long runs had waited when they started.

    They started after the previous snapshot and after they were created, and before this one: the
    error of the middle of that interval is at most half of it.
    """
    waits: dict[str, list[float]] = defaultdict(list)
    if not 0 <= snapshot.now - before <= MAX_GAP:
        return waits
    for group, ids in started.items():
        members = snapshot.groups[group]
        # Of a run that is listed twice, the earliest.
        known = sorted(
            (created.timestamp(), run)
            for created, run in zip(members.created, members.ids, strict=True)
            if run in ids and run not in unseen and created is not None
        )
        for created, _ in {run: (created, run) for created, run in reversed(known)}.values():
            middle = (max(before, created) + snapshot.now) / 2
            waits[group.execution_class].append(max(0.0, middle - created))
    return waits
