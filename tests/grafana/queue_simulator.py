"""Nextmv's queues, the exporter's contract and Prometheus's scrapes in simulated time.

It is a model of its own: it shares no code with the exporter, so that a mistake of one is not
hidden by the other. All times are minutes from the start, except where a name ends in `_seconds`.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, groupby

Window = tuple[float, float]
Series = dict[str, float]
"""The samples of one scrape, by name and labels."""

Sample = tuple[str, float, dict[str, str]]

STEP = 1 / 6
"""How exactly starts and ends are simulated."""

ZERO_RETENTION = 5
LEVELS = (60, 300, 3600)
"""Buckets of the waits at start, in seconds."""


def within(windows: Iterable[Window], time: float) -> bool:
    return any(start <= time < end for start, end in windows)


@dataclass(eq=False)
class Run:
    """A run of the account.

    Attributes:
        created: when it is submitted.
        duration: how long it runs.
        priority: 1 highest to 9.
    """

    created: float
    duration: float
    execution_class: str
    application: str = "app"
    priority: int = 6
    started: float | None = field(default=None, init=False)
    id: int = field(default_factory=count().__next__, init=False)


def regularly(
    execution_class: str,
    every: float,
    duration: float,
    *,
    until: float,
    start: float = 0,
    size: int = 1,
    application: str = "app",
    priority: int = 6,
) -> list[Run]:
    """Submit a batch of runs again and again."""
    times = [start + n * every for n in range(math.ceil((until - start) / every))]
    return [
        Run(time, duration, execution_class, application, priority)
        for time in times
        for _ in range(size)
    ]


@dataclass
class Account:
    """An account's queues.

    Attributes:
        runs: what is submitted.
        limits: how many runs of a class may run at once; 1 by default.
        standstill: when no run starts.
        hang: when no run ends.
        patience: how long a run waits until its owner cancels it.
    """

    runs: Sequence[Run]
    limits: Mapping[str, int] = field(default_factory=dict)
    standstill: Collection[Window] = ()
    hang: Collection[Window] = ()
    patience: float = math.inf

    def at(self, times: Iterable[float]) -> Iterator[tuple[float, list[Run]]]:
        """Simulate, and give the runs that are queued or running at each of the times."""
        coming = [replace(run) for run in sorted(self.runs, key=lambda run: -run.created)]
        queued: list[Run] = []
        running: list[Run] = []
        steps = 0
        for time in times:
            while (now := steps * STEP) <= time:
                steps += 1
                while coming and coming[-1].created <= now:
                    queued.append(coming.pop())
                    queued.sort(key=lambda run: (run.priority, run.created, run.id))
                queued = [run for run in queued if now - run.created < self.patience]
                if not within(self.hang, now):
                    running = [run for run in running if now - (run.started or 0) < run.duration]
                if not queued or within(self.standstill, now):
                    continue
                used = Counter(run.execution_class for run in running)
                for run in list(queued):
                    if used[run.execution_class] < self.limits.get(run.execution_class, 1):
                        used[run.execution_class] += 1
                        run.started = now
                        queued.remove(run)
                        running.append(run)
            yield time, [*queued, *running]


def max_run_seconds(execution_class: str) -> float | None:
    """Return the longest time that a run of a class may take, by the class's name."""
    found = re.search(r"\D(\d+)([smh])$", execution_class)
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else None


