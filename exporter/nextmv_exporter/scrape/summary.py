"""From runs and a time to numbers, without side effects."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, repeat
from operator import sub
from typing import NamedTuple, cast

from nextmv_exporter.scrape.runs import Run

UNKNOWN = "unknown"
OTHER = "__other__"
QUEUED = "queued"
RUNNING = "running"

MAX_LABEL_LENGTH = 256
"""Characters of a label value that are kept; IDs are shorter by far."""

_STATUSES = frozenset({"canceled", "failed", "none", QUEUED, RUNNING, "succeeded"})
_YEAR_2000 = 946_684_800.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 1024  # runs that are grouped at a time, few enough to stay in the processor's cache
_Labels = tuple[str | None, str | None, str | None]
# Prometheus takes NUL for the end of its input, and UTF-8 has no surrogates.
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
        created: `created_at` of each, unix seconds; None where it gives no age.
        ids: the hash of each one's ID, in the same order. A hash takes less memory than an ID,
            and the same for each.
    """

    created: list[float | None]
    ids: list[int]


class Snapshot(NamedTuple):
    """An account's queue at one moment.

    Args:
        groups: the runs of each group.
        malformed: runs with a missing, mistyped or invalid field.
        now: the moment, unix seconds.
    """

    groups: Mapping[Group, Members]
    malformed: int
    now: float


@dataclass(frozen=True)
class Distribution:
    """Observations of a histogram.

    Args:
        bounds: upper bounds of the buckets, ascending.
        buckets: for each bound, how many are not above it.
        count: how many in all, also those whose value is not known.
        sum: of the values.
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
        oldest_running: the same of running runs.
        waits: waits of the queued runs of each execution class.
        runs: runs of each status; `queued` and `running` are always present.
        malformed: runs with a missing, mistyped or invalid field.
        folded: groups that were folded into `__other__`.
        now: the time to which ages are counted, unix seconds.
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
    """Runs of one group, and `created_at` of those of them that give an age."""

    length: int = 0
    created: list[float] = field(default_factory=list)

    def add(self, other: "_Tally") -> None:
        self.length += other.length
        self.created += other.created


def take_snapshot(runs: Iterable[Run], now: float) -> Snapshot:
    """Group runs.

    Args:
        runs: the runs in the queue; iterated over once.
        now: the time of the snapshot, unix seconds.

    Returns:
        The snapshot, which keeps none of the runs.
    """
    by_labels: dict[_Labels, Members] = defaultdict(lambda: Members([], []))
    runs = iter(runs)
    while batch := list(islice(runs, _BATCH)):
        created = _timestamps([run.created_at for run in batch])
        ids = map(hash, [run.id for run in batch])
        for run, moment, run_id in zip(batch, created, ids, strict=True):
            members = by_labels[run.status_v2, run.execution_class, run.application_id]
            members.created.append(moment)
            members.ids.append(run_id)
    groups: dict[Group, Members] = {}
    malformed = 0
    for labels, members in by_labels.items():
        malformed += len(members.ids) if not all(labels) else members.created.count(None)
        status, execution_class, application_id = map(_label, labels)
        group = Group(_status(status), execution_class, application_id)
        known = groups.setdefault(group, members)
        if known is not members:
            known.created.extend(members.created)
            known.ids.extend(members.ids)
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
        recent: groups seen recently, to be reported as 0 where they are empty now, as far as
            `max_groups` leaves room.

    Returns:
        The numbers.
    """
    tallies = {
        group: _Tally(len(created), [moment for moment in created if moment is not None])
        for group, (created, _) in snapshot.groups.items()
    }
    kept, folded = _fold(tallies, max_groups)
    for group in sorted(recent):
        if len(kept) >= max_groups:
            break
        kept.setdefault(group, _Tally())
    return Summary(
        length={group: tally.length for group, tally in kept.items()},
        oldest=_oldest(kept, folded, QUEUED),
        oldest_running=_oldest(kept, folded, RUNNING),
        waits=_waits(kept, snapshot.now, wait_buckets),
        runs=_by_status(kept),
        malformed=snapshot.malformed,
        folded=len(folded),
        now=snapshot.now,
    )


