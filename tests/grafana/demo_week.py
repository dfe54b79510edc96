"""A week of a simulated account, scraped once a minute by the real code, in simulated time."""

import json
from collections.abc import Iterator
from dataclasses import fields

from nextmv_exporter.demo.execution_queue import ExecutionQueue
from nextmv_exporter.demo.wire import queued_run

from nextmv_exporter.demo.catalogue import APPLICATIONS, EXECUTION_CLASSES, ExecutionClass
from nextmv_exporter.demo.simulator import Simulator
from nextmv_exporter.scrape.counters import AccountMetrics
from nextmv_exporter.scrape.flow import Baseline, compare
from nextmv_exporter.scrape.metrics import families
from nextmv_exporter.scrape.outcome import Outcome, Scrape
from nextmv_exporter.scrape.recent import RecentGroups
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot
from nextmv_exporter.scrape.target import ScrapeOptions

MONDAY = 1_767_571_200.0  # 2026-01-05, midnight UTC
MINUTE = 60
DAY = 24 * 60 * MINUTE
MINUTES = 7 * DAY // MINUTE
WANTED = (
    "nextmv_account_queue_length",
    "nextmv_account_queue_oldest_queued_run_age_seconds",
    "nextmv_account_queue_runs_started_total",
    "nextmv_account_queue_start_wait_seconds_count",
    "nextmv_up",
)
"""What the rules ask for and is worth writing down each minute."""


class OfficeHours(ExecutionClass):
    """An execution class with little to do at night and none at the weekend."""

    def arrival_rate(self, elapsed: float) -> float:
        day, second = divmod(elapsed, DAY)
        if day >= 5:
            return 0
        rate = super().arrival_rate(elapsed)
        return rate if 7 * 3600 < second < 19 * 3600 else 0.02 * rate


class OfficeAccount(Simulator):
    """The demo's account, used by people who sleep; the week starts on Monday."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, start=MONDAY)
        self.queues = {
            each.name: ExecutionQueue(
                OfficeHours(**{field.name: getattr(each, field.name) for field in fields(each)}),
                [app for app in APPLICATIONS if each.name in app.execution_classes],
                seed=seed,
                opening=MONDAY,
            )
            for each in EXECUTION_CLASSES
        }


def scrapes(account: Simulator) -> Iterator[Scrape]:
    """Scrape an account once a minute for a week."""
    options = ScrapeOptions()
    counters = AccountMetrics(wait_buckets=options.wait_buckets, max_groups=options.max_groups)
    recent = RecentGroups(options.zero_retention, options.max_groups)
    baseline: Baseline | None = None
    for minute in range(MINUTES):
        now = MONDAY + minute * MINUTE
        account.advance(now)
        body = json.dumps({"runs": [queued_run(run) for run in account.queue()]}).encode()
        snapshot = take_snapshot(parse_queue(body), now)
        baseline, change = compare(baseline, snapshot)
        counters.add_flow(change)
        summary = summarise(
            snapshot,
            wait_buckets=options.wait_buckets,
            max_groups=options.max_groups,
            recent=recent.at(now),
        )
        recent.saw([group for group, length in summary.length.items() if length], now)
        yield Scrape(Outcome("demo", "account-queue", 0.1, now, summary), counters.copy())


def input_series(account: Simulator) -> list[dict[str, str]]:
    """Return the week as promtool reads it: a value for each minute, or `_` where there is none."""
    values: dict[str, list[str]] = {}
    for minute, scrape in enumerate(scrapes(account)):
        for family in families([scrape]):
            if not family.metric.name.startswith(("nextmv_account_queue", "nextmv_up")):
                continue
            for name, labels, value, *_ in family.samples:
                if name in WANTED or ("start_wait" in name and labels.get("le") == "300.0"):
                    text = ", ".join(f'{key}="{each}"' for key, each in labels.items())
                    series = values.setdefault(f'{name}{{{text}, job="nextmv-exporter"}}', [])
                    series += ["_"] * (minute - len(series))
                    series.append(f"{value:.15g}")
    values['up{job="nextmv-exporter", instance="demo:10057"}'] = ["1"] * MINUTES
    return [{"series": name, "values": " ".join(each)} for name, each in values.items()]
