"""From runs to numbers: what every dashboard and alert rests on."""

import importlib
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st
from support import outcomes
from support.outcomes import moment as parse_moment

from nextmv_exporter.nextmv import StatusV2
from nextmv_exporter.nextmv.errors import InvalidResponseError
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.summary import (
    MAX_LABEL_LENGTH,
    OTHER,
    QUEUED,
    RUNNING,
    UNKNOWN,
    Backlog,
    Group,
    Summary,
    created_timestamp,
    summarise,
    take_snapshot,
)

MIB = 1024 * 1024
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
BOUNDS = (5.0, 60.0, 3600.0)
CLASS, APP = "8c16gb120m", "routing"
MINUTE_AGO = "2026-11-23T11:59:00Z"
ZERO_TIME = "0001-01-01T00:00:00Z"
ROUTING = Backlog(CLASS, APP)

texts = st.text(st.characters(exclude_categories=["Cs"]))  # what JSON can hold


def run(
    status_v2: str | None = QUEUED,
    created_at: str | None = MINUTE_AGO,
    execution_class: str | None = CLASS,
    application_id: str | None = APP,
) -> Run:
    return outcomes.run(status_v2, execution_class, application_id, created_at)


def summary(
    *runs: Run,
    now: float = NOW,
    wait_buckets: Sequence[float] = BOUNDS,
    max_groups: int = 2000,
    recent: Collection[Group] = (),
) -> Summary:
    snapshot = take_snapshot(runs, now)
    return summarise(snapshot, wait_buckets=wait_buckets, max_groups=max_groups, recent=recent)


def age(created_at: str | None) -> float | None:
    """The age that a lone queued run is told to have; None if it has none."""
    oldest = summary(run(created_at=created_at), now=time.time()).oldest
    created = oldest.get(ROUTING)
    return None if created is None else max(0.0, time.time() - created)


def iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat()


# Ages


@freeze_time("2026-11-23T12:00:00Z")
@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [
        pytest.param("2026-11-23T11:58:30Z", 90, id="Z"),
        pytest.param("2026-11-23t11:58:30z", 90, id="lower case t and z"),
        pytest.param("2026-11-23T13:58:30+02:00", 90, id="offset east"),
        pytest.param("2026-11-23T06:28:30-05:30", 90, id="offset west"),
        pytest.param("2026-11-24T01:00:00+14:00", 3600, id="offset into another day"),
        pytest.param("2026-11-23T11:58:30.5Z", 89.5, id="tenths"),
        pytest.param("2026-11-23T11:58:30.250Z", 89.75, id="milliseconds"),
        pytest.param("2026-11-23T11:58:30.123456Z", 89.876544, id="microseconds"),
        pytest.param("2026-11-23T11:58:30.123456789Z", 89.876544, id="nanoseconds"),
        pytest.param("2026-11-23T11:58:30.123456789+00:00", 89.876544, id="nanoseconds, offset"),
        pytest.param("2026-11-23T11:58:30", 90, id="no offset is UTC"),
        pytest.param("2026-11-23T11:58:30.000000001", 90, id="no offset, nanoseconds"),
        pytest.param("2026-11-23 11:58:30Z", 90, id="space between date and time"),
        pytest.param("2026-11-23T12:00:00Z", 0, id="now"),
        pytest.param("2026-11-23T12:00:01Z", 0, id="future"),
        pytest.param("2099-01-01T00:00:00Z", 0, id="far future"),
        pytest.param("9999-12-31T23:59:59-14:00", 0, id="after the last year"),
        pytest.param("2000-01-01T00:00:00Z", 848_750_400, id="the year 2000"),
    ],
)
def test_age_is_counted_from_created_at(created_at: str, seconds: float) -> None:
    assert age(created_at) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kolkata"])
