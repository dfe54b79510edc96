"""Summarise runs at a given time, without side effects."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, cast

from nextmv_exporter.nextmv.errors import InvalidResponseError
from nextmv_exporter.scrape.runs import Run

UNKNOWN = "unknown"
OTHER = "__other__"
QUEUED = "queued"
RUNNING = "running"

# Longest label value; longer ones are truncated. IDs are far shorter.
MAX_LABEL_LENGTH = 256

# Most label groups that a queue may have; limits their memory. No account has as many.
MAX_LABEL_GROUPS = 65_536

_STATUSES = frozenset({"canceled", "failed", "none", QUEUED, RUNNING, "succeeded"})
_KEPT = frozenset({QUEUED, RUNNING})  # statuses that are never folded
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
# Prometheus treats NUL as the end of its input, and UTF-8 has no surrogates.
_UNSAFE = re.compile("[\0\ud800-\udfff]")

_Labels = tuple[str | None, str | None, str | None]


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
        created: `created_at` of each, with a time zone; None if it is missing or invalid. Most
            are only compared, which takes a tenth of the time of converting them to seconds.
        ids: the hash of each one's ID, in the same order. A hash takes less memory than an ID.
        oldest: the least valid `created_at`, if there is any.
    """

    created: Sequence[datetime | None]
    ids: Sequence[int]
    oldest: datetime | None


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


class Summary(NamedTuple):
    """An account's queue in numbers.

    Args:
        length: runs in each group.
        oldest: when the oldest queued run was created, unix seconds; None where none is queued.
        oldest_running: the same for running runs.
        waits: of each execution class, how many queued runs have waited for at most each of
            `wait_buckets`, and last how many there are.
        runs: runs of each status; `queued` and `running` are always present.
        malformed: runs with a missing, mistyped or invalid field.
        folded: groups that were folded into `__other__`.
        now: the time at which ages are calculated, unix seconds.
        wait_buckets: upper bounds of the buckets of waits, seconds.
    """

    length: Mapping[Group, int]
    oldest: Mapping[Backlog, float | None]
    oldest_running: Mapping[Backlog, float | None]
    waits: Mapping[str, Sequence[int]]
    runs: Mapping[str, int]
    malformed: int
    folded: int
    now: float
    wait_buckets: tuple[float, ...]