@dataclass
class Exporter:
    """An exporter and its target in Prometheus.

    Attributes:
        labels: the target's.
        every: scrape interval.
        phase: when the first scrape is.
        ahead_seconds: how far its clock is ahead, and when.
        restarts: when it starts anew.
        target: when Prometheus has the target.
        down: when it cannot be scraped.
        outage: when it cannot read the account, and for which reason.
        without: parts of names of metrics that Prometheus does not store.
    """

    labels: Mapping[str, str] = field(default_factory=lambda: {"instance": "one"})
    every: float = 1
    phase: float = 0
    ahead_seconds: float = 0
    ahead: Window = (0, math.inf)
    restarts: Sequence[float] = ()
    target: Window = (0, math.inf)
    down: Collection[Window] = ()
    outage: Collection[Window] = ()
    reason: str = "connection"
    without: Collection[str] = ()

    def __post_init__(self) -> None:
        self._restarts = sorted(self.restarts)
        self._forget()

    def _forget(self) -> None:
        """Start anew."""
        self._previous: tuple[float, dict[int, bool]] | None = None
        self._starts: Counter[str] = Counter()
        self._in_time: Counter[tuple[str, int]] = Counter()
        self._last_start: dict[str, float] = {}
        self._errors = dict.fromkeys(("auth", "connection", "rate_limited"), 0)
        self._seen: dict[tuple[str, str, str], float] = {}
        self._classes: set[str] = set()

    def is_due(self, time: float) -> bool:
        return (time - self.phase) % self.every == 0

    def scrape(self, time: float, runs: Sequence[Run], account: str) -> Series | None:
        """Scrape it.

        Args:
            time: of the scrape.
            runs: of the account's queue.
            account: its name.

        Returns:
            The samples; only `up` if it is down, None if it is no target.
        """
        if self._restarts and self._restarts[0] <= time:
            self._restarts.pop(0)
            self._forget()
        if not within([self.target], time):
            return None
        if within(self.down, time):
            return {self._name("up"): 0}
        ahead = self.ahead_seconds if within([self.ahead], time) else 0
        unreadable = within(self.outage, time)
        if unreadable:
            self._errors[self.reason] += 1
        else:
            self._compare(time, runs, ahead)
        found = {
            self._name(f"nextmv_{name}", account=account, **labels): value
            for name, value, labels in (
                *self._state(ahead, unreadable),
                *([] if unreadable else self._queue(time, runs, ahead)),
            )
            if not any(each in name for each in self.without)
        }
        return {self._name("up"): 1, **found}

    def _state(self, ahead: float, unreadable: bool) -> Iterator[Sample]:
        """Return what is exported also while the account cannot be read."""
        yield "up", 1 - unreadable, {}
        if not (unreadable and self.reason == "connection"):
            yield "api_clock_offset_seconds", -ahead, {}
        for reason, errors in self._errors.items():
            yield "scrape_errors_total", errors, {"reason": reason}
        for each in self._classes:
            labels = {"execution_class": each}
            yield "account_queue_start_wait_seconds_count", self._starts[each], labels
            for level in LEVELS:
                in_time = self._in_time[each, level]
                bucket = labels | {"le": f"{level}.0"}
                yield "account_queue_start_wait_seconds_bucket", in_time, bucket
            if (longest := max_run_seconds(each)) is not None:
                yield "execution_class_max_run_seconds", longest, labels
            if each in self._last_start:
                yield "account_queue_last_start_timestamp_seconds", self._last_start[each], labels

    def _compare(self, time: float, runs: Sequence[Run], ahead: float) -> None:
        """Count what started since the previous snapshot."""
        self._classes |= {run.execution_class for run in runs}
        if self._previous:
            before, was_running = self._previous
            for run in runs:
                if run.started is None or was_running.get(run.id):
                    continue
                self._last_start[run.execution_class] = time * 60 + ahead
                if time - before > 5:
                    continue
                start = (max(before * 60 + ahead, run.created * 60) + time * 60 + ahead) / 2
                self._starts[run.execution_class] += 1
                for level in LEVELS:
                    if start - run.created * 60 <= level:
                        self._in_time[run.execution_class, level] += 1
        self._previous = time, {run.id: run.started is not None for run in runs}

    def _queue(self, time: float, runs: Sequence[Run], ahead: float) -> Iterator[Sample]:
        """Return what the queue holds now, and zeros of groups that drained recently."""
        length: Counter[tuple[str, str, str]] = Counter()
        oldest: dict[tuple[str, str], float] = defaultdict(float)
        for run in runs:
            status = "queued" if run.started is None else "running"
            length[run.execution_class, run.application, status] += 1
            if status == "queued":
                group = run.execution_class, run.application
                oldest[group] = max(oldest[group], (time - run.created) * 60 + ahead, 0)
        self._seen |= dict.fromkeys(length, time)
        self._seen = {each: at for each, at in self._seen.items() if time - at <= ZERO_RETENTION}
        for seen in self._seen:
            labels = {"execution_class": seen[0], "application_id": seen[1]}
            yield "account_queue_length", length[seen], labels | {"status_v2": seen[2]}
            yield "account_queue_oldest_queued_run_age_seconds", oldest[seen[:2]], labels

    def _name(self, metric: str, **labels: str) -> str:
        pairs = {"job": "nextmv-exporter", **self.labels, **labels}
        text = ", ".join(f'{key}="{value}"' for key, value in pairs.items())
        return f"{metric}{{{text}}}"


def scraped(
    account: Account,
    *exporters: Exporter,
    minutes: float,
    interval: float = 1,
    name: str = "default",
) -> list[dict[str, str]]:
    """Return what Prometheus scrapes of an account, as `input_series` of promtool.

    Args:
        account: the queues.
        exporters: those that monitor it.
        minutes: how long.
        interval: minutes between samples, of which each scrape interval is a multiple.
        name: the account's name.

    Returns:
        The series, with a sample or `_` for each interval, and `stale` where Prometheus sees that
        a series is gone.
    """
    values: dict[str, list[str]] = {}
    times = [n * interval for n in range(math.floor(minutes / interval) + 1)]
    for tick, (time, runs) in enumerate(account.at(times)):
        for exporter in exporters:
            if not exporter.is_due(time):
                continue
            samples = exporter.scrape(time, runs, name) or {}
            mine = f'instance="{exporter.labels["instance"]}"'
            for each in values.keys() - samples.keys():
                if mine in each and values[each][-1] != "stale":
                    values[each] += ["_"] * (tick - len(values[each])) + ["stale"]
            for each, value in samples.items():
                series = values.setdefault(each, [])
                series += ["_"] * (tick - len(series)) + [f"{value:.15g}"]
    return [{"series": each, "values": _short(found)} for each, found in values.items()]


def _short(values: list[str]) -> str:
    """Write values as promtool reads them, repeated ones once."""
    words = []
    for value, same in groupby(values):
        repeated = len(list(same))
        if value == "stale" or repeated == 1:
            words += [value] * repeated
        else:
            words.append(f"{value}x{repeated if value == '_' else repeated - 1}")
    return " ".join(words)
