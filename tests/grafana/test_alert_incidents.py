"""Incidents of simulated queues: which alerts fire in each and when, and that no other does.

Run by the promtool on the PATH: those of Prometheus 2 and 3 agree.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from queue_simulator import Account, Exporter, Run, regularly, scraped
from support.programs import ROOT, run

pytestmark = pytest.mark.system

RECORDED = "execution_class:nextmv_account_queue"
RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
HOUR, DAY = 60, 24 * 60
DEFAULT, LONG = "6c9500mb870s", "16c60gb12h"
STALLED, HANG, OLD = "NextmvQueueStalled", "NextmvRunsNotStarting", "NextmvOldestQueuedRunTooOld"
FAST, SLOW = "NextmvServiceLevelFastBurn", "NextmvServiceLevelSlowBurn"
UNREADABLE, REJECTED = "NextmvAccountUnreadable", "NextmvAccountAuthFailed"
PARTLY, DOWN = "NextmvAccountPartlyUnreadable", "NextmvExporterDown"
CLOCK, RARE = "NextmvExporterClockOff", "NextmvScrapeIntervalTooLong"


@dataclass
class Incident:
    """What happens, and which alerts tell of it.

    Attributes:
        fires: by alert, the minutes from which on it fires, at the earliest and at the latest, and
            those until which it does. It fires without a break, and not otherwise.
        may: alerts that may fire too; none of them is a page.
        paged: from when until when someone is paged without a break.
        most: the largest number of alerts that fire at once.
        expect: expressions and their values at the end.
        more: further series.
        evaluated: minutes between evaluations of the rules.
    """

    name: str
    minutes: int
    account: Account
    exporters: Sequence[Exporter] = field(default_factory=lambda: [Exporter()])
    fires: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    may: Sequence[str] = ()
    paged: tuple[float, float] | None = None
    most: int = 2
    evaluated: int = 1
    interval: float = 1
    expect: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)

    def tests(self) -> list[tuple[float, str, list[float]]]:
        """Return expressions, when they are evaluated, and their values."""
        firing = 'ALERTS{{alertname="{}", alertstate="firing"}}'
        end, every = self.minutes, self.evaluated
        tests: list[tuple[float, str, list[float]]] = []
        for alert, (earliest, latest, until, over) in self.fires.items():
            for start, stop in ((0, earliest - every), (over, end)):
                if stop > start:
                    never = f"count(count_over_time({firing.format(alert)}[{stop - start:g}m]))"
                    tests.append((stop, never, []))
            last = until - every
            always = f"min(count_over_time({firing.format(alert)}[{last - latest:g}m]))"
            tests.append((last, f"{always} >= bool {(last - latest) // every}", [1]))
        known = "|".join([*self.fires, *self.may])
        others = f'ALERTS{{alertname!~"{known}", alertstate="firing"}}'
        tests.append((end, f"count by (alertname) (count_over_time({others}[{end}m]))", []))
        pages = 'ALERTS{severity="critical", alertstate="firing"}'
        for alert in self.may:
            paged = pages.replace("{", f'{{alertname="{alert}", ')
            tests.append((end, f"count(count_over_time({paged}[{end}m]))", []))
        if self.paged:  # by whichever alert
            start, stop = self.paged
            held = f"count_over_time(count({pages})[{stop - start - 1:g}m:1m])"
            tests.append((stop - 1, f"{held} >= bool {stop - start - 1}", [1]))
        at_once = 'max_over_time(count(ALERTS{{alertstate="firing"}})[{}m:{}m]) > {}'
        tests.append((end, at_once.format(end, every, self.most), []))
        tests += [(end, expr, [value]) for expr, value in self.expect.items()]
        return tests


BUSY = regularly(DEFAULT, 2, 4, until=DAY)
PUNCTUAL = Account(regularly(DEFAULT, 10, 2, until=DAY, size=6), {DEFAULT: 2})
"""Nobody waits for more than four minutes."""

FAILING_MINUTES = [(hour * HOUR, hour * HOUR + 6) for hour in range(1, 40, 2)]
RESTARTS = [hour * HOUR + 5 for hour in range(1, 40, 3)]
OUTAGE = (2 * HOUR, 5 * HOUR)
LATE = (OLD, FAST, SLOW)
"""What follows for as long as the queue is longer than usual."""


def standing_still(start: float, end: float, **others: Any) -> Account:
    return Account(BUSY, {DEFAULT: 3}, standstill=[(start * HOUR, end * HOUR)], **others)


def hanging(execution_class: str, start: float, end: float, **others: Any) -> Account:
    """Four runs hang; others come every half hour."""
    runs = regularly(execution_class, 0.5 * HOUR, 2 * HOUR, until=end * HOUR)
    hang = [(start * HOUR, end * HOUR)]
    return Account(runs, {execution_class: 4}, hang=hang, **others)


def moving(gap: float) -> list[Exporter]:
    """A pod that moves to another node after three hours."""
    old, new = ({"instance": each, "pod": f"p{each}", "node": f"n{each}"} for each in "12")
    return [Exporter(old, target=(0, 3 * HOUR)), Exporter(new, target=(3 * HOUR + gap, DAY))]


def replicas(**second: Any) -> list[Exporter]:
    """Two that monitor the account, half a minute apart."""
    labels = ({"instance": each, "pod": f"p{each}"} for each in "12")
    return [Exporter(next(labels)), Exporter(next(labels), phase=0.5, **second)]


def week() -> Account:
    """People who work by day, on workdays, and two kinds of batches, one of them by night."""
    runs: list[Run] = []
    for day in range(7):
        start = day * DAY
        runs += regularly("8c16gb120m", DAY, 25, start=start + 120, until=start + DAY, size=4)
        runs += regularly(DEFAULT, 60, 1, start=start, until=start + DAY, size=10)
        if day < 5:
            runs += regularly(DEFAULT, 3, 5, start=start + 420, until=start + 1140)
            runs += regularly(LONG, 90, 200, start=start + 420, until=start + 900)
    return Account(runs, {DEFAULT: 4, "8c16gb120m": 4, LONG: 2})


MOST_LATE = {f"round(max(max_over_time({RECORDED}_starts_late:increase1h[6h])))": 18}
"""Three of the batch start every ten minutes."""


INCIDENTS = [
    Incident(
        "a hang of a 12-hour class, with minutes that fail",
        19 * HOUR,
        hanging(LONG, 5, 18.5),
        [Exporter(outage=FAILING_MINUTES)],
        {HANG: (17.8 * HOUR, 18.1 * HOUR, 18.5 * HOUR, 18.6 * HOUR)},
        evaluated=2,
    ),
    Incident(
        "a hang of a 12-hour class, with restarts of the exporter",
        20 * HOUR,
        hanging(LONG, 5, 19.5),
        [Exporter(restarts=RESTARTS)],
        {HANG: (17.8 * HOUR, 18 * HOUR, 19.5 * HOUR, 19.6 * HOUR)},
        may=[OLD],
        evaluated=2,
    ),
    Incident(
        "a hang of a 24-hour class, with minutes that fail",
        33 * HOUR,
        hanging("16c60gb24h", 5, 32.5),
        [Exporter(outage=FAILING_MINUTES)],
        {HANG: (31 * HOUR, 31.5 * HOUR, 32.5 * HOUR, 32.6 * HOUR)},
        may=[OLD],
        evaluated=5,
    ),
    Incident(
        "runs of a 12-hour class that take 12 hours each",
        40 * HOUR,
        Account(regularly(LONG, 12 * HOUR, 718, until=2 * DAY, size=2)),
        [Exporter(outage=FAILING_MINUTES, restarts=RESTARTS)],
        may=[OLD],
        evaluated=5,
    ),
    Incident(
        "a standstill with restarts of the exporter",
        6 * HOUR,
        standing_still(1, 5),
        [Exporter(restarts=[2 * HOUR, 3 * HOUR])],
        {STALLED: (HOUR + 10, HOUR + 15, 5 * HOUR, 5 * HOUR + 3)},
        may=LATE,
    ),
    Incident(
        "a hang with restarts of the exporter",
        6 * HOUR,
        hanging("8c16gb120m", 1, 5),
        [Exporter(restarts=[2 * HOUR, 3 * HOUR])],
        {HANG: (3.8 * HOUR, 4 * HOUR, 5 * HOUR, 5 * HOUR + 3)},
        may=LATE,
    ),
    Incident(
        "an outage of the API in a standstill",
        8 * HOUR,
        standing_still(1, 7),
        [Exporter(outage=[OUTAGE])],
        {
            STALLED: (HOUR + 10, HOUR + 15, 7 * HOUR, 7 * HOUR + 3),
            UNREADABLE: (2 * HOUR + 10, 2 * HOUR + 14, 5 * HOUR, 5 * HOUR + 14),
        },
        may=LATE,
        paged=(HOUR + 15, 7 * HOUR),
    ),
    Incident(
        "an outage of the API in a hang",
        8 * HOUR,
        hanging(DEFAULT, 0.5, 7),
        [Exporter(outage=[(3 * HOUR, 6 * HOUR)])],
        {
            HANG: (2.6 * HOUR, 2.75 * HOUR, 7 * HOUR, 7 * HOUR + 3),
            UNREADABLE: (3 * HOUR + 10, 3 * HOUR + 14, 6 * HOUR, 6 * HOUR + 14),
        },
        may=LATE,
        paged=(2.75 * HOUR, 7 * HOUR),
    ),
    Incident(
        "a standstill that begins in an outage of the API",
        8 * HOUR,
        standing_still(3, 7),
        [Exporter(outage=[OUTAGE])],
        {
            STALLED: (5 * HOUR + 8, 5 * HOUR + 11, 7 * HOUR, 7 * HOUR + 3),
            UNREADABLE: (2 * HOUR + 10, 2 * HOUR + 14, 5 * HOUR, 5 * HOUR + 14),
        },
        may=LATE,
        paged=(2 * HOUR + 15, 7 * HOUR),
    ),
    Incident(
        "runs that are cancelled after 30 minutes in a standstill",
        6 * HOUR,
        standing_still(1, 5, patience=30),
        fires={STALLED: (HOUR + 10, HOUR + 15, 5 * HOUR, 5 * HOUR + 3)},
        may=LATE,
    ),
    Incident(
        "runs that are cancelled after 30 minutes in a hang, with minutes that fail",
        6 * HOUR,
        Account(BUSY, {DEFAULT: 3}, hang=[(HOUR + 30, 5 * HOUR)], patience=30),
        [Exporter(outage=FAILING_MINUTES)],
        {HANG: (2 * HOUR + 30, 2 * HOUR + 45, 5 * HOUR, 5 * HOUR + 8)},
        may=LATE,
    ),
    Incident(
        "a batch after 28 idle hours",
        32 * HOUR,
        Account([Run(5, 10, LONG), *regularly(LONG, 1, 9, start=28 * HOUR, until=28 * HOUR + 8)]),
        evaluated=2,
    ),
    Incident(
        "a batch after 28 idle hours that does not start",
        30 * HOUR,
        Account(
            [Run(5, 10, LONG), *regularly(LONG, 1, 9, start=28 * HOUR, until=28 * HOUR + 8)],
            standstill=[(28 * HOUR, 30 * HOUR)],
        ),
        fires={STALLED: (28 * HOUR + 10, 28 * HOUR + 15, 30 * HOUR, 30 * HOUR)},
        evaluated=2,
    ),
    Incident(
        "five runs every hour in a class with a limit of one",
        DAY,
        Account(regularly(DEFAULT, HOUR, 10, until=DAY, size=5)),
        fires={SLOW: (2 * HOUR, 4 * HOUR, DAY, DAY)},
        may=[OLD],
        evaluated=2,
    ),
    *(
        Incident(
            f"a batch that drains in 100 minutes, seen by {seen_by}",
            8 * HOUR,
            Account(regularly(DEFAULT, DAY, 10, start=HOUR, until=DAY, size=30), {DEFAULT: 3}),
            exporters,
            {FAST: (1.4 * HOUR, 1.8 * HOUR, 2.6 * HOUR, 3.7 * HOUR)},
            may=LATE,
            expect=MOST_LATE,
            interval=0.5,
        )
        for seen_by, exporters in {
            "one exporter": [Exporter()],
            "two replicas": replicas(),
            "two replicas, one of which restarts": replicas(restarts=[2 * HOUR]),
            "two replicas, one of which is gone": replicas(target=(0, 2 * HOUR)),
        }.items()
    ),
    *(
        Incident(
            f"a clock that is {ahead} minutes ahead until it is set",
            8 * HOUR,
            PUNCTUAL,
            [Exporter(ahead_seconds=60 * ahead, ahead=(HOUR, 5 * HOUR), restarts=[3 * HOUR])],
            {CLOCK: (HOUR + 10, HOUR + 12, 5 * HOUR - 1, 5 * HOUR + 9)},
        )
        for ahead in (10, -10, 90, -90)
    ),
    Incident(
        "a standstill with a wrong clock",
        4 * HOUR,
        standing_still(1, 4),
        [Exporter(ahead_seconds=-600)],
        {
            STALLED: (HOUR + 10, HOUR + 15, 4 * HOUR - 1, 4 * HOUR),
            CLOCK: (10, 12, 4 * HOUR, 4 * HOUR),
        },
    ),
    Incident(
        "a standstill of 40 classes",
        3 * HOUR,
        Account(
            [each for n in range(40) for each in regularly(f"{n}c1gb30m", 20, 3, until=DAY)],
            standstill=[(HOUR, 3 * HOUR + 1)],
        ),
        fires={STALLED: (HOUR + 10, HOUR + 32, 3 * HOUR, 3 * HOUR)},
        most=40,
        expect={'count(ALERTS{alertname="NextmvQueueStalled", alertstate="firing"})': 40},
    ),
    Incident(
        "one application that starves behind another",
        8 * HOUR,
        Account(
            [
                *regularly(DEFAULT, 4, 4, until=6 * HOUR, priority=3),
                *regularly(DEFAULT, 4, 4, start=1, until=6 * HOUR, priority=3, size=1),
                Run(HOUR, 5, DEFAULT, "starving", 9),
            ],
            {DEFAULT: 2},
        ),
        fires={OLD: (HOUR + 30, HOUR + 37, 6 * HOUR, 6 * HOUR + 5)},
    ),
    Incident(
        "five minutes between scrapes",
        10 * HOUR,
        PUNCTUAL,
        [Exporter(every=5)],
        {RARE: (20, 50, 10 * HOUR, 10 * HOUR)},
    ),
    Incident(
        "more than five minutes between scrapes, of which some fail",
        10 * HOUR,
        PUNCTUAL,
        [Exporter(every=5.5, outage=[(2 * HOUR, 2 * HOUR + 6)], down=[(4 * HOUR, 4 * HOUR + 6)])],
        {RARE: (20, 50, 10 * HOUR, 10 * HOUR)},
        interval=0.5,
    ),
    Incident(
        "a standstill, and five minutes between scrapes",
        4 * HOUR,
        standing_still(1, 4),
        [Exporter(every=5)],
        {
            RARE: (20, 50, 4 * HOUR - 1, 4 * HOUR),
            STALLED: (HOUR + 10, HOUR + 25, 4 * HOUR - 1, 4 * HOUR),
        },
    ),
    Incident(
        "a pod that moves to another node in a standstill",
        5 * HOUR,
        standing_still(1, 4),
        moving(gap=2),
        {STALLED: (HOUR + 10, HOUR + 15, 4 * HOUR, 4 * HOUR + 3)},
        may=LATE,
    ),
    Incident(
        "a pod that moves to another node in a hang",
        5 * HOUR,
        hanging(DEFAULT, 1, 4),
        moving(gap=0),
        {HANG: (2.6 * HOUR, 2.75 * HOUR, 4 * HOUR, 4 * HOUR + 3)},
        may=LATE,
    ),
    Incident("a pod that moves to another node", 6 * HOUR, PUNCTUAL, moving(gap=4)),
    Incident(
        "two replicas of which one cannot read the account, as its key was revoked",
        6 * HOUR,
        PUNCTUAL,
        replicas(outage=[(HOUR, 4 * HOUR)], reason="auth"),
        {PARTLY: (HOUR + 35, 2 * HOUR + 15, 4 * HOUR, 4 * HOUR + 40)},
        interval=0.5,
    ),
    Incident("a week", 7 * DAY, week(), [Exporter(every=2)], evaluated=10, interval=2),
    Incident(
        "a key that is revoked",
        5 * HOUR,
        PUNCTUAL,
        [Exporter(outage=[(HOUR, 3 * HOUR)], reason="auth")],
        {REJECTED: (HOUR + 10, HOUR + 14, 3 * HOUR, 3 * HOUR + 14)},
    ),
    Incident(
        "an API that limits every fourth request",
        4 * HOUR,
        PUNCTUAL,
        [Exporter(outage=[(n, n + 1) for n in range(HOUR, 2 * HOUR, 4)], reason="rate_limited")],
        {"NextmvApiRateLimited": (HOUR + 10, HOUR + 18, 2 * HOUR - 5, 2 * HOUR + 5)},
    ),
    Incident(
        "an exporter that is down",
        4 * HOUR,
        PUNCTUAL,
        [Exporter(down=[(HOUR, 2 * HOUR)])],
        {DOWN: (HOUR + 5, HOUR + 10, 2 * HOUR, 2 * HOUR + 5)},
    ),
    Incident(
        "an exporter that is gone",
        28 * HOUR,
        PUNCTUAL,
        [Exporter(target=(0, HOUR))],
        {"NextmvExporterAbsent": (HOUR + 15, HOUR + 22, 24.9 * HOUR, 28 * HOUR)},
        evaluated=2,
    ),
    Incident(
        "an account that is gone while its exporter is scraped",
        26 * HOUR,
        Account(()),
        fires={"NextmvAccountVanished": (HOUR + 15, HOUR + 25, 24.9 * HOUR, 25.1 * HOUR)},
        evaluated=5,
        more={'nextmv_up{job="nextmv-exporter", account="gone", instance="one"}': "1x59 stale"},
    ),
    Incident(
        "an account whose exporter is down while another is scraped",
        3 * HOUR,
        Account(()),
        fires={DOWN: (HOUR + 5, HOUR + 10, 3 * HOUR, 3 * HOUR)},
        more={
            'up{job="nextmv-exporter", instance="two"}': "1x59 0x120",
            'nextmv_up{job="nextmv-exporter", account="a", instance="two"}': "1x59 stale",
        },
    ),
    Incident(
        "malformed runs and folded groups",
        3 * HOUR,
        Account(()),
        fires=dict.fromkeys(
            ("NextmvMalformedRuns", "NextmvGroupsFolded"),
            (HOUR + 15, HOUR + 16, 2 * HOUR, 2 * HOUR + 11),
        ),
        more={
            f'nextmv_account_queue_{each}{{account="default", instance="one"}}': "0x59 2x59 0x60"
            for each in ("malformed_runs", "folded_groups")
        },
    ),
    Incident(
        "histograms without buckets",
        2 * HOUR,
        PUNCTUAL,
        [Exporter(without=["_bucket"])],
        {"NextmvServiceLevelUnknown": (15, 30, 2 * HOUR, 2 * HOUR)},
    ),
]


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda each: each.name)
def test_alerts_of(incident: Incident, tmp_path: Path) -> None:
    series = scraped(
        incident.account,
        *incident.exporters,
        minutes=incident.minutes,
        interval=incident.interval,
    )
    series += [{"series": each, "values": values} for each, values in incident.more.items()]
    expected = [
        {
            "expr": expr,
            "eval_time": f"{time:g}m",
            "exp_samples": [{"labels": "{}", "value": value} for value in values],
        }
        for time, expr, values in incident.tests()
    ]
    test = {
        "interval": f"{60 * incident.interval:g}s",
        "input_series": series,
        "promql_expr_test": expected,
    }
    file = tmp_path / "incident.json"
    file.write_text(
        json.dumps(
            {
                "evaluation_interval": f"{incident.evaluated}m",
                "rule_files": [str(RULES)],
                "tests": [test],
            }
        )
    )
    run("promtool", "test", "rules", file)


def test_each_alert_is_seen_to_fire() -> None:
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    assert {alert for incident in INCIDENTS for alert in incident.fires} == alerts
