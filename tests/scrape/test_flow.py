"""The flow of runs assembled from pages; that of a single response is in the random histories."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import NOW, run

from nextmv_exporter.scrape.flow import Baseline, Change, compare
from nextmv_exporter.scrape.summary import Backlog, Group, take_snapshot

INTERVAL = 15.0
HERE = Backlog("c", "a")
QUEUED, RUNNING = Group("queued", "c", "a"), Group("running", "c", "a")


class Account:
    """Compares one snapshot after another."""

    def __init__(self) -> None:
        self.baseline: Baseline | None = None
        self.now = NOW
        self.total: Counter[str] = Counter()

    def sees(
        self, queue: str, *, ended: str | None = "", gap: float = INTERVAL, scope: str = ""
    ) -> Change:
        """Take a snapshot: each run has a letter, a capital one if it runs."""
        self.now += gap
        runs = [
            run("running" if each.isupper() else "queued", "c", "a", "2026-11-23T11:00:00Z", name)
            for each in queue
            for name in [each.lower()]
        ]
        over = None if ended is None else {hash(each) for each in ended}
        snapshot = take_snapshot(runs, self.now)
        self.baseline, change = compare(self.baseline, snapshot, over, scope)
        for name in ("entered", "started", "left"):
            self.total[name] += sum(getattr(change, name).values())
        return change


@pytest.mark.parametrize(
    ("snapshots", "entered", "started", "left"),
    [
        # Letters after a space are listed as ended.
        (["ab", "a", "ab"], 0, 0, 0),  # a page boundary hid a run
        (["ab", "a", "a"], 0, 0, 1),
        (["ab", "a", "a", "a"], 0, 0, 1),
        (["ab", "a", "a", "ab"], 1, 0, 1),
        (["ab", "a b"], 0, 0, 1),
        (["ab", "a b", "a"], 0, 0, 1),
        (["aB", "aB b"], 0, 0, 0),  # both running and ended: it moved between two pages
        (["ab", "a", "aB"], 0, 1, 0),
        (["aB", "a", "aB"], 0, 0, 0),
        (["aB", "a", "a b"], 0, 0, 1),
        (["", "Ab"], 2, 1, 0),
    ],
)
def test_a_run_has_left_if_it_is_listed_as_ended_or_missing_from_two_snapshots(
    snapshots: list[str], entered: int, started: int, left: int
) -> None:
    account = Account()
    for each in snapshots:
        queue, _, ended = each.partition(" ")
        account.sees(queue, ended=ended)
    assert account.total == {"entered": entered, "started": started, "left": left}


def test_a_hidden_run_has_left_at_once_if_the_next_snapshot_is_a_single_response() -> None:
    account = Account()
    account.sees("ab")
    assert not account.sees("a").left
    assert account.sees("a", ended=None).left == {QUEUED: 1}


@given(st.lists(st.text("abcABC", max_size=6), min_size=2, max_size=8))
def test_pages_count_what_a_single_response_does_once_the_queue_stands_still(
    snapshots: list[str],
) -> None:
    paged, single = Account(), Account()
    for queue in [*snapshots, snapshots[-1], snapshots[-1]]:
        paged.sees(queue)
        single.sees(queue, ended=None)
    for account in (paged, single):
        grown = len(set(snapshots[-1].lower())) - len(set(snapshots[0].lower()))
        assert account.total["entered"] - account.total["left"] == grown
    assert paged.total["entered"] <= single.total["entered"]