def test_the_machines_time_zone_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert created_timestamp(parse_moment("2026-11-23T12:00:00")) == NOW
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "created_at",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param(ZERO_TIME, id="Go's zero time"),
        pytest.param("0001-01-01T00:00:00", id="Go's zero time without an offset"),
        pytest.param("0001-01-01T00:00:00+14:00", id="before the first year"),
        pytest.param("1999-12-31T23:59:59.999999Z", id="just before 2000"),
        pytest.param("1970-01-01T00:00:00Z", id="unix epoch"),
        pytest.param("1764892800", id="unix seconds"),
        pytest.param("2026-02-30T00:00:00Z", id="a day that is not"),
        pytest.param("2026-11-23T25:00:00Z", id="an hour that is not"),
        pytest.param("yesterday", id="words"),
        pytest.param("2026-11-23T12:00:00Z and more", id="more after it"),
        pytest.param(" 2026-11-23T12:00:00Z", id="space before it"),
        pytest.param("2026-11-23T12:00:00+99:00", id="an offset that is not"),
        pytest.param("\0", id="NUL"),
    ],
)
def test_a_created_at_that_is_unusable_gives_no_age_and_is_malformed(
    created_at: str | None,
) -> None:
    numbers = summary(run(created_at=created_at))
    assert ROUTING not in numbers.oldest
    assert numbers.malformed == 1
    assert numbers.length == {Group(QUEUED, *ROUTING): 1}


