from collections.abc import Iterator
from typing import Any

import pytest
import requests

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator, StandingAccount

START = 1_790_000_000.0
KEYS = (DEMO_KEY, "another-accounts-key")

FIELDS = {
    "id",
    "user_email",
    "name",
    "description",
    "created_at",
    "application_id",
    "application_instance_id",
    "application_version_id",
    "execution_class",
    "status",
    "status_v2",
}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(clock: Clock) -> DemoAPI:
    accounts = {key: Simulator(seed=seed, start=START) for seed, key in enumerate(KEYS, start=1)}
    return DemoAPI(accounts, clock=clock, page_size=20)


@pytest.fixture
def server(api: DemoAPI) -> Iterator[DemoServer]:
    with DemoServer(api) as server:
        yield server


@pytest.fixture(scope="module")
def standing() -> Iterator[DemoServer]:
    """One server for all that needs no more than any answer at all."""
    api = DemoAPI({DEMO_KEY: StandingAccount(10, at=START)}, clock=lambda: START)
    with DemoServer(api) as server:
        yield server


def fetch(
    server: DemoServer,
    path: str,
    *,
    method: str = "GET",
    key: str | None = DEMO_KEY,
    **query: str,
) -> requests.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return requests.request(
        method,
        f"{server.url}/{path}",
        params=query,
        headers=headers,
        timeout=10,
        allow_redirects=False,
    )


def queue(server: DemoServer, **how: Any) -> list[dict[str, str]]:
    answer = fetch(server, "v1/account/queue", **how)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    runs: list[dict[str, str]] = answer.json()["runs"]
    return runs


def test_the_queue_lists_running_and_queued_runs_with_the_apis_fields(server: DemoServer) -> None:
    runs = queue(server)
    assert {run["status_v2"] for run in runs} == {"queued", "running"}
    for run in runs:
        assert run.keys() == FIELDS
        assert all(isinstance(value, str) and value for value in run.values())


def test_creation_times_are_rfc_3339_in_utc_and_never_in_the_future(server: DemoServer) -> None:
    times = [run["created_at"] for run in queue(server)]
    assert all(len(time) == len("2026-09-21T14:13:20.000Z") and time[-1] == "Z" for time in times)
    assert max(times) <= "2026-09-21T14:13:20.000Z"


def test_each_request_finds_the_account_as_it_is_by_then(server: DemoServer, clock: Clock) -> None:
    before = queue(server)
    assert queue(server) == before
    clock.now += 60
    assert queue(server) != before


def test_each_key_opens_an_account_of_its_own(server: DemoServer) -> None:
    one, other = ({run["id"] for run in queue(server, key=key)} for key in KEYS)
    assert one.isdisjoint(other)


@pytest.mark.parametrize(
    "path", ["v1/account/queue", "v1/applications", "v1/applications/delivery-routing/runs"]
)
@pytest.mark.parametrize("key", [None, "", "wrong", DEMO_KEY[:-1], DEMO_KEY + "x", "schlüssel"])
def test_without_a_known_key_nothing_is_shown(
    standing: DemoServer, path: str, key: str | None
) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
    answer = requests.get(f"{standing.url}/{path}", headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.json() == {"error": "Unauthorized"}


def test_the_key_must_be_a_bearer_token(standing: DemoServer) -> None:
    headers = {"Authorization": DEMO_KEY}
    answer = requests.get(f"{standing.url}/v1/account/queue", headers=headers, timeout=10)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1",
        "v1/account",
        "v1/account/queue/",
        "v1/applications/delivery-routing",
        "v1/applications/no-such-application/runs",
        "v2/account/queue",
    ],
)
def test_elsewhere_nothing_is_found(standing: DemoServer, path: str) -> None:
    answer = fetch(standing, path)
    assert answer.status_code == 404
    assert answer.json()["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["v1/account/queue", "v1/applications", "v1/applications/delivery-routing/runs"]
)
def test_nothing_can_be_changed(standing: DemoServer, path: str, method: str) -> None:
    answer = fetch(standing, path, method=method)
    assert answer.status_code == 405
    assert answer.json()["error"]


@pytest.mark.parametrize("status", [404, 410])
def test_the_queue_endpoint_can_be_removed_while_the_others_still_answer(
    server: DemoServer, api: DemoAPI, status: int
) -> None:
    api.queue_removed = status
    assert fetch(server, "v1/account/queue").status_code == status
    assert fetch(server, "v1/account/queue", key="wrong").status_code == 401
    assert fetch(server, "v1/applications").status_code == 200
    assert fetch(server, "v1/applications/delivery-routing/runs").status_code == 200
    api.queue_removed = None
    assert fetch(server, "v1/account/queue").status_code == 200


def runs_by_page(
    server: DemoServer, clock: Clock, *, between_pages: float
) -> Iterator[list[dict[str, Any]]]:
    query = {"pagereturn": "true"}
    while True:
        answer = fetch(server, "v1/applications/delivery-routing/runs", **query).json()
        yield answer["runs"]
        if "next_page_token" not in answer:
            return
        query["pagetoken"] = answer["next_page_token"]
        clock.now += between_pages


@pytest.mark.parametrize("between_pages", [0, 7.5])
def test_paging_visits_each_run_once_and_newest_first_though_runs_arrive_meanwhile(
    server: DemoServer, clock: Clock, between_pages: float
) -> None:
    before = all_runs(server)
    pages = list(runs_by_page(server, clock, between_pages=between_pages))
    after = all_runs(server)
    ids = [run["id"] for page in pages for run in page]
    assert len(pages) > 5
    assert len(ids) == len(set(ids))
    assert before & after <= set(ids) <= before
    assert bool(after - before) == bool(between_pages)
    times = [run["created_at"] for page in pages for run in page]
    assert times == sorted(times, reverse=True)


def all_runs(server: DemoServer) -> set[str]:
    runs = fetch(server, "v1/applications/delivery-routing/runs").json()["runs"]
    return {run["id"] for run in runs}


def test_a_page_token_of_other_making_is_refused(standing: DemoServer) -> None:
    answer = fetch(standing, "v1/applications", pagereturn="true", pagetoken="5")
    assert answer.status_code == 400
    assert answer.json() == {"error": "pagetoken is invalid"}


def test_listing_the_runs_of_all_applications_shows_the_queue_run_for_run(
    server: DemoServer,
) -> None:
    apps = fetch(server, "v1/applications", pagereturn="true").json()["items"]
    listed = {
        run["id"]: {field: run[field] for field in FIELDS}
        for app in apps
        for run in fetch(server, f"v1/applications/{app['id']}/runs").json()["runs"]
        if run["status_v2"] in {"queued", "running"}
    }
    assert listed == {run["id"]: run for run in queue(server)}


def test_a_long_queue_that_stands_still_is_written_once(clock: Clock) -> None:
    api = DemoAPI({DEMO_KEY: StandingAccount(5000, at=START)}, clock=clock)
    with DemoServer(api) as server:
        assert len(queue(server)) == 5000
        body = api._queue_bodies[DEMO_KEY][1]
        clock.now += 60
        assert len(queue(server)) == 5000
        assert api._queue_bodies[DEMO_KEY][1] is body
