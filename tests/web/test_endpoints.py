"""What the endpoints answer, on a real port."""

import gzip
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from support.exporter import Served, exporter_here, exporter_process
from support.fake_api import KEY, RUN, FakeAPI
from support.logs import capture_logs
from support.metrics import open_metrics, value, values
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.web.app import TIMEOUT_HEADER

PATHS = ("/", "/metrics", "/sd", "/-/healthy", "/-/ready")


@dataclass
class Running:
    served: Served
    api: FakeAPI


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with FakeAPI() as api:
        api.serves(RUN)
        accounts = {name: Credentials(KEY + name, api.url) for name in ("blue", "a b")}
        with exporter_here("--web.telemetry-path=/metrics", accounts=accounts) as served:
            assert api.requests == [], "nothing is fetched at start"
            yield Running(served, api)


def test_each_scrape_fetches_each_queue_anew(running: Running) -> None:
    before = len(running.api.requests)
    for _ in range(3):
        assert running.served.up() == {"blue": 1, "a b": 1}
    assert len(running.api.requests) == before + 6
    assert value(running.served.scrape(), "process_open_fds") > 0


def test_the_format_is_negotiated(running: Running) -> None:
    text = running.served.get("/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert abs(parsedate_to_datetime(text.headers["Date"]).timestamp() - time.time()) < 60
    accept = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    other = running.served.get("/metrics", headers=accept)
    assert other.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "nextmv_up" in {each.name for each in open_metrics(gzip.decompress(other.raw).decode())}


def test_an_account_is_scraped_alone_and_without_the_processs_own_metrics(running: Running) -> None:
    before = len(running.api.requests)
    text = running.served.scrape("?account=a%20b")
    assert values(text, "nextmv_up") == [1]
    assert value(text, "nextmv_up", account="a b") == 1
    assert values(text, "process_open_fds") == []
    assert len(running.api.requests) == before + 1
    assert values(running.served.scrape("?account=blue&account=a%20b"), "nextmv_up") == [1, 1]


def test_names_choose_series(running: Running) -> None:
    before = len(running.api.requests)
    assert values(running.served.scrape("?name[]=process_open_fds"), "nextmv_up") == []
    assert len(running.api.requests) == before, "the queue was not needed"
    text = running.served.scrape("?name[]=nextmv_up&name[]=nextmv_source_info&account=blue")
    assert values(text, "nextmv_up") == [1]
    assert values(text, "nextmv_account_queue_length") == []


@pytest.mark.parametrize("path", ["/metrics", "/"])
def test_an_unknown_account_is_not_found_and_the_known_ones_are_named(
    running: Running, path: str
) -> None:
    for query in ("?account=nobody", "?account=blue&account=nobody"):
        answer = running.served.get(path + query)
        assert (answer.status, answer.body) == (
            404,
            "No account 'nobody' is monitored here. Known accounts: blue, a b.\n",
        )


def test_other_paths_are_not_found_and_other_methods_not_allowed(running: Running) -> None:
    for path in ("/nothing", "/metrics/", "/-/reload", "/%6detrics2"):
        answer = running.served.get(path)
        assert (answer.status, answer.body) == (404, "Not Found\n"), path
    for path in PATHS:
        head = running.served.get(path, method="HEAD")
        assert (head.status, head.raw) == (200, b""), path
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = running.served.get(path, method=method)
            assert answer.status == 405
            assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}


def test_a_target_may_be_a_whole_url_as_for_a_proxy(running: Running) -> None:
    url = running.served.url
    assert running.served.get(f"{url}/-/%68ealthy").body == "Healthy\n"
    assert running.served.get(url).headers["Content-Type"] == "text/html; charset=utf-8"
    assert running.served.get(f"{url}/nothing").status == 404


