"""`QueueCollector` in other programs: it fetches at each collection, and changes nothing else."""

import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.request import urlopen
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
from support.metrics import by, samples, value
from support.programs import write_yaml
from support.waiting import until

from nextmv_exporter.collector import ProcessMetricsCollector, QueueCollector
from nextmv_exporter.nextmv import Account, Client
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.scrape.target import ScrapeOptions

QUEUED = {**RUN, "status_v2": "queued"}


def registry_of(collector: QueueCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


@pytest.fixture
def account(api: FakeAPI) -> Account:
    api.serves(QUEUED)
    return Account(Client(KEY, api.url))


@pytest.fixture
def registry(account: Account) -> CollectorRegistry:
    return registry_of(QueueCollector({"production": account}))


@pytest.fixture(params=["named accounts", "of the environment"])
def collector(
    request: pytest.FixtureRequest, account: Account, api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., QueueCollector]:
    """Makes collectors of one account, which is given or found."""
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    accounts = {"default": account} if request.param == "named accounts" else None
    return lambda **options: QueueCollector(accounts, **options)


def queued(text: str, account: str = "production") -> float:
    return value(text, "nextmv_account_queue_runs", account=account, status_v2="queued")


def test_each_collection_fetches_the_queue_anew_and_registering_does_not(
    api: FakeAPI, registry: CollectorRegistry
) -> None:
    assert not api.requests
    for number in (1, 2):
        api.serves(*[QUEUED] * number)
        assert queued(generate_latest(registry).decode()) == number
        assert len(api.requests) == number
    api.answers(500)
    text = generate_latest(registry).decode()
    assert value(text, "nextmv_up") == 0
    assert not samples(text, "nextmv_account_queue_length")


def test_it_finds_credentials_and_options_as_the_program_does(
    api: FakeAPI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="NEXTMV_API_KEY"):
        QueueCollector()
    api.serves(QUEUED)
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("NEXTMV_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("NEXTMV_ENDPOINT", api.url)
    monkeypatch.setenv("NEXTMV_EXPORTER_QUEUE_WAIT_BUCKETS", "7s")
    text = generate_latest(registry_of(QueueCollector())).decode()
    assert queued(text, "default") == 1
    assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert set(by("le", samples(text, "nextmv_account_queue_wait_seconds_bucket"))) == {
        "7.0",
        "+Inf",
    }
    monkeypatch.setenv("NEXTMV_EXPORTER_NEXTMV_TIMEOUT", "soon")
    with pytest.raises(ConfigurationError, match="soon"):
        QueueCollector()


def test_its_options_have_the_defaults_of_the_programs_settings() -> None:
    settings, options = settings_of(), vars(ScrapeOptions())
    for name in ("timeout", "source", "run_lookback"):
        assert options[name] == getattr(settings, f"nextmv_{name}")
    for name in ("wait_buckets", "max_groups", "zero_retention"):
        assert options[name] == getattr(settings, f"queue_{name}")
    given = {name: each.default for name, each in signature(QueueCollector).parameters.items()}
    assert given == dict.fromkeys(["accounts", *(options.keys() - {"endpoint"})])


def test_options_given_take_precedence(
    collector: Callable[..., QueueCollector], api: FakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [QUEUED, {**QUEUED, "id": "other"}]
    api.answer.body = json.dumps({"items": [{"id": "a"}], "runs": runs}).encode()
    monkeypatch.setenv("NEXTMV_EXPORTER_NEXTMV_TIMEOUT", "1ms")
    registry = registry_of(
        collector(
            timeout=60,
            source="application-runs",
            run_lookback=1000 * 86_400,
            wait_buckets=[1, 2, math.inf],
            max_groups=1,
            zero_retention=0,
        )
    )
    text = generate_latest(registry).decode()
    assert queued(text, "default") == 2
    assert value(text, "nextmv_source_info", source="application-runs") == 1
    paths = [request.path.partition("?")[0] for request in api.requests]
    assert paths == ["/v1/applications", "/v1/applications/a/runs"]
    assert set(re.findall(r'wait_seconds_bucket{.*le="(.+?)"', text)) == {"1.0", "2.0", "+Inf"}
    api.answer.body = b'{"items": [{"id": "a"}], "runs": []}'
    assert not samples(generate_latest(registry).decode(), "nextmv_account_queue_length")


@pytest.mark.parametrize(
    "option",
    [
        *({"timeout": wrong} for wrong in (-1, math.inf, math.nan)),
        *({"max_groups": wrong} for wrong in (0, -1)),
        *({"zero_retention": wrong} for wrong in (-1, math.inf, math.nan)),
        *({"run_lookback": wrong} for wrong in (0, -5, math.inf, math.nan)),
        *({"wait_buckets": wrong} for wrong in ((), (10, 5), (5, 5), (0, 5), (5, math.nan))),
        {"source": "queue"},
    ],
    ids=str,
)
def test_an_invalid_option_is_refused_by_its_name(
    option: dict[str, Any], collector: Callable[..., QueueCollector]
) -> None:
    [name] = option
    with pytest.raises(ConfigurationError, match=name):
        collector(**option)


def test_the_path_of_an_account_is_its_own(api: FakeAPI) -> None:
    api.serves(QUEUED)
    account = Account(Client(KEY, api.url), endpoint="v1/other")
    assert queued(generate_latest(registry_of(QueueCollector({"production": account}))).decode())
    assert [request.path for request in api.requests] == ["/v1/other/queue"]


def test_accounts_that_would_report_the_same_queue_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".nextmv").mkdir()
    endpoint = "api.cloud.nextmv.io"
    names = ("production", "staging")
    profiles = {name: {"apikey": f"key-of-{name}", "endpoint": endpoint} for name in names}
    write_yaml(tmp_path / ".nextmv" / "config.yaml", profiles)
    monkeypatch.setenv("HOME", str(tmp_path))

    def collector() -> QueueCollector:
        return QueueCollector({name: Account(Client(profile=name)) for name in names})

    assert collector()
    monkeypatch.setenv("NEXTMV_API_KEY", KEY)
    monkeypatch.setenv("NEXTMV_ENDPOINT", endpoint)
    with pytest.raises(ConfigurationError, match=r"'production' and 'staging' .* NEXTMV_API_KEY"):
        collector()


def test_twenty_threads_that_collect_at_once_cost_one_request_and_collectors_share_nothing(
    api: FakeAPI, account: Account
) -> None:
    registries = [registry_of(QueueCollector({"production": account})) for _ in range(2)]
    released = api.answer.held_until = threading.Event()
    with ThreadPoolExecutor(20) as pool:
        texts = [pool.submit(generate_latest, registries[0]) for _ in range(20)]
        until(lambda: api.requests and all(text.running() for text in texts), what="all of them")
        threading.Timer(0.5, released.set).start()
        assert {queued(text.result().decode()) for text in texts} == {1}
    assert len(api.requests) == 1
    text = generate_latest(registries[1]).decode()
    assert value(text, "nextmv_api_requests_total") == 1
    assert value(text, "nextmv_up") == 1


def test_a_restricted_registry_sends_a_request_only_for_its_own_series(
    api: FakeAPI, registry: CollectorRegistry
) -> None:
    assert not list(registry.restricted_registry(["process_cpu_seconds_total"]).collect())
    assert not api.requests
    name = "nextmv_account_queue_wait_seconds_bucket"
    [buckets] = registry.restricted_registry([name]).collect()
    assert {sample.name for sample in buckets.samples} == {name}
    assert len(api.requests) == 1


def pushed(registry: CollectorRegistry, _: Path) -> bytes:
    bodies: list[bytes] = []

    def handler(*, data: bytes, **_: object) -> Callable[[], None]:
        return lambda: bodies.append(data)

    push_to_gateway("gateway.example", "nextmv", registry, handler=handler)
    return bodies[0]


def written(registry: CollectorRegistry, folder: Path) -> bytes:
    write_to_textfile(str(folder / "nextmv.prom"), registry)
    return (folder / "nextmv.prom").read_bytes()


def wsgi(registry: CollectorRegistry, _: Path) -> bytes:
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    return b"".join(make_wsgi_app(registry)(environ, lambda *_: lambda _: None))


def served(registry: CollectorRegistry, _: Path) -> bytes:
    server, thread = start_http_server(0, "127.0.0.1", registry)
    with closing(urlopen(f"http://127.0.0.1:{server.server_port}/metrics")) as response:
        body: bytes = response.read()
    server.shutdown()
    server.server_close()
    thread.join()
    return body


@pytest.mark.parametrize("publish", [pushed, written, wsgi, served])
def test_it_works_with_all_ways_of_prometheus_client(
    publish: Callable[[CollectorRegistry, Path], bytes], registry: CollectorRegistry, tmp_path: Path
) -> None:
    assert queued(publish(registry, tmp_path).decode()) == 1


def test_a_collector_that_was_made_before_a_fork_works_after_it(api: FakeAPI) -> None:
    """As where a server loads the program and then forks its workers."""
    api.serves(QUEUED)
    code = """
import os, sys
from prometheus_client import CollectorRegistry, generate_latest
from nextmv_exporter import Account, Client, QueueCollector
registry = CollectorRegistry()
registry.register(QueueCollector({"a": Account(Client(sys.argv[1], sys.argv[2]))}, timeout=60))
children = [os.fork() for _ in range(2)]
for _ in range(10):
    assert b'nextmv_up{account="a"} 1.0' in generate_latest(registry)
if all(children):
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""
    subprocess.run([sys.executable, "-c", code, KEY, api.url], check=True)
    assert len(api.requests) == 40


def test_importing_the_package_changes_nothing_outside_it() -> None:
    code = """
import logging, os, signal, socket, ssl, threading, prometheus_client, requests, urllib3
def state():
    counter = prometheus_client.Counter("c", "c", registry=None)
    return (
        sorted(sample.name for family in counter.collect() for sample in family.samples),
        len(list(prometheus_client.REGISTRY.collect())),
        dict(os.environ),
        logging.root.handlers, logging.root.level,
        [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)],
        socket.socket, ssl.SSLContext, requests.Session.send, threading.stack_size(),
        urllib3.connection.HTTPConnection._new_conn, threading.active_count(),
    )
before = state()
import nextmv_exporter, nextmv_exporter.collector, nextmv_exporter.nextmv
from nextmv_exporter.nextmv import Account, Client
nextmv_exporter.collector.QueueCollector({"a": Account(Client("key", "http://127.0.0.1:1"))})
assert state() == before, (state(), before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_process_and_the_build_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTMV_EXPORTER_REVISION", "abc123")
    families = {family.name: family.samples for family in ProcessMetricsCollector().collect()}
    [build] = families["nextmv_exporter_build_info"]
    assert build.value == 1
    assert build.labels["revision"] == "abc123"
    assert build.labels.keys() == {"version", "revision", "pythonversion"}
    assert {"process_cpu_seconds", "process_open_fds", "python_info"} <= families.keys()
    monkeypatch.delenv("NEXTMV_EXPORTER_REVISION")
    [build] = next(iter(ProcessMetricsCollector().collect())).samples
    assert build.labels["revision"] == "unknown"
