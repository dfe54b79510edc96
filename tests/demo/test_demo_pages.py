import base64
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter.demo import pages


@dataclass(frozen=True, order=True)
class Item:
    position: tuple[float, str]


positions = st.tuples(st.floats(1e9, 2e9), st.text(max_size=5))


@given(
    positions=st.lists(positions, unique=True, max_size=30),
    size=st.integers(1, 10),
    arrivals=st.integers(0, 5),
    vanishing=st.sets(st.integers(0, 29)),
)
def test_items_that_stay_are_visited_once_and_newest_first_whatever_comes_and_goes(
    positions: list[tuple[float, str]], size: int, arrivals: int, vanishing: set[int]
) -> None:
    items = sorted(Item(position) for position in positions)
    staying = [item for index, item in enumerate(items) if index not in vanishing]
    visited, token = pages.turn(items, "", size)
    now = 2e9
    items = staying
    while token:
        for _ in range(arrivals):
            now += 1
            items = [*items, Item((now, "new"))]
        page, token = pages.turn(items, token, size)
        visited += page
    assert [item for item in visited if item in staying] == staying[::-1]
    assert len(visited) == len(set(visited))


def test_pages_are_full_until_the_last() -> None:
    items = [Item((float(number), "")) for number in range(7)]
    first, token = pages.turn(items, "", 3)
    second, token = pages.turn(items, token, 3)
    third, token = pages.turn(items, token, 3)
    assert [len(page) for page in (first, second, third)] == [3, 3, 1]
    assert token == ""


def test_a_listing_that_fits_has_no_next_page() -> None:
    items = [Item((float(number), "")) for number in range(3)]
    assert pages.turn(items, "", 3) == (items[::-1], "")
    assert pages.turn([], "", 3) == ([], "")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"3", b"[1]", b'["x", "y"]', b"[null, null]", b"\xff", b"[1, 2, 3]"]
)
def test_a_token_never_given_out_is_refused(content: bytes) -> None:
    token = base64.urlsafe_b64encode(content).decode() or "x"
    with pytest.raises(pages.InvalidTokenError):
        pages.turn([Item((1.0, "a"))], token, 3)