def test_service_discovery_has_a_target_for_each_account(running: Running) -> None:
    def groups(served: Served, **headers: str) -> object:
        return json.loads(served.get("/sd", headers=headers).body)

    assert groups(running.served, Host="exporter.example") == [
        {
            "targets": ["exporter.example:80"],
            "labels": {
                "__scheme__": "http",
                "__metrics_path__": "/metrics",
                "__param_account": account,
                "instance": account,
            },
        }
        for account in ("blue", "a b")
    ]
    by_host = groups(running.served)
    assert running.served.address in str(by_host)
    assert groups(running.served, **{"X-Forwarded-Proto": "https"}) == by_host
    for host in ("user@evil:1", "evil:port", "evil:99999", "[::1", "evil/../x", "evil?x", ""):
        assert groups(running.served, Host=host) == by_host, host
    flags = ("--web.external-url=https://outside.example/a/", "--web.telemetry-path=/m")
    with exporter_here(*flags, accounts={"x": Credentials(KEY, running.api.url)}) as served:
        assert groups(served) == [
            {
                "targets": ["outside.example:443"],
                "labels": {
                    "__scheme__": "https",
                    "__metrics_path__": "/a/m",
                    "__param_account": "x",
                    "instance": "x",
                },
            }
        ]


@pytest.mark.parametrize(
    ("header", "flags", "seconds"),
    [
        ("1", [], 0.5),
        ("1", ["--web.timeout-offset=0"], 1),
        ("1", ["--web.timeout-offset=10s"], 0.5),
        ("60", ["--nextmv.timeout=300ms"], 0.3),
        (None, ["--nextmv.timeout=300ms"], 0.3),
        *((text, ["--nextmv.timeout=300ms"], 0.3) for text in ("soon", "-5", "0", "nan")),
    ],
)
def test_a_scrape_ends_within_prometheus_timeout_less_the_offset_or_the_programs_own(
    api: FakeAPI, header: str | None, flags: list[str], seconds: float
) -> None:
    released = api.answer.held_until = threading.Event()
    with (
        capture_logs() as log,
        exporter_here(*flags, accounts={"default": Credentials(KEY, api.url)}) as served,
    ):
        sent = time.monotonic()
        text = served.get("/metrics", headers={TIMEOUT_HEADER: header} if header else {}).body
        took = time.monotonic() - sent
        released.set()
    assert seconds - 0.05 < took < seconds + 5  # on a busy machine
    assert value(text, "nextmv_up") == 0
    assert value(text, "nextmv_scrape_errors_total", reason="timeout") == 1
    ignored = [line["value"] for line in log if line["event"] == "Ignoring malformed header"]
    assert ignored == ([header] if (header and not header.isdigit()) or header == "0" else [])


def test_other_requests_are_answered_while_a_file_is_loaded(tmp_path: Path, api: FakeAPI) -> None:
    """The file is a pipe, which takes as long to load as the test likes."""
    file, pipe, new = tmp_path / "config.yaml", tmp_path / "pipe", tmp_path / "new"
    file.write_text(f"apikey: first\nendpoint: {api.url}\n")
    os.mkfifo(pipe)
    with exporter_process(environment={"NEXTMV_CONFIG_FILE": str(file)}) as exporter:
        pipe.replace(file)
        exporter.hang_up()
        late: list[str] = []
        scrape = threading.Thread(target=lambda: late.append(exporter.scrape(timeout=1)))
        scrape.start()
        with file.open("w") as loaded:  # once the exporter has opened it
            assert exporter.get("/-/healthy").status == 200
            assert exporter.get("/-/ready").status == 200
            time.sleep(1)
            new.write_text(f"apikey: second\nendpoint: {api.url}\n")
            new.replace(file)
            loaded.write(new.name)
        scrape.join()
        until(lambda: exporter.logged("Credentials reloaded"), what="the new key is in use")
        assert exporter.up() == {"default": 1}
    assert api.requests[-1].headers["Authorization"] == "Bearer second"
    assert value(late[0], "nextmv_up") == 0, "loading took all of the scrape's time"
