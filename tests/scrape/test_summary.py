"""Summaries of runs at a given time, beyond what random histories show."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import NOW, moment, run

from nextmv_exporter.nextmv import StatusV2
from nextmv_exporter.nextmv.errors import InvalidResponseError
from nextmv_exporter.scrape.runs import Run, parse_queue
from nextmv_exporter.scrape.summary import (
    MAX_LABEL_GROUPS,
    MAX_LABEL_LENGTH,
    Backlog,
    Group,
    Summary,
    summarise,
    take_snapshot,
)

BOUNDS = (5.0, 60.0, 3600.0)
MINUTE_AGO = "2026-11-23T11:59:00Z"


def summary(*runs: Run, max_groups: int = 2000, **options: Any) -> Summary:
    snapshot = take_snapshot(runs, NOW)
    return summarise(snapshot, wait_buckets=BOUNDS, max_groups=max_groups, **options)


@pytest.mark.parametrize(
    ("created_at", "age"),
    [
        ("2026-11-23T11:59:00Z", 60),
        ("2026-11-23T12:59:00+01:00", 60),
        ("2026-11-22T23:59:00-12:00", 60),
        ("2026-11-23T11:59:00", 60),  # without an offset it is UTC
        ("2026-11-23T11:59:59.5Z", 0.5),
        ("2026-11-23T11:59:59.500000000Z", 0.5),
        ("2026-11-23T12:01:00Z", -60),
        ("2000-01-01T00:00:00Z", 848750400),
        ("2000-01-01T00:30:00+01:00", None),
        ("1999-12-31T23:59:59.999999Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", -251606865599),
        ("2026-11-23", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_the_age_of_a_run_is_counted_from_its_created_at(
    created_at: str | None, age: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    found = summary(run("queued", "c", "a", created_at, "x"))
    oldest = {} if age is None else {Backlog("c", "a"): NOW - age}
    assert found.oldest == pytest.approx(oldest)
    assert found.malformed == (age is None)
    waits = [0 if age is None else int(age <= bound) for bound in BOUNDS]
    assert list(found.waits["c"]) == [*waits, 1]


@given(st.integers(946_857_600, 4_102_444_800), st.integers(-1439, 1439))
def test_every_way_to_write_a_moment_is_the_same_moment(second: int, minutes: int) -> None:
    utc = datetime.fromtimestamp(second + 0.25, UTC)
    there = utc.astimezone(timezone(timedelta(minutes=minutes)))
    runs = [
        run("running", "c", "a", each.isoformat(), "x")
        for each in (utc.replace(tzinfo=None), there)
    ]
    times = take_snapshot(runs, NOW).groups[Group("running", "c", "a")].created
    assert list(times) == [utc, utc]


@pytest.mark.parametrize(
    ("status", "label", "malformed"),
    [
        *[(status.value, status.value, False) for status in StatusV2],
        *[(status.value.upper(), status.value, False) for status in StatusV2],
        ("Paused", "Paused", False),
        ("", "unknown", True),
        (None, "unknown", True),
        (17, "unknown", True),
        ({"a": []}, "unknown", True),
    ],
)
def test_a_status_is_known_in_any_case_and_passes_through_if_it_is_not(
    status: object, label: str, malformed: bool
) -> None:
    fields = {"execution_class": "", "application_id": None, "created_at": MINUTE_AGO}
    body = json.dumps({"runs": [fields | {"status_v2": status}, fields, 5, None]}).encode()
    found = summary(*parse_queue(body))
    assert found.length[Group(label, "unknown", "unknown")] == (4 if malformed else 1)
    assert sum(found.length.values()) == found.malformed == 4
    assert {"queued", "running"} <= found.runs.keys()


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a" * 10_000, "a" * MAX_LABEL_LENGTH),
        ("a\0b\ud800", "a\ufffdb\ufffd"),
        ('tab\t quote" backslash\\ line\n é 漢', 'tab\t quote" backslash\\ line\n é 漢'),
    ],
)
def test_a_label_is_what_every_parser_accepts(text: str, label: str) -> None:
    found = summary(Run(text, text, text, moment(MINUTE_AGO), "x"))
    assert found.length == {Group(label, label, label): 1}


def groups(**lengths: int) -> list[Run]:
    """So many queued runs of each application, the first of them older than the last."""
    return [
        run("queued", "c", app, f"2026-11-23T11:{minute:02}:00Z", f"{app}-{minute}")
        for app, number in lengths.items()
        for minute in range(number)
    ]


def test_a_backlog_of_which_some_runs_are_folded_or_ageless_tells_no_age_rather_than_0() -> None:
    queued, running = Backlog("c", "a"), Backlog("c", "b")
    runs = [run("queued", "c", "a", None), run("running", "c", "a", MINUTE_AGO)]
    found = summary(*runs, run("running", "c", "b", None))
    assert found.oldest == {running: None}
    assert found.oldest_running == {queued: NOW - 60}
    runs = [*groups(a=1), *[run("running", "c", "a", MINUTE_AGO)] * 3, *groups(b=4)]
    assert queued not in summary(*runs, max_groups=2).oldest


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8])
def test_classes_and_statuses_are_folded_too_if_there_are_too_many(most: int) -> None:
    names = ("queued", "running", "failed", "paused")
    runs = [run(s, f"class-{c}", a, MINUTE_AGO) for s in names for c in range(5) for a in "ab"]
    found = summary(*runs, max_groups=most)
    assert len(found.length) <= max(most, 3)
    assert sum(found.length.values()) == len(runs)
    assert found.runs["queued"] == found.runs["running"] == 10
    for oldest in (found.oldest, found.oldest_running):
        assert max(filter(None, oldest.values())) == NOW - 60


def test_the_order_of_runs_does_not_matter() -> None:
    runs = [*groups(a=2, b=2, d=2, e=1), run("running", "c", "a", None)]
    assert summary(*runs, max_groups=3) == summary(*reversed(runs), max_groups=3)


def test_groups_without_end_are_refused() -> None:
    runs = (Run(application_id=f"{number}") for number in count())
    with pytest.raises(InvalidResponseError, match="label groups"):
        take_snapshot(runs, NOW)
    assert next(runs).application_id == f"{MAX_LABEL_GROUPS + 1}"
