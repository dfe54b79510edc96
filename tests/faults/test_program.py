"""The program as a whole, in front of an API and a name server that misbehave."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.fake_api import KEY, RUN
from support.waiting import until

from faults.fault_server import Conversation, FaultServer, answer, answers, queue
from faults.running_exporter import scrape
from nextmv_exporter.scrape.target import MAX_FETCHES

MIB = 1024 * 1024
TIMEOUT = 1.5


@pytest.mark.system
def test_a_hundred_scrapes_at_once_share_a_request_and_their_failure_counts_once() -> None:
    release = threading.Event()

    def hold(conversation: Conversation) -> None:
        while conversation.hear():
            release.wait(120)
            conversation.say(answer(b"", "401 Unauthorized"))

    with (
        FaultServer(hold) as server,
        exporter_process("--nextmv.timeout=2m", endpoint=server.url) as exporter,
        ThreadPoolExecutor(100) as pool,
    ):
        scrapes = [pool.submit(scrape, exporter.address, 120) for _ in range(100)]
        # The response is held back until all scrapes have come.
        until(lambda: exporter.descriptors > 100, seconds=60, what="the connections")
        threading.Timer(2, release.set).start()
        answered = [each.result() for each in scrapes]
        assert len(server.requests) == 1
    assert all(each.errors == {"auth": 1} and not each.up for each in answered)


def test_a_key_that_the_api_echoes_is_in_no_output() -> None:
    echo = f'{{"error": "{KEY} is not valid", "Authorization": "Bearer {KEY}"}}'.encode()
    statuses = ("200 OK", "302 Found", f"401 {KEY}", "403 No", "404 No", "429 Slow", "500 Oh")
    texts = []
    with (
        FaultServer(answers(queue())) as server,
        exporter_process("--log.level=debug", endpoint=server.url) as exporter,
    ):
        for status in statuses:
            server.behave = answers(
                answer(echo, status, Location=f"https://elsewhere.example/{KEY}", X_Key=KEY)
            )
            server.close_connections()
            texts += [scrape(exporter.address).text, exporter.get("/").body]
        server.behave = answers(queue({**RUN, "application_id": 7, "created_at": KEY}))
        server.close_connections()
        texts += [scrape(exporter.address).text, exporter.get("/").body]
        assert f"Bearer {KEY}" in server.requests[-1].decode()
    assert "elsewhere.example" not in str(server.requests)
    assert len(texts) == 16
    assert all(KEY not in text for text in (*texts, exporter.log))
    assert "Traceback" not in exporter.log


def test_a_gzip_bomb_of_ten_gigabytes_costs_a_few_mebibytes() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b'{"runs": [') + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the same text gives the same bytes again.
    block = packer.compress(b" " * 16 * MIB) + packer.flush(zlib.Z_FULL_FLUSH)

    def bomb(conversation: Conversation) -> None:
        conversation.hear()
        conversation.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + head)
        for _ in range(640):
            conversation.say(block)

    flags = ("--nextmv.max-response-bytes=4MiB", "--nextmv.timeout=60s")
    with (
        FaultServer(answers(queue())) as server,
        exporter_process(*flags, endpoint=server.url) as exporter,
    ):
        assert scrape(exporter.address, 60).up
        before = exporter.resident_mib
        server.behave = bomb
        server.close_connections()
        failed = scrape(exporter.address, 60)
        assert exporter.status("VmHWM") / 1024 - before < 24
    assert failed.errors == {"response_too_large": 1}


@pytest.mark.system
def test_a_name_server_that_does_not_respond_costs_no_scrape_and_few_threads(
    tmp_path: Path,
) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    address = f"127.53.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
    resolv_conf.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
    # Unseen by all others, the program has a resolver configuration of its own.
    script = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
    isolated = ("unshare", "--mount", "sh", "-c", script, "sh")
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        exporter_process(
            python=(*isolated, sys.executable), endpoint="https://api.nextmv.test"
        ) as exporter,
    ):
        server.bind((address, 53))
        scraped = [scrape(exporter.address, TIMEOUT) for _ in range(MAX_FETCHES)]
        threads = exporter.threads
        scraped += [scrape(exporter.address, TIMEOUT) for _ in range(3)]
        assert exporter.threads <= threads + 1  # one may be about to end
        assert all(each.seconds < TIMEOUT and not each.up for each in scraped)
        assert scraped[-1].errors == {"timeout": MAX_FETCHES + 3}
        threading.Thread(target=answer_queries, args=(server,), daemon=True).start()
        until(lambda: "connection" in scrape(exporter.address).errors, seconds=120)


def answer_queries(server: socket.socket) -> None:
    """Answer that there is no such host, until the socket is closed."""
    with contextlib.suppress(OSError):
        while True:
            query, client = server.recvfrom(512)
            server.sendto(query[:2] + b"\x81\x83" + query[4:], client)