def created_timestamp(text: str | None) -> float | None:
    """Read a `created_at`.

    Args:
        text: RFC 3339 with up to nine digits of a second; UTC is meant without an offset.

    Returns:
        Unix seconds, or None if it is missing, unparsable, or before the year 2000, as Go's
        zero time is.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.upper())  # RFC 3339 allows `t` and `z`
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    timestamp = moment.timestamp()
    return timestamp if timestamp >= _YEAR_2000 else None


def _timestamps(texts: Sequence[str | None]) -> Sequence[float | None]:
    """Read every `created_at`: all at once, or one by one where any is unusual."""
    with suppress(TypeError, ValueError):  # a TypeError also where one has no time zone
        moments = map(datetime.fromisoformat, cast("Sequence[str]", texts))
        # The same as timestamp(), in half the time.
        created = [
            age.days * 86400 + age.seconds + age.microseconds / 1e6
            for age in map(sub, moments, repeat(_EPOCH))
        ]
        if min(created) >= _YEAR_2000:
            return created
    return [created_timestamp(text) for text in texts]


def _label(value: str | None) -> str:
    """Make a label value that every parser of the text formats takes."""
    return _UNSAFE.sub("\ufffd", value[:MAX_LABEL_LENGTH]) if value else UNKNOWN


def _status(value: str) -> str:
    return lower if (lower := value.lower()) in _STATUSES else value


def _fold(
    tallies: dict[Group, _Tally], max_groups: int
) -> tuple[dict[Group, _Tally], frozenset[Group]]:
    """Keep the longest groups and fold the rest; which were folded comes along.

    Folding an application into `__other__` is enough unless there are absurdly many
    execution classes or statuses: then these are folded too.
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
    """Count how many groups can be kept if folding the rest is to leave room for them."""
    others: set[Group] = set()
    for keep in reversed(range(len(longest_first))):
        others.add(folding(longest_first[keep]))
        if keep + len(others) <= max_groups:
            return keep
    return None


def _oldest(
    kept: Mapping[Group, _Tally], folded: Collection[Group], status: str
) -> dict[Backlog, float | None]:
    """Find the oldest run of a status in each backlog.

    A backlog whose runs give no age, or were folded, is left out: it has runs of that status, so
    0 would be wrong.
    """
    oldest: dict[Backlog, float | None] = {}
    silent = {Backlog(*group[1:]) for group in folded if group.status_v2 == status}
    for group, tally in kept.items():
        backlog = Backlog(*group[1:])
        oldest.setdefault(backlog, None)
        if group.status_v2 == status and tally.length:
            if tally.created:
                oldest[backlog] = min(tally.created)
                silent.discard(backlog)
            else:
                silent.add(backlog)
    return {backlog: created for backlog, created in oldest.items() if backlog not in silent}


def _waits(
    kept: Mapping[Group, _Tally], now: float, bounds: Sequence[float]
) -> dict[str, Distribution]:
    queued: dict[str, _Tally] = defaultdict(_Tally)
    for group, tally in kept.items():
        by_class = queued[group.execution_class]
        if group.status_v2 == QUEUED:
            by_class.add(tally)
    return {
        execution_class: Distribution(
            bounds,
            _buckets(tally.created, [now - bound for bound in bounds]),
            tally.length,
            sum(now - moment for moment in tally.created if moment < now),
        )
        for execution_class, tally in queued.items()
    }


def _buckets(created: Sequence[float], earliest: Sequence[float]) -> list[int]:
    """Count, for each of descending times, the moments that are not before it.

    Those that are go one by one, so that most buckets of most queues are counted in few moments.
    """
    oldest = min(created, default=0.0)
    counts: list[int] = []
    for limit in reversed(earliest):
        if oldest < limit:
            created = [moment for moment in created if moment >= limit]
        counts.append(len(created))
    return counts[::-1]


def _by_status(kept: Mapping[Group, _Tally]) -> dict[str, int]:
    runs = Counter({QUEUED: 0, RUNNING: 0})
    for group, tally in kept.items():
        runs[group.status_v2] += tally.length
    return dict(runs)
