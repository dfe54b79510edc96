"""What is counted of an account, and how many label sets there may be."""

from typing import Any

from nextmv_exporter.nextmv.client import Exchange
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import RECENT, Counters
from nextmv_exporter.scrape.flow import Change
from nextmv_exporter.scrape.summary import OTHER, Backlog, Group

BOUNDS = (5.0, 60.0)


def seen(*groups: tuple[str, str, str], now: float = 0, **flow: Any) -> Change:
    none: dict[str, Any] = {key: {} for key in ("entered", "started", "left", "waits")}
    return Change(now, [Group(*group) for group in groups], **none | flow)


def test_errors_are_there_from_the_start_and_requests_as_they_are_sent() -> None:
    counters = Counters(BOUNDS, 10)
    assert counters.errors == dict.fromkeys(Reason, 0)
    for seconds in (0.005, 0.2, 100):
        counters.count_request(Exchange("v1/account/queue", "200", seconds, None))
    assert counters.requests == {("v1/account/queue", "200"): 3}
    times = counters.request_times["v1/account/queue"]
    assert times.sum == 100.205
    assert [times.buckets[0], *times.buckets[-2:]] == [1, 2, 3]


def test_statuses_without_end_are_others_but_queued_and_running_runs_never_are() -> None:
    counters = Counters(BOUNDS, 3)
    for number in range(100):
        groups = ((f"status-{number}", "c", "a"), ("queued", "c", "a"), ("running", "d", "a"))
        counters.count_flow(seen(*groups, left={Group(*group): 1 for group in groups}))
    assert len(counters.left) < 20
    assert sum(counters.left.values()) == 300
    assert counters.left[Group("queued", "c", "a")] == 100
    assert counters.left[Group("running", "d", "a")] == 100
    assert counters.left[Group(OTHER, "c", "a")] > 80


def test_a_copy_does_not_change() -> None:
    counters = Counters(BOUNDS, 10)
    counters.count_flow(seen(("queued", "c", "a")))
    copy, before = counters.copy(), repr(counters)
    counters.errors[Reason.AUTH] += 1
    counters.count_request(Exchange("v1/account/queue", "200", 1, None))
    group = Group("running", "c", "a")
    backlog = Backlog("c", "a")
    flow = {"entered": {backlog: 1}, "started": {backlog: 1}, "left": {group: 1}}
    counters.count_flow(seen(group, now=5, waits={"c": [1.0]}, **flow))
    assert repr(copy) == before != repr(counters)


def test_the_recent_flow_is_that_of_the_last_minutes_by_class() -> None:
    counters = Counters(BOUNDS, 10)
    for now, name in ((0.0, "c"), (100.0, "d"), (100.0, "c")):
        flow = {Backlog(name, "a"): 1, Backlog(name, "b"): 2}
        counters.count_flow(seen(("queued", name, "a"), now=now, entered=flow, started={}))
    assert counters.recent_flow(RECENT) == {"c": (6, 0), "d": (3, 0)}
    assert counters.recent_flow(RECENT + 1) == {"c": (3, 0), "d": (3, 0)}
    assert counters.recent_flow(-1) == {}
    counters.count_flow(seen(now=1000, entered={Backlog("c", "a"): 1}))
    assert len(counters.recent) == 1, "the others are dropped"
