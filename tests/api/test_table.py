"""The table of `nextmv-queue`: pure text, for terminals of any width."""

from datetime import UTC, datetime, timedelta
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter.nextmv import QueuedRun
from nextmv_exporter.nextmv.table import age, printable, table

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RUN = QueuedRun(
    id="latest-sOOrLJ32W",
    user_email="planner@northwind.example",
    name="Overtime scenario, Leipzig",
    created_at=NOW - timedelta(minutes=22),
    application_id="production-planning",
    application_instance_id="production",
    application_version_id="v2.4.0",
    execution_class="6c9500mb870s",
    status_v2="queued",
)


def lines(*runs: QueuedRun, wide: bool = False, width: int | None = None) -> list[str]:
    return list(table(runs or [RUN], NOW, wide=wide, width=width))


def created(**ago: int) -> QueuedRun:
    return QueuedRun(created_at=NOW - timedelta(**ago))


def columns(text: str) -> int:
    """Columns that a terminal needs for text of the characters that these tests use."""
    return sum(2 if char in "日本語計画" else category(char) not in ("Mn", "Me") for char in text)


def test_a_run_is_a_line_under_a_header() -> None:
    assert lines(RUN.model_copy(update={"name": "Cover"})) == [
        "ID                STATUS  AGE    CLASS         APPLICATION          INSTANCE    NAME",
        "latest-sOOrLJ32W  queued  22m0s  6c9500mb870s  production-planning  production  Cover",
    ]


def test_versions_and_addresses_are_shown_only_when_wide() -> None:
    assert "planner@" not in "".join(lines())
    assert "v2.4.0" not in "".join(lines())
    header, line = lines(wide=True)
    assert header.split()[5:] == ["INSTANCE", "VERSION", "USER", "NAME"]
    assert "  v2.4.0   planner@northwind.example  Overtime" in line


def test_what_is_missing_is_named_as_in_the_metrics_or_a_dash() -> None:
    assert lines(QueuedRun())[1].split() == ["-", "unknown", "-", "unknown", "unknown", "-", "-"]


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (created(seconds=0), "0s"),
        (created(seconds=45), "45s"),
        (created(seconds=60), "1m0s"),
        (created(minutes=12, seconds=30), "12m30s"),
        (created(hours=3, minutes=5, seconds=9), "3h5m"),
        (created(days=1), "1d0h"),
        (created(days=2, minutes=59), "2d0h"),
        (created(days=400, hours=5), "400d5h"),
        (created(hours=-1), "0s"),
        (QueuedRun(), None),
        (QueuedRun.from_dict({"created_at": "0001-01-01T00:00:00Z"}), None),
    ],
)
def test_an_age_has_its_two_largest_units(run: QueuedRun, text: str | None) -> None:
    assert age(run, NOW) == text


def test_the_name_is_cut_first_where_it_is_the_longest() -> None:
    assert lines(width=99)[1].endswith("  production-planning  production  Overtime scenario,…")


def test_every_column_is_there_on_a_terminal_of_80_columns() -> None:
    header, line = lines(width=80)
    assert header.split() == ["ID", "STATUS", "AGE", "CLASS", "APPLICATI…", "INSTANCE", "NAME"]
    assert line.split(maxsplit=6)[3:] == ["6c9500mb870s", "productio…", "producti…", "Overtime …"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (44, "latest-sOOrLJ32W  queued  22m0s"),
        (45, "latest-sOOrLJ32W  queued  22m0s  6c9500mb870s"),
        (54, "latest-sOOrLJ32W  queued  22m0s  6c9500mb870s"),
        (55, "latest-sOOrLJ32W  queued  22m0s  6c9500mb870s  product…"),
        (64, "latest-sOOrLJ32W  queued  22m0s  6c9500mb870s  production-plann…"),
        (65, "latest-sOOrLJ32W  queued  22m0s  6c9500mb870s  product…  product…"),
    ],
)
def test_a_column_is_shown_where_it_has_room_for_eight_characters(width: int, shown: str) -> None:
    assert lines(width=width)[1] == shown


def test_a_narrow_terminal_shows_fewer_columns_and_never_cuts_the_id() -> None:
    assert lines(width=30)[1] == "latest-sOOrLJ32W  queued  22m0s"
    assert lines(width=1)[1] == "latest-sOOrLJ32W  queued  22m0s"


def test_wide_and_combining_characters_take_the_columns_that_they_take() -> None:
    wide = RUN.model_copy(update={"application_id": "日本語計画", "name": "one"})
    combining = RUN.model_copy(update={"application_id": "cafe\u0301", "name": "two"})
    enclosing = RUN.model_copy(update={"application_id": "plan 1\u20dd", "name": "three"})
    header, *rows = lines(wide, combining, enclosing)
    places = {columns(row[: row.rindex("  ")]) for row in rows}
    assert places == {header.index("NAME") - 2}


def test_a_wide_character_is_not_cut_in_half() -> None:
    run = QueuedRun(id="a", application_id="日本語計画" * 3, name="n")
    for width in range(30, 70):
        assert all(columns(line) <= width for line in lines(run, width=width))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Plan\n2", "Plan 2"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("\x1b]0;title\x07x", "]0;title x"),
        ("\x9b2J", "2J"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\u0000b\u2028c\u00a0d", "a b c d"),
        ("計画 é", "計画 é"),
    ],
    ids=ascii,
)
def test_no_control_character_reaches_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    for field in ("id", "name", "status_v2", "execution_class", "application_id"):
        assert lines(RUN.model_copy(update={field: text}))[1].isprintable()


TEXT = st.none() | st.text(max_size=40)
RUNS = st.builds(
    QueuedRun,
    **dict.fromkeys(("id", "name", "status_v2", "execution_class", "application_id"), TEXT),
    created_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(st.lists(RUNS, max_size=5), st.integers(1, 200), st.booleans())
def test_whatever_the_runs_hold_each_is_one_line_with_its_whole_id(
    runs: list[QueuedRun], width: int, wide: bool
) -> None:
    header, *rows = table(runs, NOW, wide=wide, width=width)
    assert header.startswith("ID")
    assert len(rows) == len(runs)
    for run, row in zip(runs, rows, strict=True):
        assert row.isprintable()
        assert row.startswith(printable(run.id or "") or "-")
