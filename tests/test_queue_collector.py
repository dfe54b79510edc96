"""`QueueCollector` in other programs: it fetches at each collection, and changes nothing else."""

import gc
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client import (
    CollectorRegistry,
    generate_latest,
    make_wsgi_app,
    push_to_gateway,
    start_http_server,
    write_to_textfile,
)
from support.exporter import settings_of
from support.fake_api import KEY, RUN, FakeAPI
from support.harness import write_yaml
from support.metrics import value
from support.programs import ask, free_port, prometheus, prometheus_config
from support.waiting import until

from nextmv_exporter import forks
from nextmv_exporter.collector import QueueCollector
from nextmv_exporter.nextmv import Account, Client
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.scrape.sources import RUN_LOOKBACK, ApplicationRuns
from nextmv_exporter.scrape.target import ScrapeOptions

QUEUED = {**RUN, "status_v2": "queued"}


@pytest.fixture
def registry(api: FakeAPI) -> CollectorRegistry:
    api.serves(QUEUED)
    registry = CollectorRegistry()
    registry.register(QueueCollector({"production": Account(Client(KEY, api.url))}))
    return registry


def as_registry(collector: QueueCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def queued(text: str, account: str = "production") -> float:
    return value(text, "nextmv_account_queue_runs", account=account, status_v2="queued")


def test_registering_sends_no_request(api: FakeAPI, registry: CollectorRegistry) -> None:
    assert api.requests == []


def test_each_collection_fetches_the_queue_anew(api: FakeAPI, registry: CollectorRegistry) -> None:
    assert queued(generate_latest(registry).decode()) == 1
    api.serves(QUEUED, QUEUED)
    assert queued(generate_latest(registry).decode()) == 2
    assert len(api.requests) == 2


def test_it_finds_credentials_as_the_program_does(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.serves(QUEUED)
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NEXTMV_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    registry = CollectorRegistry()
    registry.register(QueueCollector())
    assert queued(generate_latest(registry).decode(), "default") == 1
    assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_without_credentials_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="NEXTMV_API_KEY"):
        QueueCollector()


def test_an_invalid_variable_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTMV_EXPORTER_NEXTMV_TIMEOUT", "soon")
    with pytest.raises(ConfigurationError, match="'soon' is not a duration"):
        QueueCollector()


def test_its_options_have_the_defaults_of_the_programs_settings() -> None:
    settings = settings_of()
    assert ScrapeOptions() == ScrapeOptions(
        settings.nextmv_timeout,
        settings.queue_wait_buckets,
        settings.queue_max_groups,
        settings.queue_zero_retention,
    )
    assert (settings.nextmv_source, settings.nextmv_run_lookback) == ("auto", RUN_LOOKBACK)
    defaults = {name: each.default for name, each in signature(QueueCollector).parameters.items()}
    assert set(defaults.values()) == {None}


@pytest.mark.parametrize("named", [True, False], ids=["named accounts", "of the environment"])
def test_options_given_take_precedence(
    named: bool, api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [QUEUED, {**QUEUED, "id": "other"}]
    api.answer.body = json.dumps({"items": [{"id": "a"}], "runs": runs}).encode()
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    monkeypatch.setenv("NEXTMV_EXPORTER_NEXTMV_TIMEOUT", "1ms")
    monkeypatch.setenv("NEXTMV_EXPORTER_QUEUE_MAX_GROUPS", "3")
    collector = QueueCollector(
        {"default": Account(Client(KEY, api.url))} if named else None,
        timeout=5,
        source="application-runs",
        run_lookback=1000 * 86_400,
        wait_buckets=[1, 2],
        max_groups=1,
        zero_retention=0,
    )
    text = generate_latest(as_registry(collector)).decode()
    assert queued(text, "default") == 2
    assert value(text, "nextmv_source_info", account="default", source="application-runs") == 1
    paths = [request.path.partition("?")[0] for request in api.requests]
    assert paths == ["/v1/applications", "/v1/applications/a/runs"]
    assert set(re.findall(r'wait_seconds_bucket{.*le="(.+?)"', text)) == {"1.0", "2.0", "+Inf"}


@pytest.mark.parametrize("named", [True, False], ids=["named accounts", "of the environment"])
@pytest.mark.parametrize("lookback", [None, 1.0])
def test_runs_are_looked_for_as_far_back_as_given(
    lookback: float | None, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", "http://127.0.0.1:1")
    accounts = {"default": Account(Client())} if named else None
    collector = QueueCollector(accounts, source="application-runs", run_lookback=lookback)
    [target] = collector._current().values()
    assert target._source == ApplicationRuns(lookback or 86_400)


@pytest.mark.parametrize("named", [True, False], ids=["named accounts", "of the environment"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": -1}, "timeout -1 is not a number of seconds"),
        ({"timeout": math.inf}, "timeout inf is not a number of seconds"),
        ({"timeout": math.nan}, "timeout nan is not a number of seconds"),
        ({"max_groups": 0}, "max_groups 0 is below 1"),
        ({"wait_buckets": (10, 5)}, "wait_buckets [10, 5] are not ascending numbers of seconds"),
        ({"wait_buckets": (0, 5)}, "wait_buckets [0, 5] are not ascending numbers of seconds"),
        (
            {"wait_buckets": (5, 1e20)},
            "wait_buckets [5, 1e+20] are not ascending numbers of seconds",
        ),
        (
            {"wait_buckets": (5, math.nan)},
            "wait_buckets [5, nan] are not ascending numbers of seconds",
        ),
        (
            {"wait_buckets": (math.nan,)},
            "wait_buckets [nan] are not ascending numbers of seconds",
        ),
        ({"zero_retention": -1}, "zero_retention -1 is not a number of seconds"),
        ({"zero_retention": math.nan}, "zero_retention nan is not a number of seconds"),
        ({"run_lookback": 0}, "run_lookback 0 is not a number of seconds"),
        ({"run_lookback": -5}, "run_lookback -5 is not a number of seconds"),
        ({"run_lookback": math.nan}, "run_lookback nan is not a number of seconds"),
        ({"run_lookback": 1e20}, "run_lookback 1e+20 is not a number of seconds"),
        ({"wait_buckets": ()}, "wait_buckets [] are not ascending numbers of seconds"),
        (
            {"source": "queue"},
            "source 'queue' is unknown: choose account-queue, application-runs, auto",
        ),
    ],
    ids=str,
)
def test_invalid_options_are_refused(
    options: dict[str, Any], message: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError) as caught:
        QueueCollector({"default": Account(Client())} if named else None, **options)
    assert str(caught.value) == message


def test_buckets_may_end_with_infinity_as_those_of_prometheus_client(api: FakeAPI) -> None:
    api.serves(QUEUED)
    account = Account(Client(KEY, api.url))
    collector = QueueCollector({"production": account}, wait_buckets=(1, math.inf))
    text = generate_latest(as_registry(collector)).decode()
    assert set(re.findall(r'queue_wait_seconds_bucket{.*le="(.+?)"', text)) == {"1.0", "+Inf"}


def test_what_is_repaired_after_a_fork_is_not_kept_alive() -> None:
    gc.collect()
    before = len(forks._objects)
    clients = [Client(KEY, "http://127.0.0.1:1") for _ in range(10)]
    assert len(forks._objects) == before + 10
    del clients
    gc.collect()
    assert len(forks._objects) == before


@pytest.mark.parametrize("source", ["auto", "account-queue"])
def test_the_path_of_an_account_is_its_own(source: str, api: FakeAPI) -> None:
    api.serves(QUEUED)
    account = Account(Client(KEY, api.url), endpoint="v1/other")
    assert queued(
        generate_latest(
            as_registry(QueueCollector({"production": account}, source=source))
        ).decode()
    )
    assert [request.path for request in api.requests] == ["/v1/other/queue"]


@pytest.mark.parametrize(
    ("variable", "text"), [("NEXTMV_API_KEY", KEY), ("NEXTMV_PROFILE", "staging")]
)
def test_accounts_that_would_report_the_same_queue_are_refused(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".nextmv").mkdir()
    entry = {"endpoint": "api.cloud.nextmv.io"}
    write_yaml(
        tmp_path / ".nextmv" / "config.yaml",
        {name: {**entry, "apikey": f"key-of-{name}"} for name in ("production", "staging")},
    )
    monkeypatch.setenv("HOME", str(tmp_path))

    def collector() -> QueueCollector:
        names = ("production", "staging")
        return QueueCollector({name: Account(Client(profile=name)) for name in names})

    assert collector()
    monkeypatch.setenv(variable, text)
    monkeypatch.setenv("NEXTMV_ENDPOINT", "api.cloud.nextmv.io")
    with pytest.raises(ConfigurationError, match=f"'production' and 'staging' .* {variable}"):
        collector()


def test_accounts_that_come_and_go_are_followed(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    entry = {"apikey": KEY, "endpoint": api.url}
    write_yaml(file, {"staging": entry})
    monkeypatch.setenv("NEXTMV_CONFIG_FILE", str(file))
    monkeypatch.setenv("NEXTMV_PROFILE", "*")
    registry = as_registry(QueueCollector())
    for names in (["staging"], ["eu", "staging"], ["eu"]):
        write_yaml(file, dict.fromkeys(names, entry))
        up = [line for line in generate_latest(registry).decode().splitlines() if "_up{" in line]
        assert sorted(up) == [f'nextmv_up{{account="{name}"}} 1.0' for name in names]


def test_options_not_given_come_from_the_environment(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.serves(QUEUED)
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    monkeypatch.setenv("NEXTMV_EXPORTER_QUEUE_WAIT_BUCKETS", "7s")
    monkeypatch.setenv("NEXTMV_EXPORTER_NEXTMV_TIMEOUT", "3s")
    collector = QueueCollector()
    assert collector._timeout == 3
    text = generate_latest(as_registry(collector)).decode()
    assert set(re.findall(r'wait_seconds_bucket{.*le="(.+?)"', text)) == {"7.0", "+Inf"}


@pytest.mark.parametrize("named", [True, False], ids=["named accounts", "of the environment"])
@pytest.mark.parametrize("retention", [0, 60])
def test_a_drained_group_is_reported_for_the_retention_given(
    retention: float, named: bool, api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    accounts = {"production": Account(Client(KEY, api.url))} if named else None
    registry = as_registry(QueueCollector(accounts, zero_retention=retention))
    api.serves(QUEUED)
    generate_latest(registry)
    time.sleep(0.01)
    api.serves()
    text = generate_latest(registry).decode()
    assert ("nextmv_account_queue_length{" in text) == (retention > 0)


def test_a_failed_fetch_is_nextmv_up_0_and_raises_nothing(
    api: FakeAPI, registry: CollectorRegistry
) -> None:
    api.answers(500)
    text = generate_latest(registry).decode()
    assert value(text, "nextmv_up", account="production") == 0
    assert "nextmv_account_queue_length{" not in text


def test_twenty_threads_that_collect_at_once_cost_one_request(
    api: FakeAPI, registry: CollectorRegistry
) -> None:
    released = threading.Event()
    api.answer.held_until = released
    with ThreadPoolExecutor(20) as pool:
        texts = [pool.submit(generate_latest, registry) for _ in range(20)]
        until(lambda: api.requests, seconds=10, what="the request")
        threading.Timer(1, released.set).start()
        assert {queued(text.result().decode()) for text in texts} == {1}
    assert len(api.requests) == 1


def test_two_collectors_do_not_disturb_each_other(api: FakeAPI) -> None:
    api.serves(QUEUED)
    client = Client(KEY, api.url)
    registries = [CollectorRegistry(), CollectorRegistry()]
    for registry in registries:
        registry.register(QueueCollector({"a": Account(client)}))
    for _ in range(2):
        generate_latest(registries[0])
    texts = [generate_latest(registry).decode() for registry in registries]
    counted = [value(text, "nextmv_api_requests_total", account="a", code="200") for text in texts]
    assert counted == [3, 1]


def test_a_restricted_registry_sends_a_request_only_for_its_own_series(
    api: FakeAPI, registry: CollectorRegistry
) -> None:
    other = registry.restricted_registry(["process_cpu_seconds_total"])
    assert list(other.collect()) == []
    assert api.requests == []
    [up] = registry.restricted_registry(["nextmv_up"]).collect()
    assert [sample.value for sample in up.samples] == [1]
    assert len(api.requests) == 1


def test_it_works_with_make_wsgi_app(api: FakeAPI, registry: CollectorRegistry) -> None:
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    app = make_wsgi_app(registry)
    body = b"".join(app(environ, lambda *_: lambda _: None))
    assert queued(body.decode()) == 1


def test_it_works_with_push_to_gateway(api: FakeAPI, registry: CollectorRegistry) -> None:
    pushed = []

    def handler(url: str, method: str, timeout: float | None, headers: object, data: bytes):  # type: ignore[no-untyped-def]
        return lambda: pushed.append(data)

    push_to_gateway("gateway.example", "nextmv", registry, handler=handler)
    assert queued(pushed[0].decode()) == 1


def test_promtool_accepts_the_textfile_that_it_writes(
    tmp_path: Path, registry: CollectorRegistry
) -> None:
    file = tmp_path / "nextmv.prom"
    write_to_textfile(str(file), registry)
    assert queued(file.read_text()) == 1
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=file.read_bytes(), capture_output=True, check=False
    )
    errors = [line for line in checked.stderr.splitlines() if b"_created" not in line]
    assert errors == []


@pytest.fixture
def served(registry: CollectorRegistry) -> Iterator[str]:
    port = free_port()
    server, thread = start_http_server(port, "127.0.0.1", registry)
    yield f"127.0.0.1:{port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_prometheus_scrapes_it_from_start_http_server(
    api: FakeAPI, served: str, tmp_path: Path
) -> None:
    with prometheus(tmp_path, prometheus_config(served)) as url:
        query = 'nextmv_account_queue_runs{account="production",status_v2="queued"}'

        def scraped(number: int) -> bool:
            result = ask(url, "query", query=query)["result"]
            return [series["value"][1] for series in result] == [str(number)]

        until(lambda: scraped(1), seconds=30, what="the first scrape")
        api.serves(QUEUED, QUEUED)
        until(lambda: scraped(2), seconds=30, what="a later scrape")


@pytest.mark.parametrize("during", [False, True], ids=["between scrapes", "during a fetch"])
def test_forks_share_neither_connections_nor_fetches(api: FakeAPI, during: bool) -> None:
    """As where a server loads the program and then forks its workers."""
    api.serves(QUEUED)
    code = """
import os, sys, threading
from prometheus_client import CollectorRegistry, generate_latest
from nextmv_exporter import Account, Client, QueueCollector
registry = CollectorRegistry()
registry.register(QueueCollector({"a": Account(Client(sys.argv[1], sys.argv[2]))}, timeout=5))
def scrape(times=1):
    for _ in range(times):
        assert b'nextmv_up{account="a"} 1.0' in generate_latest(registry)
if sys.argv[3] == "True":
    threading.Thread(target=scrape).start()
    sys.stdin.readline()
else:
    scrape()
children = []
for _ in range(3):
    if child := os.fork():
        children.append(child)
    else:
        scrape(10)
        os._exit(0)
print("forked", flush=True)
scrape(10)
for child in children:
    assert os.waitpid(child, 0)[1] == 0, child
"""
    released = threading.Event()
    if during:
        api.answer.held_until = released
    with subprocess.Popen(
        [sys.executable, "-c", code, KEY, api.url, str(during)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        if during:
            until(lambda: api.requests, seconds=30, what="the request")
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline() == "forked\n"
        released.set()
        assert process.wait(60) == 0
    # The parent's own next scrape shares the fetch, if that has not ended by then.
    assert len(api.requests) in {41, 41 - during}


def test_a_fork_does_not_wait_for_locks_that_other_threads_of_its_parent_held(
    api: FakeAPI,
) -> None:
    api.serves(QUEUED)
    code = """
import os, sys, threading
from prometheus_client import CollectorRegistry, generate_latest
from nextmv_exporter import QueueCollector
collector = QueueCollector()
registry = CollectorRegistry()
registry.register(collector)
[target] = collector._accounts.targets.values()
locks = [target._lock, collector._accounts._latest._lock]
held, forked = threading.Event(), threading.Event()
def hold():
    with locks[0], locks[1]:
        held.set()
        forked.wait()
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    assert b'nextmv_up{account="default"} 1.0' in generate_latest(registry)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
forked.set()
"""
    environment = {"NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url}
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, timeout=20, check=True
    )


def test_importing_the_package_changes_nothing_outside_it() -> None:
    code = """
import logging, os, signal, socket, ssl, threading, prometheus_client, requests, urllib3
def state():
    counter = prometheus_client.Counter("c", "c", registry=None)
    counter.inc()
    return (
        sorted(sample.name for family in counter.collect() for sample in family.samples),
        len(list(prometheus_client.REGISTRY.collect())),
        dict(os.environ),
        logging.root.handlers, logging.root.level,
        [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)],
        socket.socket, ssl.SSLContext, requests.Session.send, threading.stack_size(),
        urllib3.connection.HTTPConnection._new_conn,
    )
before = state()
import nextmv_exporter, nextmv_exporter.collector, nextmv_exporter.nextmv
from nextmv_exporter.nextmv import Account, Client
from nextmv_exporter.scrape.sources import RUN_LOOKBACK, ApplicationRuns
from nextmv_exporter.scrape.target import ScrapeOptions
nextmv_exporter.collector.QueueCollector({"a": Account(Client("key", "http://127.0.0.1:1"))})
assert state() == before, (state(), before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
