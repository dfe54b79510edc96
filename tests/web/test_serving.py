"""The exporter's endpoints and signals, on a real port."""

import contextlib
import gzip
import http.client
import json
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.exporter import exporter_process
from support.fake_api import KEY, RUN, Answer, FakeAPI
from support.metrics import value, values
from support.waiting import until

from nextmv_exporter.scrape.threads import STACK_BYTES


@dataclass
class Running:
    url: str
    api: FakeAPI


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with (
        FakeAPI() as api,
        exporter_process(endpoint=api.url) as exporter,
    ):
        assert api.requests == [], "nothing is fetched at start"
        api.serves(RUN)
        yield Running(exporter.url, api)


@pytest.mark.parametrize(
    "accept", ["", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"]
)
def test_promtool_accepts_the_text_format(running: Running, accept: str) -> None:
    answer = requests.get(f"{running.url}/metrics", headers={"Accept": accept}, timeout=10)

    if "openmetrics" in accept:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
        parsed = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
        families = {family.name for family in parsed}
        assert "nextmv_account_queue_wait_seconds" in families
    else:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        subprocess.run(["promtool", "check", "metrics"], input=answer.content, check=True)


def test_gzip_is_used_when_it_is_accepted(running: Running) -> None:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()

    assert answer.getheader("Content-Encoding") == "gzip"
    assert value(gzip.decompress(answer.read()).decode(), "nextmv_up") == 1
    connection.close()


def test_a_response_has_the_date_in_the_format_of_http(running: Running) -> None:
    date = requests.get(f"{running.url}/-/ready", timeout=10).headers["Date"]
    assert date.endswith(" GMT")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 10


def test_names_choose_series_and_save_the_request_that_they_do_not_need(running: Running) -> None:
    before = len(running.api.requests)
    process = requests.get(
        f"{running.url}/metrics", {"name[]": "process_open_fds"}, timeout=10
    ).text
    assert len(running.api.requests) == before
    both = requests.get(
        f"{running.url}/metrics",
        {"name[]": ["nextmv_up", "nextmv_account_queue_wait_seconds_bucket"]},
        timeout=10,
    ).text

    assert value(process, "process_open_fds") > 0
    assert values(process, "nextmv_up") == []
    assert value(both, "nextmv_up") == 1
    assert values(both, "nextmv_account_queue_wait_seconds_bucket")
    assert values(both, "nextmv_account_queue_length") == []


def test_one_account_is_scraped_without_the_processs_own_metrics(running: Running) -> None:
    text = requests.get(f"{running.url}/metrics", {"account": "default"}, timeout=10).text

    assert value(text, "nextmv_up", account="default") == 1
    assert values(text, "process_open_fds") == []


def test_an_unknown_account_is_not_found_and_the_known_ones_are_named(running: Running) -> None:
    for path in ("/metrics", "/"):
        for asked in (["nobody"], ["default", "nobody"]):
            answer = requests.get(f"{running.url}{path}", {"account": asked}, timeout=10)
            assert answer.status_code == 404
            assert answer.text == (
                "No account 'nobody' is monitored here. Known accounts: default.\n"
            )


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/metrics/", "/-/reload", "/favicon.ico", "/%0A", "/metrics%0a", "/-/ready%0A"],
)
def test_unknown_paths_are_not_found(running: Running, path: str) -> None:
    for _ in range(2):
        answer = requests.get(f"{running.url}{path}", timeout=10)
        assert (answer.status_code, answer.text) == (404, "Not Found\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/sd", "/-/healthy", "/-/ready"])
def test_only_get_and_head_are_allowed(running: Running, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = requests.request(method, f"{running.url}{path}", timeout=10)
        assert (answer.status_code, answer.text) == (405, "Method Not Allowed")
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}
    head = requests.head(f"{running.url}{path}", timeout=10)
    assert (head.status_code, head.content) == (200, b"")


def test_each_scrape_fetches_the_queue_anew(running: Running) -> None:
    before = len(running.api.requests)
    for _ in range(3):
        requests.get(f"{running.url}/metrics", timeout=10)

    assert len(running.api.requests) == before + 3