@given(texts | st.datetimes().map(str) | st.from_regex(r"\d{4}-\d\d-\d\dT[\d:.]+Z?"))
def test_no_created_at_raises(text: str) -> None:
    timestamp = created_timestamp(parse_moment(text))
    assert timestamp is None or (math.isfinite(timestamp) and timestamp >= 946_684_800)


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2200, 1, 1)),  # noqa: DTZ001 - made aware below
    st.integers(-14 * 60, 14 * 60),
)
def test_every_way_to_write_a_moment_is_the_same_moment(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    local = aware.astimezone(timezone(timedelta(minutes=minutes)))
    for text in (local.isoformat(), moment.isoformat() + "Z", moment.isoformat()):
        assert created_timestamp(parse_moment(text)) == aware.timestamp()


def test_the_oldest_queued_run_is_told_for_each_class_and_application() -> None:
    numbers = summary(
        run(created_at=iso(NOW - 30)),
        run(created_at=iso(NOW - 90)),
        run(created_at=iso(NOW - 60)),
        run(created_at=iso(NOW - 500), application_id="other"),
        run("running", created_at=iso(NOW - 9000)),
    )
    assert numbers.oldest == {ROUTING: NOW - 90, Backlog(CLASS, "other"): NOW - 500}


def test_running_runs_alone_leave_a_backlog_without_an_oldest_run() -> None:
    assert summary(run("running")).oldest == {ROUTING: None}


def test_a_backlog_whose_queued_runs_have_no_age_tells_none_rather_than_0() -> None:
    numbers = summary(run(created_at=None), run("running"), run(application_id="other"))
    assert numbers.oldest == {Backlog(CLASS, "other"): NOW - 60}


def test_one_known_age_is_enough_for_the_oldest_run() -> None:
    assert summary(run(created_at=None), run()).oldest == {ROUTING: NOW - 60}


# Labels


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("field", ["status_v2", "execution_class", "application_id"])
def test_a_label_that_is_missing_or_empty_is_unknown_and_the_run_is_malformed(
    field: str, value: str | None
) -> None:
    bad = run()
    setattr(bad, field, value)
    numbers = summary(bad, run())
    expected = Group(QUEUED, *ROUTING)._replace(**{field: UNKNOWN})
    assert numbers.length == {expected: 1, Group(QUEUED, *ROUTING): 1}
    assert numbers.malformed == 1


def test_a_run_with_several_faults_is_one_malformed_run() -> None:
    assert summary(Run(), run(created_at=None, application_id="")).malformed == 2
    assert summary(Run()).length == {Group("unknown", "unknown", "unknown"): 1}


def test_missing_and_empty_labels_count_in_the_same_group() -> None:
    numbers = summary(run(application_id=None), run(application_id=""), run(application_id=UNKNOWN))
    assert numbers.length == {Group(QUEUED, CLASS, UNKNOWN): 3}
    assert numbers.malformed == 2


@pytest.mark.parametrize("status", ["queued", "QUEUED", "Queued", "qUeUeD"])
def test_a_status_is_known_in_any_case(status: str) -> None:
    numbers = summary(run(status), run())
    assert numbers.length == {Group(QUEUED, *ROUTING): 2}
    assert numbers.oldest == {ROUTING: NOW - 60}
    assert numbers.malformed == 0


@pytest.mark.parametrize("status", StatusV2)
def test_each_status_of_nextmvs_is_written_in_lower_case(status: StatusV2) -> None:
    assert summary(run(status.upper())).length == {Group(status.value, *ROUTING): 1}


def test_the_year_2000_begins_at_its_first_moment() -> None:
    first, last = "2000-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z"
    of_2000 = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
    assert summary(run(created_at=first)).oldest == {ROUTING: of_2000}
    numbers = summary(run(created_at=first), run(created_at=last), run(created_at=None))
    assert (numbers.oldest, numbers.malformed) == ({ROUTING: of_2000}, 2)


def test_a_status_that_is_none_of_them_passes_through_as_it_is() -> None:
    numbers = summary(run("Paused"), run("PAUSED"), run("none"), run("NONE"))
    assert numbers.runs == {"queued": 0, "running": 0, "Paused": 1, "PAUSED": 1, "none": 2}
    assert numbers.malformed == 0


@pytest.mark.parametrize(("max_bytes", "most"), [(MIB, 3), (64 * MIB, 47)])
def test_what_groups_may_take_grows_with_the_response_allowed_and_their_labels_count_twice(
    max_bytes: int, most: int
) -> None:
    runs = (run(application_id=f"{number:03}{'x' * MIB}") for number in range(100))
    with pytest.raises(InvalidResponseError, match=f"^too many label groups: more than {most}$"):
        take_snapshot(runs, NOW, max_bytes=max_bytes)


def test_queued_and_running_are_there_in_an_empty_queue() -> None:
    numbers = summary()
    assert numbers.runs == {"queued": 0, "running": 0}
    assert numbers.length == {}
    assert numbers.oldest == {}
    assert numbers.waits == {}
    assert numbers.malformed == numbers.folded == 0


def test_a_label_of_any_length_is_cut() -> None:
    numbers = summary(run(application_id="a" * 10_000), run(application_id="a" * MAX_LABEL_LENGTH))
    assert numbers.length == {Group(QUEUED, CLASS, "a" * MAX_LABEL_LENGTH): 2}


@pytest.mark.parametrize("unsafe", [0, 0xD800, 0xDFFF], ids=hex)
def test_characters_that_no_exposition_can_hold_are_replaced(unsafe: int) -> None:
    assert summary(run(application_id=f"a{chr(unsafe)}b")).length == {
        Group(QUEUED, CLASS, "a\ufffdb"): 1
    }


# Waits


def test_a_wait_counts_in_every_bucket_it_does_not_exceed() -> None:
    waits = summary(
        *(run(created_at=iso(NOW - seconds)) for seconds in (0, 5, 6, 60, 3600, 3601))
    ).waits[CLASS]
    assert waits.buckets == [2, 4, 5]
    assert waits.count == 6
    assert waits.sum == 0 + 5 + 6 + 60 + 3600 + 3601


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from([-9, 0, 5, 6, 60, 61, 9999])),
        max_size=8,
    )
)
def test_waits_are_those_of_all_applications_of_a_class(
    runs: Sequence[tuple[str, int | None]],
) -> None:
    queued = [
        run(created_at=None if wait is None else iso(NOW - wait), application_id=application)
        for application, wait in runs
    ]
    known = [max(0, wait) for _, wait in runs if wait is not None]
    for waits in summary(*queued).waits.values():
        assert waits.buckets == [sum(wait <= bound for wait in known) for bound in BOUNDS]
        assert (waits.count, waits.sum) == (len(runs), sum(known))


def test_a_run_from_the_future_has_waited_for_0_seconds() -> None:
    waits = summary(run(created_at=iso(NOW + 100)), run(created_at=iso(NOW - 10))).waits[CLASS]
    assert (waits.buckets, waits.count, waits.sum) == ([1, 2, 2], 2, 10)


