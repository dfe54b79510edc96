"""From runs and a time to numbers: pure, and the heart of the exporter."""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
# Prometheus takes NUL for the end of its input, and UTF-8 has no surrogates.
_UNSAFE = re.compile("[\0\ud800-\udfff]")


class Group(NamedTuple):
    """The labels by which runs are counted."""

    status_v2: str
    execution_class: str
    application_id: str


class Backlog(NamedTuple):
    """The labels by which the age of the oldest queued run is told."""

    execution_class: str
    application_id: str


@dataclass(frozen=True)
class Waits:
    """How long the queued runs of an execution class have waited so far.

    Args:
        buckets: for each upper bound, how many have waited no longer.
        count: how many are queued, also those whose age is not known.
        sum: seconds waited, in all.
    """

    buckets: Sequence[int]
    count: int
    sum: float


@dataclass(frozen=True)
class Summary:
    """An account's queue in numbers.

    Args:
        length: runs in each group.
        oldest: when the oldest queued run was made, unix seconds; None where none is queued.
        waits: waits of each execution class.
        runs: runs of each status; `queued` and `running` are always there.
        malformed: runs with a missing, mistyped or unusable field.
        folded: groups that were folded into `__other__`.
        now: the time the ages are counted to, unix seconds.
    """

    length: Mapping[Group, int]
    oldest: Mapping[Backlog, float | None]
    waits: Mapping[str, Waits]
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


def summarise(
    runs: Iterable[Run],
    now: float,
    *,
    wait_buckets: Sequence[float],
    max_groups: int,
    recent: Collection[Group] = (),
) -> Summary:
    """Sum up a queue.

    Args:
        runs: the runs in the queue.
        now: the time to which ages are counted, unix seconds.
        wait_buckets: upper bounds of the wait histogram, seconds, ascending.
        max_groups: most groups in `length`; at least 1. The longest are kept and the rest
            folded, so that the sums stay exact.
        recent: groups lately seen, to be told as 0 where they are empty now, as far as
            `max_groups` leaves room.

    Returns:
        The numbers.
    """
    tallies, malformed = _tally(runs if isinstance(runs, Sequence) else list(runs))
    kept, folded = _fold(tallies, max_groups)
    for group in sorted(recent):
        if len(kept) >= max_groups:
            break
        kept.setdefault(group, _Tally())
    return Summary(
        length={group: tally.length for group, tally in kept.items()},
        oldest=_oldest(kept, folded),
        waits=_waits(kept, now, wait_buckets),
        runs=_by_status(kept),
        malformed=malformed,
        folded=len(folded),
        now=now,
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


def _tally(runs: Sequence[Run]) -> tuple[dict[Group, _Tally], int]:
    """Group the runs; how many of them are malformed comes along."""
    # All moments first, in the order in which the runs lie in memory: group by group, each
    # would be fetched from somewhere else.
    moments = _timestamps([run.created_at for run in runs])
    by_labels: dict[tuple[str | None, str | None, str | None], list[float | None]]
    by_labels = defaultdict(list)
    for run, moment in zip(runs, moments, strict=True):
        by_labels[run.status_v2, run.execution_class, run.application_id].append(moment)
    tallies: dict[Group, _Tally] = defaultdict(_Tally)
    malformed = 0
    for labels, of_group in by_labels.items():
        status, execution_class, application_id = map(_label, labels)
        created = [moment for moment in of_group if moment is not None]
        malformed += len(of_group) - (len(created) if all(labels) else 0)
        group = Group(_status(status), execution_class, application_id)
        tallies[group].add(_Tally(len(of_group), created))
    return tallies, malformed


def _timestamps(texts: Sequence[str | None]) -> Sequence[float | None]:
    """Read every `created_at`: all at once, or one by one where any is out of the ordinary."""
    with suppress(TypeError, ValueError):
        moments = map(datetime.fromisoformat, cast("Sequence[str]", texts))
        created = [moment.timestamp() for moment in moments if moment.tzinfo]
        if len(created) == len(texts) and min(created, default=_YEAR_2000) >= _YEAR_2000:
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


def _oldest(kept: Mapping[Group, _Tally], folded: Collection[Group]) -> dict[Backlog, float | None]:
    """Find the oldest queued run of each backlog.

    A backlog whose queued runs give no age, or were folded, is left out: it has queued
    runs, so 0 would be wrong.
    """
    oldest: dict[Backlog, float | None] = {}
    silent = {Backlog(*group[1:]) for group in folded if group.status_v2 == QUEUED}
    for group, tally in kept.items():
        backlog = Backlog(*group[1:])
        oldest.setdefault(backlog, None)
        if group.status_v2 == QUEUED and tally.length:
            if tally.created:
                oldest[backlog] = min(tally.created)
                silent.discard(backlog)
            else:
                silent.add(backlog)
    return {backlog: created for backlog, created in oldest.items() if backlog not in silent}


def _waits(kept: Mapping[Group, _Tally], now: float, bounds: Sequence[float]) -> dict[str, Waits]:
    queued: dict[str, _Tally] = defaultdict(_Tally)
    for group, tally in kept.items():
        by_class = queued[group.execution_class]
        if group.status_v2 == QUEUED:
            by_class.add(tally)
    waits = {}
    for execution_class, tally in queued.items():
        created = sorted(tally.created)
        waits[execution_class] = Waits(
            buckets=[len(created) - bisect_left(created, now - bound) for bound in bounds],
            count=tally.length,
            sum=sum(now - moment for moment in created if moment < now),
        )
    return waits


def _by_status(kept: Mapping[Group, _Tally]) -> dict[str, int]:
    runs = Counter({QUEUED: 0, RUNNING: 0})
    for group, tally in kept.items():
        runs[group.status_v2] += tally.length
    return dict(runs)
