"""Compare one snapshot of an account's queue with the next."""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from nextmv_exporter.scrape.runs import created_timestamp
from nextmv_exporter.scrape.summary import QUEUED, RUNNING, Backlog, Group, Snapshot

# Seconds between two snapshots beyond which starts are counted, but no waits are observed.
MAX_GAP = 300.0

_NO_ID = frozenset(map(hash, (None, "")))

# The runs of each group, by the hashes of their IDs.
Groups = Mapping[Group, Sequence[int]]


class Baseline(NamedTuple):
    """The state that the next snapshot is compared with.

    Args:
        groups: the runs.
        missing: those of them that the latest snapshot did not have.
        now: when the latest snapshot was taken, unix seconds.
        scope: what it is of.
    """

    groups: Groups
    missing: AbstractSet[int]
    now: float
    scope: Hashable


class Change(NamedTuple):
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
    groups: Sequence[Group]
    entered: Mapping[Backlog, int]
    started: Mapping[Backlog, int]
    left: Mapping[Group, int]
    waits: Mapping[str, Sequence[float]]


def compare(
    previous: Baseline | None,
    snapshot: Snapshot,
    ended: AbstractSet[int] | None = None,
    scope: Hashable = None,
) -> tuple[Baseline, Change]:
    """Compare a snapshot with the previous one.

    Runs are compared by ID; those without one are ignored. Several with the same ID are one run.

    Args:
        previous: state after the previous one; None for the first, from which nothing is counted.
        snapshot: the later one.
        ended: hashes of the IDs of runs that the API listed as ended; None if the snapshot is of
            a single response. One that was assembled from pages can miss a run that moved to
            another page between two requests. So a run counts as left only if it is listed as
            ended, or missing from two such snapshots in a row. A run that is missing from only
            one of them counts neither as left nor as entered.
        scope: what the snapshot is of. If the previous one is of something else, nothing is
            counted.

    Returns:
        The state to compare the next snapshot with, and the changes.
    """
    now = {group: members.ids for group, members in snapshot.groups.items()}
    if previous is None or previous.scope != scope:
        previous = Baseline(now, frozenset(), snapshot.now, scope)
    changed = _changed(now, previous.groups)
    current, before = _by_run(now, changed), _by_run(previous.groups, changed)
    left = before.keys() - current.keys()
    missing = frozenset(left - ended - previous.missing if ended is not None else ())
    started = {
        run
        for run, group in current.items()
        if group.status_v2 == RUNNING and (run not in before or before[run].status_v2 == QUEUED)
    }
    change = Change(
        now=snapshot.now,
        groups=list(snapshot.groups),
        entered=_by_backlog(current[run] for run in current.keys() - before.keys()),
        started=_by_backlog(current[run] for run in started),
        left=Counter(before[run] for run in left - missing),
        waits=_waits(started, current, previous.now, snapshot),
    )
    for run in missing:
        now[before[run]] = [*now.get(before[run], ()), run]
    return Baseline(now, missing, snapshot.now, scope), change


def _changed(now: Groups, before: Groups) -> AbstractSet[int]:
    """Find the runs that are in a group in only one of two snapshots; most groups are equal."""
    changed: set[int] = set()
    for group in now.keys() | before.keys():
        ids, others = now.get(group, ()), before.get(group, ())
        if ids != others:
            changed |= set(ids).symmetric_difference(others)
    return changed - _NO_ID


def _by_run(groups: Groups, runs: AbstractSet[int]) -> Mapping[int, Group]:
    """Find the group of each of the runs; of a run in several, running counts, then queued."""
    if not runs:
        return {}
    ordered = sorted(groups, key=lambda g: (g.status_v2 == RUNNING, g.status_v2 == QUEUED))
    return {run: group for group in ordered for run in groups[group] if run in runs}


def _by_backlog(groups: Iterable[Group]) -> Mapping[Backlog, int]:
    return Counter(Backlog(group.execution_class, group.application_id) for group in groups)


def _waits(
    started: Collection[int], runs: Mapping[int, Group], before: float, snapshot: Snapshot
) -> Mapping[str, Sequence[float]]:
    """Estimate how long runs had waited when they started.

    They started after the previous snapshot and after they were created, and before this one: the
    error of the middle of that interval is at most half of it.
    """
    waits: defaultdict[str, list[float]] = defaultdict(list)
    if not started or not 0 <= snapshot.now - before <= MAX_GAP:
        return waits
    created: dict[int, float] = {}
    for group, members in snapshot.groups.items():
        if group.status_v2 == RUNNING:
            for moment, run in zip(members.created, members.ids, strict=True):
                if run in started and (time := created_timestamp(moment)) is not None:
                    created[run] = min(time, created.get(run, time))
    for run, time in created.items():
        middle = (max(before, time) + snapshot.now) / 2
        waits[runs[run].execution_class].append(max(0.0, middle - time))
    return waits