def test_any_number_of_runs_from_any_year_is_summed() -> None:
    future = [run(created_at="9999-12-31T23:59:59Z")] * 400
    waits = summary(*future, run(created_at=iso(NOW - 10))).waits[CLASS]
    assert (waits.buckets, waits.count, waits.sum) == ([400, 401, 401], 401, 10)
    number = 120_000
    waits = summary(*[run(created_at="2000-01-01T00:00:00Z")] * number, *future).waits[CLASS]
    since = NOW - datetime(2000, 1, 1, tzinfo=UTC).timestamp()
    assert (waits.buckets, waits.count) == ([400] * 3, number + 400)
    assert waits.sum == pytest.approx(number * since)


def test_waits_of_less_than_a_second_are_summed_too() -> None:
    waits = summary(*(run(created_at=iso(NOW - wait)) for wait in (0.25, 0.5, 100))).waits[CLASS]
    assert (waits.buckets, waits.sum) == ([2, 2, 3], 100.75)


def test_a_queued_run_without_an_age_is_in_the_last_bucket_only() -> None:
    waits = summary(run(created_at=None), run()).waits[CLASS]
    assert (waits.buckets, waits.count, waits.sum) == ([0, 1, 1], 2, 60)


def test_only_queued_runs_wait() -> None:
    numbers = summary(run("running"), run("failed"), run("Paused"))
    assert numbers.waits[CLASS].count == 0
    assert numbers.waits[CLASS].buckets == [0, 0, 0]
    assert numbers.waits[CLASS].sum == 0


def test_waits_are_told_for_each_execution_class() -> None:
    waits = summary(run(), run(application_id="other"), run(execution_class="2c4gb10m")).waits
    assert {name: wait.count for name, wait in waits.items()} == {CLASS: 2, "2c4gb10m": 1}


# Groups lately seen


def test_a_group_seen_recently_and_empty_now_is_told_as_0() -> None:
    drained = Group(QUEUED, "gone", "gone")
    numbers = summary(run(), recent=[drained, Group(QUEUED, *ROUTING)])
    assert numbers.length == {Group(QUEUED, *ROUTING): 1, drained: 0}
    assert numbers.oldest == {ROUTING: NOW - 60, Backlog("gone", "gone"): None}
    assert numbers.waits["gone"].count == 0
    assert numbers.runs == {"queued": 1, "running": 0}


def test_recent_groups_never_push_out_real_ones() -> None:
    recent = [Group(QUEUED, CLASS, f"gone-{n}") for n in range(9)]
    numbers = summary(run(), run("running"), max_groups=3, recent=recent)
    assert len(numbers.length) == 3
    assert sum(numbers.length.values()) == 2
    assert numbers.folded == 0


def test_a_recent_group_that_is_folded_now_is_not_told_as_0() -> None:
    runs = [run(application_id=f"app-{n}") for n in range(9)]
    folded_one = Group(QUEUED, CLASS, "app-8")
    numbers = summary(*runs, max_groups=3, recent=[folded_one])
    assert folded_one not in numbers.length


# Folding


def applications(*lengths: int, status: str = QUEUED) -> list[Run]:
    return [
        run(status, created_at=iso(NOW - 10 * (number + 1)), application_id=f"app-{number}")
        for number, length in enumerate(lengths)
        for _ in range(length)
    ]


def test_as_many_groups_as_allowed_are_not_folded() -> None:
    numbers = summary(*applications(1, 2, 3), max_groups=3)
    assert len(numbers.length) == 3
    assert numbers.folded == 0


def test_the_longest_groups_are_kept_and_the_rest_folded() -> None:
    numbers = summary(*applications(1, 5, 2, 4, 1), max_groups=3)
    assert numbers.length == {
        Group(QUEUED, CLASS, "app-1"): 5,
        Group(QUEUED, CLASS, "app-3"): 4,
        Group(QUEUED, CLASS, OTHER): 4,
    }
    assert numbers.folded == 3


