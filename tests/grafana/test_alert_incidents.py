"""Incidents of simulated queues: which alerts fire in each and when, and that no other does.

Run by the promtool on the PATH: those of Prometheus 2 and 3 agree.
"""

import json
import re
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


def minutes(duration: str) -> int:
    return sum(
        int(number) * {"h": HOUR, "m": 1}[unit]
        for number, unit in re.findall(r"(\d+)([hm])", duration)
    )


@dataclass
class Incident:
    """What happens, and which alerts tell of it.

    Attributes:
        fires: by alert, when it begins to fire at the earliest and at the latest, until when it
            does without a break, and from when on not any more.
        may: alerts that may fire too; none of them is a page.
        paged: from when until when someone is paged without a break.
        most: the largest number of alerts that fire at once.
        expect: expressions and their values at the end.
        more: further series.
    """

    hours: int
    account: Account
    exporters: Sequence[Exporter] = field(default_factory=lambda: [Exporter()])
    fires: Mapping[str, str] = field(default_factory=dict)
    may: Sequence[str] = ()
    paged: str = ""
    most: int = 2
    interval: float = 1
    expect: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def evaluated(self) -> int:
        """Minutes between evaluations of the rules."""
        return 1 if self.hours <= 10 else 2 if self.hours <= 24 else 5

    def tests(self) -> list[tuple[float, str, list[float]]]:
        """Return expressions, when they are evaluated, and their values."""
        firing = 'ALERTS{{alertname="{}", alertstate="firing"}}'
        end, every = self.hours * HOUR, self.evaluated
        tests: list[tuple[float, str, list[float]]] = []
        for alert, times in self.fires.items():
            earliest, latest, until, over = map(minutes, times.split())
            for start, stop in ((0, earliest - every), (over, end)):
                if stop > start:
                    never = f"count(count_over_time({firing.format(alert)}[{stop - start}m]))"
                    tests.append((stop, never, []))
            last = until - every
            always = f"min(count_over_time({firing.format(alert)}[{last - latest}m]))"
            tests.append((last, f"{always} >= bool {(last - latest) // every}", [1]))
        known = "|".join([*self.fires, *self.may])
        others = f'ALERTS{{alertname!~"{known}", alertstate="firing"}}'
        tests.append((end, f"count by (alertname) (count_over_time({others}[{end}m]))", []))
        pages = 'ALERTS{severity="critical", alertstate="firing"}'
        for alert in self.may:
            paged = pages.replace("{", f'{{alertname="{alert}", ')
            tests.append((end, f"count(count_over_time({paged}[{end}m]))", []))
        if self.paged:  # by whichever alert
            begin, stop = map(minutes, self.paged.split())
            held = f"count_over_time(count({pages})[{stop - begin - 1}m:1m])"
            tests.append((stop - 1, f"{held} >= bool {stop - begin - 1}", [1]))
        at_once = 'max_over_time(count(ALERTS{{alertstate="firing"}})[{}m:{}m]) > {}'
        tests.append((end, at_once.format(end, every, self.most), []))
        tests += [(end, expr, [value]) for expr, value in self.expect.items()]
        return tests


BUSY = regularly(DEFAULT, 2, 4, until=DAY)
PUNCTUAL = Account(regularly(DEFAULT, 10, 2, until=DAY, size=6), {DEFAULT: 2})
"""Nobody waits for more than four minutes."""

FAILING = [(hour * HOUR, hour * HOUR + 6) for hour in range(1, 40, 2)]
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


AFTER_IDLE_HOURS = [Run(5, 10, LONG), *regularly(LONG, 1, 9, start=28 * HOUR, until=28 * HOUR + 8)]
MOST_LATE = {f"round(max(max_over_time({RECORDED}_starts_late:increase1h[6h])))": 18}
"""Three of the batch start every ten minutes."""