def take_snapshot(runs: Iterable[Run], now: float) -> Snapshot:
    """Group runs.

    Args:
        runs: the runs in the queue; iterated over once.
        now: the time of the snapshot, unix seconds.

    Returns:
        The snapshot, which does not reference the runs.

    Raises:
        InvalidResponseError: too many groups. Iterating over the runs can raise it too.
    """
    by_labels: dict[_Labels, tuple[list[datetime | None], list[int]]] = {}
    for run in runs:
        labels = (run.status_v2, run.execution_class, run.application_id)
        lists = by_labels.get(labels)
        if lists is None:
            lists = by_labels[labels] = [], []
            if len(by_labels) > MAX_LABEL_GROUPS:
                raise InvalidResponseError(f"more than {MAX_LABEL_GROUPS} label groups")
        lists[0].append(run.created_at)
        lists[1].append(hash(run.id))
    groups: dict[Group, Members] = {}
    malformed = 0
    for labels, (created, ids) in by_labels.items():
        members = _members(created, ids)
        malformed += members.created.count(None) if all(labels) else len(ids)
        group = _group(*[label[:MAX_LABEL_LENGTH] if label else UNKNOWN for label in labels])
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
        wait_buckets: upper bounds of the buckets of waits, seconds, ascending.
        max_groups: most groups in `length`; at least 1. The longest are kept and the rest
            folded, so that the sums stay exact. Queued, running and other runs have at least a
            group each.
        recent: groups seen recently, to be reported as 0 if they are empty now, within
            `max_groups`.

    Returns:
        The summary.
    """
    kept, folded = _fold(snapshot.groups, max_groups)
    for group in sorted(recent):
        if len(kept) < max_groups:
            kept.setdefault(group, _members([], []))
    # Every age is at most that since the epoch. This keeps the times in the range of datetimes.
    times = [datetime.fromtimestamp(max(0.0, snapshot.now - each), UTC) for each in wait_buckets]
    runs = Counter({QUEUED: 0, RUNNING: 0})
    queued: defaultdict[str, list[Members]] = defaultdict(list)
    # When the oldest run was created; None if that is unknown.
    oldest: dict[str, dict[Backlog, float | None]] = {QUEUED: {}, RUNNING: {}}
    backlogs: dict[Backlog, None] = {}
    for group, members in kept.items():
        status, execution_class, application_id = group
        backlog = Backlog(execution_class, application_id)
        backlogs[backlog] = None
        runs[status] += len(members.ids)
        waiting = queued[execution_class]
        if status == QUEUED:
            waiting.append(members)
        if members.ids and status in oldest:
            oldest[status][backlog] = members.oldest.timestamp() if members.oldest else None
    for status, *labels in folded:
        if status in oldest:
            oldest[status].setdefault(Backlog(*labels), None)
    oldest_queued, oldest_running = (
        {b: found.get(b) for b in backlogs if found.get(b, 0.0) is not None}
        for found in oldest.values()
    )
    return Summary(
        length={group: len(members.ids) for group, members in kept.items()},
        oldest=oldest_queued,
        oldest_running=oldest_running,
        waits={c: _waits(parts, times) for c, parts in queued.items()},
        runs=dict(runs),
        malformed=snapshot.malformed,
        folded=len(folded),
        now=snapshot.now,
        wait_buckets=tuple(wait_buckets),
    )


def _members(created: Sequence[datetime | None], ids: Sequence[int]) -> Members:
    try:
        if (oldest := min(cast("Sequence[datetime]", created))) >= _YEAR_2000:
            return Members(created, ids, oldest)
    except (TypeError, ValueError):  # some are missing or have no time zone, or there are none
        pass
    aware = [time if time is None or time.tzinfo else time.replace(tzinfo=UTC) for time in created]
    valid = [time if time and time >= _YEAR_2000 else None for time in aware]
    return Members(valid, ids, min(filter(None, valid), default=None))


def _merged(parts: Iterable[Members]) -> Members:
    created, ids, _ = zip(*parts, strict=True)
    return _members([*chain.from_iterable(created)], [*chain.from_iterable(ids)])


@lru_cache(8192)  # most recur at each scrape
def _group(status: str, *others: str) -> Group:
    """Return the group of these labels, as every parser of the text formats accepts them."""
    status = lower if (lower := status.lower()) in _STATUSES else status
    return Group(*[_UNSAFE.sub("\ufffd", label) for label in (status, *others)])


_FOLDINGS: tuple[Callable[[Group], Group], ...] = (
    lambda group: Group(group.status_v2, group.execution_class, OTHER),
    lambda group: Group(group.status_v2, OTHER, OTHER),
    # Leaves three groups at most.
    lambda group: Group(status if (status := group[0]) in _KEPT else OTHER, OTHER, OTHER),
)


def _fold(
    groups: Mapping[Group, Members], max_groups: int
) -> tuple[dict[Group, Members], Sequence[Group]]:
    """Keep the longest groups and fold the rest; also return which were folded.

    Folding applications into `__other__` is enough unless there are too many execution classes
    or statuses: then these are folded too.
    """
    if len(groups) <= max_groups:
        return dict(groups), ()
    longest_first = sorted(groups, key=lambda group: (-len(groups[group].ids), group))
    for folding in _FOLDINGS:
        keep, others = len(groups), set[Group]()
        while keep and keep + len(others) > max_groups:
            keep -= 1
            others.add(folding(longest_first[keep]))
        if keep + len(others) <= max_groups:
            break
    kept: defaultdict[Group, list[Members]] = defaultdict(list)
    for number, group in enumerate(longest_first):
        kept[group if number < keep else folding(group)].append(groups[group])
    return {group: _merged(parts) for group, parts in kept.items()}, longest_first[keep:]


def _waits(parts: Sequence[Members], times: Sequence[datetime]) -> Sequence[int]:
    """Count the runs created since each of the times, and all of them.

    The oldest are dropped from one time to the next, so that most buckets of most queues take
    no time.
    """
    created = [time for part in parts for time in part.created if time]
    oldest = min((part.oldest for part in parts if part.oldest), default=None)
    counts = [sum(len(part.ids) for part in parts)]
    for earliest in reversed(times):
        if oldest and oldest < earliest:
            created = [time for time in created if time >= earliest]
            oldest = min(created, default=None)
        counts.append(len(created))
    return counts[::-1]