def test_of_equally_long_groups_the_same_are_kept_whatever_their_order() -> None:
    runs = applications(*[1] * 9)
    forwards, backwards = (summary(*order, max_groups=4) for order in (runs, runs[::-1]))
    assert forwards.length == backwards.length
    assert forwards.oldest == backwards.oldest


def test_labels_that_never_recur_are_cached_in_limited_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module(summarise.__module__)
    monkeypatch.setattr(module, "_MAX_CACHED", 3)
    cached: dict[object, Group] = {}
    monkeypatch.setattr(module, "_groups", cached)
    for number in range(20):
        assert summary(run(application_id=f"app-{number}")).runs[QUEUED] == 1
        assert len(cached) == number % 3 + 1


def test_a_folded_group_keeps_the_oldest_run_of_those_in_it() -> None:
    numbers = summary(*applications(3, 1, 1, 1), max_groups=2)
    assert numbers.oldest == {
        ROUTING._replace(application_id="app-0"): NOW - 10,
        Backlog(CLASS, "__other__"): NOW - 40,
    }


def test_waits_and_totals_are_the_same_folded_or_not() -> None:
    runs = [*applications(3, 1, 1, 1), *applications(2, 2, status="running")]
    folded, whole = summary(*runs, max_groups=3), summary(*runs)
    assert folded.waits == whole.waits
    assert folded.runs == whole.runs
    assert folded.malformed == whole.malformed


def test_folding_is_per_status_and_class() -> None:
    runs = [*applications(1, 1, 1), *applications(1, 1, 1, status="running")]
    numbers = summary(*runs, max_groups=2)
    assert numbers.length == {Group(QUEUED, CLASS, OTHER): 3, Group("running", CLASS, OTHER): 3}
    assert numbers.folded == 6


def test_a_backlog_whose_queued_runs_are_folded_tells_no_age_of_its_own() -> None:
    """Its running runs are still there, and 0 would say that none is queued."""
    runs = [run("running"), run("running"), *applications(1, 1), run(created_at=iso(NOW - 999))]
    numbers = summary(*runs, max_groups=2)
    assert Group("running", *ROUTING) in numbers.length
    assert ROUTING not in numbers.oldest
    assert numbers.oldest[Backlog(CLASS, OTHER)] == NOW - 999


def test_an_application_named_as_the_folded_ones_are_is_one_of_them() -> None:
    numbers = summary(*applications(3, 1), run(application_id=OTHER), max_groups=2)
    assert numbers.length[Group(QUEUED, CLASS, OTHER)] == 2
    assert numbers.oldest[Backlog(CLASS, OTHER)] == NOW - 60


def test_many_classes_are_folded_too() -> None:
    runs = [run(execution_class=f"class-{n}") for n in range(50)]
    numbers = summary(*runs, run("running"), max_groups=5)
    assert len(numbers.length) <= 5
    assert numbers.length[Group(QUEUED, OTHER, OTHER)] >= 45
    assert numbers.runs == {"queued": 50, "running": 1}


def test_many_statuses_are_folded_too() -> None:
    runs = [run(f"status-{n}") for n in range(50)]
    numbers = summary(*runs, max_groups=5)
    assert len(numbers.length) <= 5
    assert numbers.length[Group(OTHER, OTHER, OTHER)] >= 45
    assert sum(numbers.runs.values()) == 50


def test_a_single_group_holds_everything_of_one_kind_if_no_more_is_allowed() -> None:
    numbers = summary(run("failed"), run("none"), run("Paused"), max_groups=1)
    assert numbers.length == {Group(OTHER, OTHER, OTHER): 3}
    numbers = summary(run(), run(application_id="b"), run(execution_class="c"), max_groups=1)
    assert numbers.length == {Group(QUEUED, OTHER, OTHER): 3}


# Properties

labels = st.sampled_from([None, "", "a", "b", "c", "d", "e", UNKNOWN]) | st.text(max_size=3)
statuses = st.sampled_from([None, "", "queued", "QUEUED", "running", "failed", "Paused", "x", "y"])
moments = (
    st.none()
    | st.sampled_from(["", "garbage", ZERO_TIME, "2026-11-23T11:59:00"])
    | st.integers(-7200, 86400).map(lambda ago: iso(NOW - ago))
)
any_runs = st.lists(st.builds(outcomes.run, statuses, labels, labels, moments), max_size=40)
limits = st.integers(1, 12)
recents = st.frozensets(st.builds(Group, *[st.sampled_from(["a", "b", "queued"])] * 3), max_size=5)


