"""A scrape answers by Prometheus's own timeout, whatever the other end does."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from support.programs import until

from exporter.scrape.target import MAX_THREADS
from exporter.web.app import TIMEOUT_HEADER
from faults import server
from faults.program import Program, Scrape, configuration, program
from faults.server import FaultServer

TIMEOUT = 3
"""Prometheus's timeout; half of it is the offset, and so room for slow machines."""

OFFSET = 1.5
GONE_WITHIN = 2 + 3
"""Seconds in which an abandoned request must be gone; the last three are for slow machines."""

FAULTS: Mapping[str, server.Fault] = {
    "never-answers": server.never_answers,
    "never-shakes-hands": server.never_shakes_hands,
    "drips-headers": server.drips_headers,
    "drips-interim-answers": server.drips_headers_for_ever,
    "drips-body": server.drips_body,
    "drips-chunks": server.drips_chunks,
    "drips-body-without-length": server.drips_body_without_length,
    "stalls-in-body": server.stalls_in_body,
}


class Watched:
    """An exporter with an account for each fault, and the server behind each."""

    def __init__(self, running: Program, servers: Mapping[str, FaultServer]) -> None:
        self.program = running
        self.servers = servers

    def open_connections(self) -> int:
        return sum(each.open_connections for each in self.servers.values())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("deadline")
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                FaultServer(fault, scheme="https" if name == "never-shakes-hands" else "http")
            )
            for name, fault in FAULTS.items()
        }
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        fillers = [stack.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        endpoints = {name: each.url for name, each in servers.items()}
        endpoints["never-connects"] = f"http://127.0.0.1:{full.getsockname()[1]}"
        configuration(home, endpoints)
        flags = ("--nextmv.profile", "*", "--web.timeout-offset", f"{OFFSET}s")
        running = stack.enter_context(program(home, *flags, without=("NEXTMV_API_KEY",)))
        yield Watched(running, servers)


@pytest.mark.parametrize("fault", [*FAULTS, "never-connects"])
def test_a_scrape_answers_in_time_with_reason_timeout(watched: Watched, fault: str) -> None:
    before = watched.program.threads(), watched.program.sockets()

    scrape = watched.program.scrape(TIMEOUT, account=fault)

    assert scrape.seconds < TIMEOUT
    assert scrape.up(fault) == 0
    assert scrape.errors("timeout", fault) == 1
    assert "nextmv_account_queue" not in samples(scrape)
    # The abandoned request is closed from outside: its socket and threads are gone soon.
    until(lambda: not watched.open_connections(), seconds=GONE_WITHIN, what="connections closed")
    until(
        lambda: watched.program.threads() <= before[0] + WORKER and gone(watched, before[1]),
        seconds=GONE_WITHIN,
        what="threads and sockets gone",
    )


WORKER = 1
"""A thread that writes expositions may have come meanwhile; it is used again."""


def gone(watched: Watched, sockets: int) -> bool:
    return watched.program.sockets() <= sockets


def samples(scrape: Scrape) -> str:
    return "\n".join(line for line in scrape.text.splitlines() if not line.startswith("#"))


def test_all_hang_at_once_and_the_scrape_still_answers_in_time(watched: Watched) -> None:
    scrape = watched.program.scrape(TIMEOUT)

    assert scrape.seconds < TIMEOUT
    assert all(scrape.up(fault) == 0 for fault in [*FAULTS, "never-connects"])
    until(lambda: not watched.open_connections(), seconds=GONE_WITHIN, what="connections closed")


def test_an_error_whose_body_drips_is_told_in_time(tmp_path: Path) -> None:
    with FaultServer(server.drips_error) as api:
        flags = ("--web.timeout-offset", f"{OFFSET}s")
        with program(tmp_path, *flags, NEXTMV_ENDPOINT=api.url) as running:
            scrape = running.scrape(TIMEOUT)

            assert scrape.seconds < TIMEOUT
            assert scrape.up() == 0
            until(lambda: not api.open_connections, seconds=GONE_WITHIN, what="closed")


def test_without_prometheuss_header_the_exporters_own_timeout_bounds_a_scrape(
    tmp_path: Path,
) -> None:
    with (
        FaultServer(server.drips_body) as api,
        program(tmp_path, "--nextmv.timeout", "1s", NEXTMV_ENDPOINT=api.url) as running,
    ):
        scrape = running.scrape()

        assert 1 <= scrape.seconds < 5
        assert scrape.errors("timeout") == 1


@pytest.mark.parametrize("header", ["soon", "nan", "-1", "0", "inf", "", "1e999"])
def test_a_malformed_timeout_is_ignored_with_a_warning(
    healthy: Program, header: str
) -> None:
    logged = len(healthy.log)

    scrape = healthy.scrape(header)

    assert scrape.up() == 1
    [line] = healthy.log[logged:].splitlines()
    assert "level=warning" in line
    assert TIMEOUT_HEADER in line


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with (
        FaultServer(server.serves(server.answer())) as api,
        program(tmp_path_factory.mktemp("healthy"), NEXTMV_ENDPOINT=api.url) as running,
    ):
        yield running


def namespaces_allowed() -> bool:
    made = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and made.returncode == 0


@pytest.mark.skipif(not namespaces_allowed(), reason="needs root and mount namespaces")
def test_behind_a_name_server_that_does_not_answer_scrapes_answer_and_threads_stay_few(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        address = f"127.53.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
        silent.bind((address, 53))
        resolver = tmp_path / "resolv.conf"
        resolver.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
        isolated = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
        with program(
            tmp_path,
            "--web.timeout-offset",
            f"{OFFSET}s",
            prefix=("unshare", "--mount", "sh", "-c", isolated, "sh"),
            NEXTMV_ENDPOINT="https://api.nextmv.test",
        ) as running:
            expect_few_threads(running)
            assert silent.recv(512)


def test_a_resolver_that_hangs_for_ever_costs_few_threads_and_no_scrape(tmp_path: Path) -> None:
    # Everywhere, and without end: this is done inside the program, where it starts.
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\nsocket.getaddrinfo = lambda *_, **__: time.sleep(600)\n"
    )
    with program(
        tmp_path,
        "--web.timeout-offset",
        f"{OFFSET}s",
        NEXTMV_ENDPOINT="https://api.nextmv.test",
        PYTHONPATH=str(tmp_path),
    ) as running:
        expect_few_threads(running)
        assert running.terminate() == 0


def expect_few_threads(running: Program) -> None:
    timeout = OFFSET + 1
    first = running.scrape(timeout)
    assert first.seconds < timeout
    assert first.errors("timeout") == 1
    for _ in range(MAX_THREADS - 1):
        assert running.scrape(timeout).seconds < timeout
    threads = running.threads()
    # No more is begun now, and so nothing waited for.
    last = [running.scrape(timeout) for _ in range(5)][-1]
    assert last.seconds < timeout
    assert last.errors("timeout") == MAX_THREADS + 5
    assert running.threads() <= threads


def test_each_of_many_scrapes_keeps_its_own_deadline(tmp_path: Path) -> None:
    timeouts = [3, 4, 5, 6, 30]
    with (
        FaultServer(server.slowly(5.5)) as api,
        program(tmp_path, "--web.timeout-offset", "1.5s", NEXTMV_ENDPOINT=api.url) as running,
        ThreadPoolExecutor(len(timeouts)) as callers,
    ):
        scrapes = list(callers.map(running.scrape, timeouts))

        assert [scrape.up() for scrape in scrapes] == [0, 0, 0, 0, 1]
        assert all(s.seconds < timeout for s, timeout in zip(scrapes, timeouts, strict=True))
        assert len(api.requests) == 1
        # It is one request that was late, and so one error.
        assert running.scrape(30).errors("timeout") == 1


def test_the_process_answers_others_while_a_scrape_hangs(watched: Watched) -> None:
    with ThreadPoolExecutor(1) as caller:
        hanging = caller.submit(watched.program.scrape, TIMEOUT)
        ready = requests.get(f"{watched.program.url}/-/ready", timeout=TIMEOUT)
        assert ready.status_code == 200
        assert not hanging.done()
