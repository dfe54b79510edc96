"""The demo's API over HTTP, also as Nextmv's own SDK reads it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from nextmv import StatusV2  # type: ignore[import-untyped]
from nextmv.cloud import Client, Queue, list_applications  # type: ignore[import-untyped]

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator

START = 1_790_000_000.0
KEYS = (DEMO_KEY, "another-accounts-key")
FIELDS = {
    *("id", "user_email", "name", "description", "created_at", "application_id"),
    *("application_instance_id", "application_version_id", "execution_class"),
    *("status", "status_v2"),
}
PATHS = ("v1/account/queue", "v1/applications", "v1/applications/delivery-routing/runs")


@dataclass
class Demo:
    """A served demo whose time a test moves."""

    now: float = START
    api: DemoAPI = field(init=False)
    url: str = ""

    def __post_init__(self) -> None:
        accounts = {key: Simulator(seed=seed, start=START) for seed, key in enumerate(KEYS)}
        self.api = DemoAPI(accounts, clock=lambda: self.now)

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        authorization: str = f"Bearer {DEMO_KEY}",
        **query: str,
    ) -> requests.Response:
        headers = {"Authorization": authorization.encode()}
        return requests.request(
            method, f"{self.url}/{path}", params=query, headers=headers, timeout=60
        )

    def queue(self, key: str = DEMO_KEY) -> list[dict[str, str]]:
        runs: list[dict[str, str]] = self.ask(PATHS[0], authorization=f"Bearer {key}").json()[
            "runs"
        ]
        return runs

    def pages(self, path: str, key: str, *, between: float = 0) -> Iterator[list[dict[str, Any]]]:
        query = {"pagereturn": "true"}
        while True:
            page = self.ask(path, **query).json()
            yield page[key]
            if "next_page_token" not in page:
                return
            query["pagetoken"] = page["next_page_token"]
            self.now += between


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo()
    with DemoServer(demo.api) as server:
        demo.url = server.url
        yield demo


def test_the_queue_has_the_apis_fields_and_goes_with_the_time(demo: Demo) -> None:
    runs = demo.queue()
    assert {run["status_v2"] for run in runs} == {"queued", "running"}
    for run in runs:
        assert run.keys() == FIELDS
        assert all(isinstance(value, str) and value for value in run.values())
    assert demo.queue() == runs
    demo.now += 60
    assert demo.queue() != runs
    ids = [{run["id"] for run in demo.queue(key)} for key in KEYS]
    assert ids[0].isdisjoint(ids[1])


def test_responses_are_dated_by_the_accounts_clock(demo: Demo) -> None:
    for authorization in (f"Bearer {DEMO_KEY}", "Bearer wrong"):
        date = demo.ask(PATHS[0], authorization=authorization).headers["Date"]
        assert date == "Mon, 21 Sep 2026 14:13:20 GMT"


def test_refusals(demo: Demo) -> None:
    wrong = ("", DEMO_KEY, "Bearer", "Bearer wrong", f"Bearer {DEMO_KEY}x", "Bearer schlüssel")
    refused = [demo.ask(path, authorization=each) for path in PATHS for each in wrong]
    assert {answer.status_code for answer in refused} == {401}
    methods = [demo.ask(path, method=each) for path in PATHS for each in ("POST", "DELETE")]
    assert {answer.status_code for answer in methods} == {405}
    nowhere = ("", "v1", "v1/account/queue/", "v1/applications/x/runs", "v2/account/queue")
    missing = [demo.ask(path) for path in nowhere]
    assert {answer.status_code for answer in missing} == {404}
    assert all(answer.json()["error"] for answer in (*refused, *methods, *missing))


@pytest.mark.parametrize("status", [404, 410])
def test_the_queue_endpoint_can_be_removed(demo: Demo, status: int) -> None:
    demo.api.queue_removed = status
    assert [demo.ask(path).status_code for path in PATHS] == [status, 200, 200]


def test_pages_of_fifty_show_the_queue_run_for_run(demo: Demo) -> None:
    [apps] = demo.pages("v1/applications", "items")
    listed: dict[str, dict[str, str]] = {}
    for app in apps:
        *full, _ = pages = list(demo.pages(f"v1/applications/{app['id']}/runs", "runs"))
        assert all(len(page) == 50 for page in full)
        runs = [{name: run[name] for name in FIELDS} for page in pages for run in page]
        listed |= {run["id"]: run for run in runs if run["status_v2"] in {"queued", "running"}}
    assert listed == {run["id"]: run for run in demo.queue()}


def test_pages_are_newest_first_without_gap_or_repetition_though_runs_arrive(demo: Demo) -> None:
    before = {run["id"] for run in demo.ask(PATHS[2]).json()["runs"]}
    pages = list(demo.pages(PATHS[2], "runs", between=15))
    after = {run["id"] for run in demo.ask(PATHS[2]).json()["runs"]}
    runs = [run for page in pages for run in page]
    ids = [run["id"] for run in runs]
    assert len(ids) == len(set(ids)) > 100
    assert before & after <= set(ids) <= before
    assert after - before
    times = [run["created_at"] for run in runs]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("no_pagination", [False, True])
def test_nextmvs_sdk_reads_all_of_it(demo: Demo, no_pagination: bool) -> None:
    client = Client(api_key=DEMO_KEY, url=demo.url)
    # Account.queue() of the SDK fails before it sends anything; this is what it does after.
    queue = Queue.from_dict(client.request(method="GET", endpoint=PATHS[0]).json())
    apps = list_applications(client, no_pagination=no_pagination)
    runs = [run for app in apps for run in app.list_runs(no_pagination=no_pagination)]
    assert {run.status_v2 for run in runs} == set(StatusV2) - {StatusV2.none}
    waiting = {StatusV2.queued, StatusV2.running}
    listed = {run.id: run.created_at for run in runs if run.status_v2 in waiting}
    assert listed == {run.id: run.created_at for run in queue.runs}
    assert {run.status_v2 for run in queue.runs} == waiting
