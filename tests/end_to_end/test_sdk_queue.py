"""Nextmv's own SDK reads the same queue, and so does our library."""

from collections import Counter

from nextmv.cloud import Client as SDKClient  # type: ignore[import-untyped]
from nextmv.cloud.account import Queue as SDKQueue  # type: ignore[import-untyped]

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator
from nextmv_exporter.nextmv import Account, Client
from nextmv_exporter.scrape.sources import AccountQueue, Requests, SourceState
from nextmv_exporter.scrape.summary import Group, summarise, take_snapshot

MOMENT = 1_800_000_000.0


def test_our_account_the_sdk_and_the_scrape_agree_on_every_run() -> None:
    api = DemoAPI({DEMO_KEY: Simulator(seed=5, start=MOMENT)}, clock=lambda: MOMENT + 60)
    with DemoServer(api) as server:
        sdk_client = SDKClient(api_key=DEMO_KEY, url=server.url)
        answer = sdk_client.request(method="GET", endpoint="v1/account/queue")
        # The SDK's Account.queue() is broken; this is what it would do.
        theirs = SDKQueue.from_dict(answer.json()).runs
        client = Client(api_key=DEMO_KEY, url=server.url)
        ours = Account(client=client).queue().runs
        requests = Requests(client, Deadline(10), lambda *_: None, "a")
        runs = AccountQueue("v1/account/queue").fetch(requests, SourceState())
        scraped = take_snapshot(runs, MOMENT + 60)

    assert len(theirs) > 10
    assert [run.to_dict() | {"status": None} for run in ours] == [
        run.to_dict() | {"status": None} for run in theirs
    ]
    summary = summarise(scraped, wait_buckets=[60.0], max_groups=1000)
    assert summary.length == Counter(
        Group(run.status_v2.value, run.execution_class, run.application_id) for run in theirs
    )
    queued = [run.created_at.timestamp() for run in theirs if run.status_v2 == "queued"]
    assert min(filter(None, summary.oldest.values())) == min(queued)