def is_queued(one: Run) -> bool:
    return (one.status_v2 or "").lower() == QUEUED


def known_ages(runs: Iterable[Run]) -> list[float]:
    return [created for one in runs if (created := created_timestamp(one.created_at)) is not None]


@given(any_runs, limits, recents)
def test_lengths_add_up_to_the_number_of_runs(
    runs: list[Run], limit: int, recent: frozenset[Group]
) -> None:
    numbers = summary(*runs, max_groups=limit, recent=recent)
    assert sum(numbers.length.values()) == len(runs)
    assert sum(numbers.runs.values()) == len(runs)
    kinds = {status if status in (QUEUED, RUNNING) else OTHER for status in numbers.runs}
    assert len(numbers.length) <= max(limit, len(kinds))


@given(any_runs, limits)
def test_the_last_bucket_holds_every_queued_run(runs: list[Run], limit: int) -> None:
    numbers = summary(*runs, max_groups=limit)
    queued = sum(map(is_queued, runs))
    waiting = sum(waits.count for waits in numbers.waits.values())
    assert numbers.runs[QUEUED] == queued == waiting
    for waits in numbers.waits.values():
        assert list(waits.buckets) == sorted(waits.buckets)
        assert all(n <= waits.count for n in waits.buckets)
        assert waits.sum >= 0


@pytest.mark.parametrize("most", [1, 2, 3])
def test_queued_and_running_runs_keep_ages_and_waits_with_the_fewest_groups(most: int) -> None:
    runs = [run(status, application_id=app) for status in "abc" for app in "xy"]
    runs += [run(), run(application_id="z"), run("running"), run("running", execution_class="k")]
    numbers = summary(*runs, max_groups=most)
    folded = [Group(status, OTHER, OTHER) for status in (QUEUED, "running", OTHER)]
    assert numbers.length == dict(zip(folded, (2, 2, 6), strict=True))
    assert numbers.runs == {QUEUED: 2, "running": 2, OTHER: 6}
    assert numbers.waits[OTHER].count == 2
    assert set(numbers.oldest.values()) == set(numbers.oldest_running.values()) == {NOW - 60}


@given(any_runs, st.integers(3, 12))
def test_folding_keeps_the_sum_of_each_status(runs: list[Run], limit: int) -> None:
    whole, folded = summary(*runs), summary(*runs, max_groups=limit)
    if not any(group.status_v2 == OTHER for group in folded.length):
        assert folded.runs == whole.runs
    assert sum(folded.runs.values()) == len(runs)
    for status in (QUEUED, RUNNING):
        assert folded.runs[status] == whole.runs[status]
    for status in set(folded.runs) - {OTHER}:
        of_status = sum(n for group, n in folded.length.items() if group.status_v2 == status)
        assert of_status == folded.runs[status]


@given(any_runs, limits)
def test_folding_keeps_the_greatest_age(runs: list[Run], limit: int) -> None:
    numbers = summary(*runs, max_groups=limit)
    ages = known_ages(filter(is_queued, runs))
    told = [created for created in numbers.oldest.values() if created is not None]
    if not any(group.status_v2 == OTHER for group in numbers.length):
        assert min(told, default=None) == min(ages, default=None)


@given(any_runs)
def test_no_run_is_malformed_twice(runs: list[Run]) -> None:
    bad = sum(
        not (one.status_v2 and one.execution_class and one.application_id)
        or created_timestamp(one.created_at) is None
        for one in runs
    )
    assert summary(*runs).malformed == bad


@given(any_runs)
def test_lengths_are_those_of_a_plain_count(runs: list[Run]) -> None:
    plain = Counter(QUEUED if is_queued(one) else (one.status_v2 or UNKNOWN) for one in runs)
    assert {status: n for status, n in summary(*runs).runs.items() if n} == plain