def test_drained_groups_are_reported_as_zero(running: Running) -> None:
    running.api.serves(RUN)
    requests.get(f"{running.url}/metrics", timeout=10)
    running.api.serves()
    text = requests.get(f"{running.url}/metrics", timeout=10).text
    running.api.serves(RUN)

    labels = {"execution_class": RUN["execution_class"], "application_id": RUN["application_id"]}
    assert value(text, "nextmv_account_queue_length", status_v2="queued", **labels) == 0
    assert value(text, "nextmv_account_queue_oldest_queued_run_age_seconds", **labels) == 0


def test_the_landing_page_shows_the_last_scrape_and_fetches_nothing(running: Running) -> None:
    requests.get(f"{running.url}/metrics", timeout=10)
    before = len(running.api.requests)
    page = requests.get(running.url, timeout=10)

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<dd data-status="queued">1</dd>' in page.text
    assert len(running.api.requests) == before
    assert KEY not in page.text


def test_it_asks_with_the_key_on_a_connection_that_is_kept(running: Running) -> None:
    requests.get(f"{running.url}/metrics", timeout=10)
    headers = running.api.requests[-1].headers

    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["User-Agent"].startswith("nextmv-exporter/")
    assert headers["Connection"] == "keep-alive"


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
@pytest.mark.parametrize(
    ("path", "status", "start"),
    [
        ("/metrics?account=default", 200, "# HELP"),
        ("/-/%68ealthy", 200, "Healthy"),
        ("", 200, "<!doctype html>"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_targets_in_absolute_form_are_those_of_their_paths(
    running: Running, scheme: str, path: str, status: int, start: str
) -> None:
    host = running.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        connection.request("GET", f"{scheme}://{host}{path}")
        answer = connection.getresponse()
        assert answer.status == status
        assert answer.read().decode().lower().startswith(start.lower())


def test_the_host_of_a_target_in_absolute_form_replaces_that_of_the_header(
    running: Running,
) -> None:
    host = running.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        connection.request("GET", "http://target.example:1/sd", headers={"Host": "header.example"})
        [group] = json.load(connection.getresponse())
    assert group["targets"] == ["target.example:1"]


def test_the_other_headers_of_a_request_with_an_absolute_target_are_read(running: Running) -> None:
    host = running.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        connection.request("GET", f"http://{host}/metrics", headers={"Accept-Encoding": "gzip"})
        assert connection.getresponse().headers["Content-Encoding"] == "gzip"


def test_headers_of_a_proxy_do_not_change_the_targets(running: Running) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    [group] = requests.get(f"{running.url}/sd", headers=headers, timeout=10).json()
    assert group["labels"]["__scheme__"] == "http"


@pytest.mark.parametrize(
    "host",
    [
        "user@evil:1", "user:word@evil", "evil:port", "evil:99999", "evil:", "[::1", "evil/../x",
        "evil?x", "evil#x", "e vil", "\xe9vil", "[evil]:1", "",
    ],
)  # fmt: skip
def test_an_invalid_host_header_does_not_reach_the_targets(running: Running, host: str) -> None:
    answer = requests.get(f"{running.url}/sd", headers={"Host": host.encode("latin-1")}, timeout=10)
    assert answer.status_code == 200
    [group] = answer.json()
    assert group["targets"] == [running.url.removeprefix("http://")]


def test_it_listens_on_each_address() -> None:
    addresses = (f"--web.listen-address={host}:0" for host in ("127.0.0.1", "127.0.0.2"))
    with exporter_process("--demo", *addresses) as exporter:
        until(lambda: exporter.logged("Listening") == 2)
        for url in re.findall(r"address=(127\.0\.0\.[12]:\d+)", exporter.log):
            assert requests.get(f"http://{url}/-/ready", timeout=10).status_code == 200


def test_an_address_in_use_ends_the_program_and_frees_the_others() -> None:
    with exporter_process("--demo") as exporter:
        addresses = [f"--web.listen-address={each}" for each in ("127.0.0.1:0", exporter.address)]
        ended = subprocess.run(
            [sys.executable, "-m", "nextmv_exporter", "--demo", *addresses],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 2
    assert f"can't listen on {exporter.address}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def blocks_hangup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = re.search(r"SigBlk:\s*([0-9a-f]+)", status)
    assert blocked
    return bool(int(blocked[1], 16) & 1 << (signal.SIGHUP - 1))


def test_sighup_during_the_start_waits_until_the_server_handles_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "nextmv_exporter", "--demo", "--web.listen-address=127.0.0.1:0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr
        until(lambda: blocks_hangup(process.pid), seconds=20, what="the first line of the program")
        process.send_signal(signal.SIGHUP)
        assert "msg=Listening" in process.stderr.readline()
        until(lambda: not blocks_hangup(process.pid), seconds=20, what="the server handles it")
        process.send_signal(signal.SIGHUP)
        process.terminate()
        assert process.wait(20) == 0


def test_sighup_is_logged_and_changes_nothing_where_no_thread_can_be_started() -> None:
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        limit = resource.prlimit(exporter.pid, resource.RLIMIT_AS)
        used = exporter.status("VmSize") * 1024
        less_than_a_stack = STACK_BYTES // 2
        resource.prlimit(exporter.pid, resource.RLIMIT_AS, (used + less_than_a_stack, limit[1]))
        exporter.hang_up()
        until(
            lambda: exporter.logged('msg="Reload failed, keeping current accounts" err='),
            seconds=20,
            what="the log line",
        )
        resource.prlimit(exporter.pid, resource.RLIMIT_AS, limit)
        assert exporter.up() == {"default": 1}
        assert exporter.logged("can't start new thread") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_a_signal_lets_the_scrape_in_flight_finish_and_ends_with_zero(
    number: signal.Signals,
) -> None:
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        release = threading.Event()
        api.serves(RUN)
        api.answer = Answer(200, api.answer.body, held_until=release)
        scraped: list[str] = []
        scrape = threading.Thread(target=lambda: scraped.append(exporter.scrape()))
        scrape.start()
        until(lambda: api.requests, seconds=10, what="the request in flight")

        exporter.process.send_signal(number)
        asked = time.monotonic()
        until(lambda: exporter.get("/-/ready").status == 503, seconds=4, what="not ready any more")
        assert exporter.get("/-/ready").body == "Shutting down\n"
        assert exporter.get("/-/healthy").status == 200
        release.set()
        scrape.join()

        assert exporter.process.wait(timeout=10) == 0
        assert time.monotonic() - asked < 8
        assert value(scraped[0], "nextmv_up") == 1


def test_a_second_sigterm_ends_at_once_and_quietly() -> None:
    never = threading.Event()
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        api.answer = Answer(held_until=never)

        def scrape() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                exporter.get("/metrics")

        threads = [threading.Thread(target=scrape) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: api.requests, seconds=20, what="a request in flight")
        exporter.process.send_signal(signal.SIGTERM)
        until(lambda: exporter.get("/-/ready").status == 503, seconds=4, what="not ready any more")
        exporter.process.send_signal(signal.SIGTERM)
        assert exporter.process.wait(timeout=10) == 0
        never.set()
        for thread in threads:
            thread.join(10)
    assert "Traceback" not in exporter.log
    assert "level=error" not in exporter.log
    assert exporter.log.splitlines()[-1].endswith("msg=Stopped")


def test_sigterm_ends_within_five_seconds_whatever_hangs() -> None:
    never = threading.Event()
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        api.answer = Answer(held_until=never)

        def scrape() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                exporter.get("/metrics")

        def in_flight() -> bool:
            threading.Thread(target=scrape, daemon=True).start()
            return bool(api.requests)

        until(in_flight, seconds=20, what="a request in flight")
        asked = time.monotonic()
        exporter.process.send_signal(signal.SIGTERM)

        assert exporter.process.wait(timeout=10) == 0
        assert time.monotonic() - asked < 8  # promised are 5; the rest is for slow machines
        never.set()
    assert "Traceback" not in exporter.log
    assert "level=error" not in exporter.log