# fmt: off
INCIDENTS: dict[str, Incident] = {
    "a hang of a 12-hour class, with minutes that fail": Incident(
        19, hanging(LONG, 5, 18.5), [Exporter(outage=FAILING)],
        {HANG: "17h48m 18h6m 18h30m 18h36m"},
    ),
    "a hang of a 12-hour class, with restarts of the exporter": Incident(
        20, hanging(LONG, 5, 19.5), [Exporter(restarts=RESTARTS)],
        {HANG: "17h48m 18h 19h30m 19h36m"}, may=[OLD],
    ),
    "a hang of a 24-hour class, with minutes that fail": Incident(
        33, hanging("16c60gb24h", 5, 32.5), [Exporter(outage=FAILING)],
        {HANG: "31h 31h30m 32h30m 32h36m"}, may=[OLD],
    ),
    "runs of a 12-hour class that take 12 hours each": Incident(
        40, Account(regularly(LONG, 12 * HOUR, 718, until=2 * DAY, size=2)),
        [Exporter(outage=FAILING, restarts=RESTARTS)], may=[OLD],
    ),
    "a standstill with restarts of the exporter": Incident(
        6, standing_still(1, 5), [Exporter(restarts=[2 * HOUR, 3 * HOUR])],
        {STALLED: "1h10m 1h15m 5h 5h3m"}, may=LATE,
    ),
    "a hang with restarts of the exporter": Incident(
        6, hanging("8c16gb120m", 1, 5), [Exporter(restarts=[2 * HOUR, 3 * HOUR])],
        {HANG: "3h48m 4h 5h 5h3m"}, may=LATE,
    ),
    "an outage of the API in a standstill": Incident(
        8, standing_still(1, 7), [Exporter(outage=[OUTAGE])],
        {STALLED: "1h10m 1h15m 7h 7h3m", UNREADABLE: "2h10m 2h14m 5h 5h14m"}, may=LATE,
        paged="1h15m 7h",
    ),
    "an outage of the API in a hang": Incident(
        8, hanging(DEFAULT, 0.5, 7), [Exporter(outage=[(3 * HOUR, 6 * HOUR)])],
        {HANG: "2h36m 2h45m 7h 7h3m", UNREADABLE: "3h10m 3h14m 6h 6h14m"}, may=LATE,
        paged="2h45m 7h",
    ),
    "a standstill that begins in an outage of the API": Incident(
        8, standing_still(3, 7), [Exporter(outage=[OUTAGE])],
        {STALLED: "5h8m 5h11m 7h 7h3m", UNREADABLE: "2h10m 2h14m 5h 5h14m"}, may=LATE,
        paged="2h15m 7h",
    ),
    "runs that are cancelled after 30 minutes in a standstill": Incident(
        6, standing_still(1, 5, patience=30), fires={STALLED: "1h10m 1h15m 5h 5h3m"}, may=LATE,
    ),
    "runs that are cancelled after 30 minutes in a hang, with minutes that fail": Incident(
        6, Account(BUSY, {DEFAULT: 3}, hang=[(HOUR + 30, 5 * HOUR)], patience=30),
        [Exporter(outage=FAILING)], {HANG: "2h30m 2h45m 5h 5h8m"}, may=LATE,
    ),
    "a batch after 28 idle hours": Incident(
        32, Account(AFTER_IDLE_HOURS),
    ),
    "a batch after 28 idle hours that does not start": Incident(
        30, Account(AFTER_IDLE_HOURS, standstill=[(28 * HOUR, 30 * HOUR)]),
        fires={STALLED: "28h10m 28h15m 30h 30h"},
    ),
    "five runs every hour in a class with a limit of one": Incident(
        24, Account(regularly(DEFAULT, HOUR, 10, until=DAY, size=5)), fires={SLOW: "2h 4h 24h 24h"},
        may=[OLD],
    ),
    **{
        f"a batch that drains in 100 minutes, seen by {seen_by}": Incident(
            8, Account(regularly(DEFAULT, DAY, 10, start=HOUR, until=DAY, size=30), {DEFAULT: 3}),
            exporters, {FAST: "1h24m 1h48m 2h36m 3h42m"}, may=LATE, expect=MOST_LATE, interval=0.5,
        )
        for seen_by, exporters in {
            "one exporter": [Exporter()],
            "two replicas": replicas(),
            "two replicas, one of which restarts": replicas(restarts=[2 * HOUR]),
            "two replicas, one of which is gone": replicas(target=(0, 2 * HOUR)),
        }.items()
    },
    **{
        f"a clock that is {ahead} minutes ahead until it is set": Incident(
            8, PUNCTUAL,
            [Exporter(ahead_seconds=60 * ahead, ahead=(HOUR, 5 * HOUR), restarts=[3 * HOUR])],
            {CLOCK: "1h10m 1h12m 4h59m 5h9m"},
        )
        for ahead in (10, -10, 90, -90)
    },
    "a standstill with a wrong clock": Incident(
        4, standing_still(1, 4), [Exporter(ahead_seconds=-600)],
        {STALLED: "1h10m 1h15m 3h59m 4h", CLOCK: "10m 12m 4h 4h"},
    ),
    "a standstill of 40 classes": Incident(
        3,
        Account(
            [each for n in range(40) for each in regularly(f"{n}c1gb30m", 20, 3, until=DAY)],
            standstill=[(HOUR, 3 * HOUR + 1)],
        ),
        fires={STALLED: "1h10m 1h32m 3h 3h"}, most=40,
        expect={'count(ALERTS{alertname="NextmvQueueStalled", alertstate="firing"})': 40},
    ),
    "one application that starves behind another": Incident(
        8,
        Account(
            [
                *regularly(DEFAULT, 4, 4, until=6 * HOUR, priority=3),
                *regularly(DEFAULT, 4, 4, start=1, until=6 * HOUR, priority=3),
                Run(HOUR, 5, DEFAULT, "starving", 9),
            ],
            {DEFAULT: 2},
        ),
        fires={OLD: "1h30m 1h37m 6h 6h5m"},
    ),
    "five minutes between scrapes": Incident(
        10, PUNCTUAL, [Exporter(every=5)], {RARE: "20m 50m 10h 10h"},
    ),
    "more than five minutes between scrapes, of which some fail": Incident(
        10, PUNCTUAL,
        [Exporter(every=5.5, outage=[(2 * HOUR, 2 * HOUR + 6)], down=[(4 * HOUR, 4 * HOUR + 6)])],
        {RARE: "20m 50m 10h 10h"}, interval=0.5,
    ),
    "a standstill, and five minutes between scrapes": Incident(
        4, standing_still(1, 4), [Exporter(every=5)],
        {RARE: "20m 50m 3h59m 4h", STALLED: "1h10m 1h25m 3h59m 4h"},
    ),
    "a pod that moves to another node in a standstill": Incident(
        5, standing_still(1, 4), moving(gap=2), {STALLED: "1h10m 1h15m 4h 4h3m"}, may=LATE,
    ),
    "a pod that moves to another node in a hang": Incident(
        5, hanging(DEFAULT, 1, 4), moving(gap=0), {HANG: "2h36m 2h45m 4h 4h3m"}, may=LATE,
    ),
    "a pod that moves to another node": Incident(6, PUNCTUAL, moving(gap=4)),
    "two replicas of which one cannot read the account, as its key was revoked": Incident(
        6, PUNCTUAL, replicas(outage=[(HOUR, 4 * HOUR)], reason="auth"),
        {PARTLY: "1h35m 2h15m 4h 4h40m"}, interval=0.5,
    ),
    "a week": Incident(168, week(), [Exporter(every=2)], interval=2),
    "a key that is revoked": Incident(
        5, PUNCTUAL, [Exporter(outage=[(HOUR, 3 * HOUR)], reason="auth")],
        {REJECTED: "1h10m 1h14m 3h 3h14m"},
    ),
    "an API that limits every fourth request": Incident(
        4, PUNCTUAL,
        [Exporter(outage=[(n, n + 1) for n in range(HOUR, 2 * HOUR, 4)], reason="rate_limited")],
        {"NextmvApiRateLimited": "1h10m 1h18m 1h55m 2h5m"},
    ),
    "an exporter that is down": Incident(
        4, PUNCTUAL, [Exporter(down=[(HOUR, 2 * HOUR)])], {DOWN: "1h5m 1h10m 2h 2h5m"},
    ),
    "an exporter that is gone": Incident(
        28, PUNCTUAL, [Exporter(target=(0, HOUR))],
        {"NextmvExporterAbsent": "1h15m 1h22m 24h54m 28h"},
    ),
    "an account that is gone while its exporter is scraped": Incident(
        26, Account(()), fires={"NextmvAccountVanished": "1h15m 1h25m 24h54m 25h6m"},
        more={'nextmv_up{job="nextmv-exporter", account="gone", instance="one"}': "1x59 stale"},
    ),
    "an account whose exporter is down while another is scraped": Incident(
        3, Account(()), fires={DOWN: "1h5m 1h10m 3h 3h"},
        more={
            'up{job="nextmv-exporter", instance="two"}': "1x59 0x120",
            'nextmv_up{job="nextmv-exporter", account="a", instance="two"}': "1x59 stale",
        },
    ),
    "malformed runs and folded groups": Incident(
        3, Account(()),
        fires=dict.fromkeys(("NextmvMalformedRuns", "NextmvGroupsFolded"), "1h15m 1h16m 2h 2h11m"),
        more={
            f'nextmv_account_queue_{each}{{account="default", instance="one"}}': "0x59 2x59 0x60"
            for each in ("malformed_runs", "folded_groups")
        },
    ),
    "histograms without buckets": Incident(
        2, PUNCTUAL, [Exporter(without=["_bucket"])],
        {"NextmvServiceLevelUnknown": "15m 30m 2h 2h"},
    ),
}
# fmt: on


@pytest.mark.parametrize("incident", INCIDENTS.values(), ids=INCIDENTS)
def test_alerts_of(incident: Incident, tmp_path: Path) -> None:
    series = scraped(
        incident.account,
        *incident.exporters,
        minutes=incident.hours * HOUR,
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
    seconds = f"{60 * incident.interval:g}s"
    test = {"interval": seconds, "input_series": series, "promql_expr_test": expected}
    evaluated = {"evaluation_interval": f"{incident.evaluated}m", "rule_files": [str(RULES)]}
    file = tmp_path / "incident.json"
    file.write_text(json.dumps(evaluated | {"tests": [test]}))
    run("promtool", "test", "rules", file)


def test_each_alert_is_seen_to_fire() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert {alert for incident in INCIDENTS.values() for alert in incident.fires} == alerts
