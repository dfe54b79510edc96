from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter.scrape.recent import RecentGroups
from nextmv_exporter.scrape.summary import Group


def group(name: str) -> Group:
    return Group("queued", "8c16gb120m", name)


A, B, C = map(group, "abc")


def test_nothing_is_remembered_at_first() -> None:
    assert RecentGroups(60, 10).at(0) == frozenset()


def test_a_group_is_remembered_for_the_retention_and_no_longer() -> None:
    recent = RecentGroups(60, 10)
    recent.saw([A], 100)
    assert recent.at(160) == {A}
    assert recent.at(160.1) == frozenset()


def test_a_group_seen_again_is_remembered_anew() -> None:
    recent = RecentGroups(60, 10)
    recent.saw([A, B], 100)
    recent.saw([A], 150)
    assert recent.at(170) == {A}


def test_without_retention_only_the_present_counts() -> None:
    recent = RecentGroups(0, 10)
    recent.saw([A], 100)
    assert recent.at(100.1) == frozenset()


def test_groups_longest_unseen_are_forgotten_beyond_the_limit() -> None:
    recent = RecentGroups(60, 2)
    recent.saw([A, B], 100)
    recent.saw([A], 101)
    recent.saw([C], 102)
    assert recent.at(102) == {A, C}


def test_what_is_too_old_takes_no_room() -> None:
    recent = RecentGroups(60, 2)
    recent.saw([A], 100)
    recent.saw([B, C], 200)
    assert recent.at(200) == {B, C}


sights = st.lists(
    st.tuples(st.frozensets(st.sampled_from("abcdefgh")), st.integers(0, 50)), max_size=20
)


@given(sights, st.integers(1, 8))
def test_memory_is_bounded_and_holds_only_what_was_seen_in_time(
    seen: list[tuple[frozenset[str], int]], limit: int
) -> None:
    recent, now, last = RecentGroups(60, limit), 0, dict[Group, int]()
    for names, pause in seen:
        now += pause
        recent.saw(map(group, names), now)
        last |= dict.fromkeys(map(group, names), now)
        remembered = recent.at(now)
        assert len(remembered) <= limit
        assert all(now - last[one] <= 60 for one in remembered)
        if len(last) <= limit:
            assert remembered == {one for one, when in last.items() if now - when <= 60}
