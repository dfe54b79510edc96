"""A plain model of the metrics, run by run, written from the contract and not from the code."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from support.metrics import Series

Run = dict[str, Any]
Group = tuple[str, str, str]
Groups = dict[Group, list[Run]]
REASONS = (
    *("auth", "rate_limited", "client_error", "server_error", "timeout", "connection", "tls"),
    *("redirect", "response_too_large", "invalid_response"),
)
KNOWN = ("queued", "running", "succeeded", "failed", "canceled", "none")
OTHER = "__other__"
PATH = "v1/account/queue"
MAX_GAP = 300


def label(value: object) -> str:
    return value if isinstance(value, str) and value else "unknown"


def group_of(run: Run) -> Group:
    status = label(run.get("status_v2"))
    known = status.lower() in KNOWN
    return (
        status.lower() if known else status,
        label(run.get("execution_class")),
        label(run.get("application_id")),
    )


def created(run: Run) -> float | None:
    try:
        moment = datetime.fromisoformat(run["created_at"])
    except (KeyError, TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.timestamp() if moment.year >= 2000 else None


def malformed(run: Run) -> bool:
    texts = [run.get(name) for name in ("status_v2", "execution_class", "application_id")]
    return created(run) is None or not all(isinstance(text, str) and text for text in texts)


def age(run: Run, now: float) -> float | None:
    then = created(run)
    return None if then is None else max(0.0, now - then)


@dataclass
class Seen:
    """A run as a snapshot showed it, by its ID."""

    group: Group
    created: float | None


@dataclass
class Model:
    """What an exporter of one account has to report after each scrape."""

    account: str
    buckets: Sequence[float]
    max_groups: int
    retention: float
    errors: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REASONS, 0)))
    codes: Counter[str] = field(default_factory=Counter)
    snapshot: dict[str, Seen] | None = None
    taken: float = 0
    pairs: list[tuple[str, str]] = field(default_factory=list)
    """Classes and applications with counters."""
    flow: Counter[tuple[str, ...]] = field(default_factory=Counter)
    waits: dict[str, list[float]] = field(default_factory=dict)
    last_starts: dict[str, float] = field(default_factory=dict)
    last_seen: dict[Group, float] = field(default_factory=dict)
    now_reported: dict[Series, float] = field(default_factory=dict)

    def fail(self, reason: str, code: str | None) -> None:
        """A scrape that could not read the queue; without a code, it sent no request."""
        self.errors[reason] += 1
        self.codes.update([code] if code else [])
        self.now_reported = {}
        self._report("nextmv_up", 0)

    def succeed(self, runs: Sequence[Run], now: float) -> None:
        self.codes["200"] += 1
        self.now_reported = {}
        self._report("nextmv_up", 1)
        self._follow(runs, now)
        self._queue(runs, now)

    def series(self) -> dict[Series, float]:
        """Every series, but those that tell how long something took."""
        reported = dict(self.now_reported)
        self.now_reported = {}
        self._report("nextmv_source_info", 1, source="account-queue")
        for reason, number in self.errors.items():
            self._report("nextmv_scrape_errors_total", number, reason=reason)
        for code, number in self.codes.items():
            self._report("nextmv_api_requests_total", number, path=PATH, code=code)
        for (name, *labels), number in self.flow.items():
            names = ("execution_class", "application_id", "status_v2")
            given = dict(zip(names, labels, strict=False))
            self._report(f"nextmv_account_queue_runs_{name}_total", number, **given)
        for name, waits in self.waits.items():
            self._histogram("nextmv_account_queue_start_wait_seconds", name, waits)
            self._report(
                "nextmv_account_queue_start_wait_seconds_count", len(waits), execution_class=name
            )
            self._report(
                "nextmv_account_queue_start_wait_seconds_sum", sum(waits), execution_class=name
            )
            if longest := MAX_RUN_SECONDS.get(name):
                self._report(
                    "nextmv_execution_class_max_run_seconds", longest, execution_class=name
                )
        for name, then in self.last_starts.items():
            self._report(
                "nextmv_account_queue_last_start_timestamp_seconds", then, execution_class=name
            )
        self.now_reported, counted = reported, self.now_reported
        return reported | counted

    def _report(self, metric: str, value: float, **labels: str) -> None:
        self.now_reported[metric, frozenset({"account": self.account, **labels}.items())] = value

    def _histogram(self, metric: str, name: str, values: Sequence[float | None]) -> None:
        for bound in self.buckets:
            number = sum(value is not None and value <= bound for value in values)
            self._report(f"{metric}_bucket", number, execution_class=name, le=str(float(bound)))
        self._report(f"{metric}_bucket", len(values), execution_class=name, le="+Inf")

    # The flow

    def _follow(self, runs: Sequence[Run], now: float) -> None:
        current: dict[str, Seen] = {}
        for run in runs:
            status, name, application = group_of(run)
            self._pair(status, name, application)
            if run_id := run.get("id"):
                seen, then = current.get(run_id), created(run)
                if seen is None or (status == "running") > (seen.group[0] == "running"):
                    current[run_id] = Seen((status, name, application), then)
                elif status == seen.group[0] and then is not None:
                    seen.created = min(then, then if seen.created is None else seen.created)
        before, self.snapshot = self.snapshot, current
        gap, self.taken = now - self.taken, now
        if before is None:
            return
        for run_id, seen in current.items():
            status, name, application = seen.group
            pair = self._counted_as(name, application)
            self.flow["entered", *pair] += run_id not in before
            if status == "running" and (
                run_id not in before or before[run_id].group[0] == "queued"
            ):
                self.flow["started", *pair] += 1
                self.last_starts[pair[0]] = now
                if seen.created is not None and gap <= MAX_GAP:
                    start = (max(now - gap, seen.created) + now) / 2
                    self.waits[pair[0]].append(max(0.0, start - seen.created))
        for run_id in before.keys() - current.keys():
            status, name, application = before[run_id].group
            self.flow["left", *self._counted_as(name, application), status] += 1

    def _counted_as(self, name: str, application: str) -> tuple[str, str]:
        if (name, application) in self.pairs or len(self.pairs) < self.max_groups:
            return name, application
        return (name if name in self.waits else OTHER), OTHER

    def _pair(self, status: str, name: str, application: str) -> None:
        pair = self._counted_as(name, application)
        self.pairs += [] if pair in self.pairs else [pair]
        self.waits.setdefault(pair[0], [])
        for flow in (("entered",), ("started",)):
            self.flow[*flow, *pair] += 0
        for left in ("queued", "running", status):
            self.flow["left", *pair, left] += 0

    # The queue

    def _queue(self, runs: Sequence[Run], now: float) -> None:
        groups: defaultdict[Group, list[Run]] = defaultdict(list)
        for run in runs:
            groups[group_of(run)].append(run)
        kept, folded = self._fold(groups)
        recent = [group for group, then in self.last_seen.items() if now - then <= self.retention]
        for group in sorted(recent):
            if len(kept) < self.max_groups:
                kept.setdefault(group, [])
        self.last_seen = {g: now if kept[g] else self.last_seen[g] for g in kept}
        for (status, name, application), members in kept.items():
            labels = {"execution_class": name, "application_id": application}
            self._report("nextmv_account_queue_length", len(members), status_v2=status, **labels)
        self._ages(kept, folded, now)
        for name in {group[1] for group in kept}:
            queued = [(g, members) for g, members in kept.items() if g[:2] == ("queued", name)]
            waits = [age(run, now) for _, members in queued for run in members]
            self._histogram("nextmv_account_queue_wait_seconds", name, waits)
            if longest := MAX_RUN_SECONDS.get(name):
                self._report(
                    "nextmv_execution_class_max_run_seconds", longest, execution_class=name
                )
        totals = Counter({"queued": 0, "running": 0})
        for group, members in kept.items():
            totals[group[0]] += len(members)
        for status, number in totals.items():
            self._report("nextmv_account_queue_runs", number, status_v2=status)
        self._report("nextmv_account_queue_malformed_runs", sum(map(malformed, runs)))
        self._report("nextmv_account_queue_folded_groups", len(folded))

    def _ages(self, kept: Groups, folded: Sequence[Group], now: float) -> None:
        for name, application in {group[1:] for group in kept}:
            labels = {"execution_class": name, "application_id": application}
            for status in ("queued", "running"):
                group = (status, name, application)
                members = kept.get(group, [])
                ages = [then for run in members if (then := age(run, now)) is not None]
                metric = f"nextmv_account_queue_oldest_{status}_run_age_seconds"
                if ages or not (members or group in folded):
                    self._report(metric, max(ages, default=0), **labels)
                if ages and status == "queued":
                    metric = "nextmv_account_queue_oldest_queued_run_created_timestamp_seconds"
                    oldest = min(then for run in members if (then := created(run)) is not None)
                    self._report(metric, oldest, **labels)

    def _fold(self, groups: Groups) -> tuple[Groups, list[Group]]:
        """Keep as many of the longest groups as fit together with what the rest is folded into."""
        order = sorted(groups, key=lambda group: (-len(groups[group]), group))
        for level in range(3):
            for keep in range(len(order), -1, -1):
                kept: Groups = {g: groups[g] for g in order[:keep]}
                others = {folded(group, level) for group in order[keep:]}
                if keep + len(others) <= self.max_groups or (level == 2 and keep == 0):
                    for group in order[keep:]:
                        into = folded(group, level)
                        kept[into] = [*kept.get(into, []), *groups[group]]
                    return kept, order[keep:]
        raise AssertionError


def folded(group: Group, level: int) -> Group:
    status, name, _ = group
    if level == 2 and status not in ("queued", "running"):
        status = OTHER
    return status, name if level == 0 else OTHER, OTHER


MAX_RUN_SECONDS = {"6c9500mb870s": 870, "8c16gb120m": 7200, "16c60gb12h": 43200, "b1h30m": 5400}
