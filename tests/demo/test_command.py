"""The demo as a program, and inside another one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from support.exporter import exporter_process
from support.waiting import until

from nextmv_exporter import Client
from nextmv_exporter.demo import DEMO_KEY, simulated_account


@contextmanager
def demo(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the demo alone; gives the process and the words that it prints."""
    command = [sys.executable, "-m", "nextmv_exporter.demo", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().split()
        finally:
            process.terminate()


def queue(url: str, key: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.get(f"{url}/v1/account/queue", headers=headers, timeout=60)


def test_a_context_serves_it_and_is_left_while_a_client_keeps_its_connection() -> None:
    with simulated_account() as account:
        client = Client(account.api_key, account.url)
        assert b'"runs"' in client.get("v1/account/queue")
        with simulated_account() as other:
            assert other.url != account.url
    with pytest.raises(requests.ConnectionError):
        queue(account.url, account.api_key)


def test_each_account_has_a_key_and_a_life_of_its_own() -> None:
    with demo("--accounts", "3") as (_, (url, *keys)):
        assert keys[0] == DEMO_KEY
        bodies = {queue(url, key).text for key in keys}
    assert len(bodies) == 3


def test_nextmv_queue_lists_its_runs() -> None:
    with demo("--runs", "7", "--applications", "2") as (_, (url, key)):
        command = [sys.executable, "-m", "nextmv_exporter.nextmv", "--endpoint", url, "--json"]
        environment = {**os.environ, "NEXTMV_API_KEY": key}
        listed = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert len(queue(url, key).json()["runs"]) == 7
    assert len(listed.stdout.splitlines()) == 7


def test_the_exporter_goes_on_while_the_queue_endpoint_is_removed_and_restored(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yaml"
    flags = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
    with (
        demo("--accounts", "2", "--config-file", str(file), "--queue-removed", "410") as (
            process,
            (url, key, _),
        ),
        exporter_process(*flags) as exporter,
    ):
        assert queue(url, key).status_code == 410
        assert exporter.up() == {"demo-1": 1, "demo-2": 1}
        assert exporter.sources() == {"application-runs"}
        process.send_signal(signal.SIGUSR1)
        until(lambda: queue(url, key).status_code == 200)
        process.send_signal(signal.SIGUSR1)
        until(lambda: queue(url, key).status_code == 410)
        assert set(exporter.up().values()) == {1}
