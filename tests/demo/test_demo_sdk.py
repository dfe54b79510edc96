"""Nextmv's own SDK, pointed at the demo."""

from collections.abc import Iterator

import pytest
from nextmv import StatusV2  # type: ignore[import-untyped]
from nextmv.cloud import (  # type: ignore[import-untyped]
    Application,
    Client,
    Queue,
    list_applications,
)

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator
from nextmv_exporter.demo.catalogue import APPLICATIONS

NOW = 1_790_000_000.0


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.delenv("NEXTMV_PROFILE", raising=False)
    account = Simulator(seed=1, start=NOW)
    with DemoServer(DemoAPI({DEMO_KEY: account}, clock=lambda: NOW, page_size=50)) as server:
        yield Client(api_key=DEMO_KEY, url=server.url)


def queue(client: Client) -> Queue:
    # What Account.queue() does after its deprecation warning, which raises by mistake.
    return Queue.from_dict(client.request(method="GET", endpoint="v1/account/queue").json())


def test_it_reads_the_queue(client: Client) -> None:
    runs = queue(client).runs
    assert {run.status_v2 for run in runs} == {StatusV2.queued, StatusV2.running}
    assert all(0 <= NOW - run.created_at.timestamp() < 86_400 for run in runs)


@pytest.mark.parametrize("no_pagination", [False, True])
def test_it_lists_the_applications(client: Client, no_pagination: bool) -> None:
    apps = list_applications(client, no_pagination=no_pagination)
    assert [app.id for app in apps] == [app.id for app in reversed(APPLICATIONS)]
    assert all(app.name and app.description and app.type for app in apps)


@pytest.mark.parametrize("no_pagination", [False, True])
@pytest.mark.parametrize("status", [StatusV2.queued, StatusV2.running])
def test_the_runs_that_it_lists_agree_with_the_queue(
    client: Client, status: StatusV2, no_pagination: bool
) -> None:
    expected = {run.id: run.created_at for run in queue(client).runs if run.status_v2 == status}
    listed = {
        run.id: run.created_at
        for app in list_applications(client)
        for run in app.list_runs(status=status, no_pagination=no_pagination)
    }
    assert listed == expected
    assert listed


def test_it_lists_runs_that_have_ended(client: Client) -> None:
    runs = Application(client=client, id="delivery-routing").list_runs()
    assert {run.status_v2 for run in runs} == set(StatusV2) - {StatusV2.none}
    assert all(1 <= (run.queuing_priority or 0) <= 9 for run in runs)
    assert len(runs) > 50
