"""The demo as several accounts, and as Nextmv after the queue endpoint's removal."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.harness import get
from support.waiting import until

from nextmv_exporter.demo import DEMO_KEY


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


def queue(url: str, key: str) -> tuple[int, str]:
    return get(f"{url}/v1/account/queue", Authorization=f"Bearer {key}")


def test_each_account_has_a_key_and_a_life_of_its_own() -> None:
    with demo("--accounts", "3") as (_, (url, *keys)):
        assert keys[0] == DEMO_KEY
        answers = [queue(url, key) for key in keys]
    assert [status for status, _ in answers] == [200] * 3
    assert len({body for _, body in answers}) == 3


def test_the_exporter_monitors_all_of_the_demos_accounts_by_its_configuration_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yaml"
    arguments = ("--accounts", "3", "--config-file", str(file))
    with (
        demo(*arguments),
        exporter_process("--nextmv.config-file", str(file), "--nextmv.profile", "*") as exporter,
    ):
        assert exporter.up() == {"demo-1": 1, "demo-2": 1, "demo-3": 1}


@pytest.mark.parametrize("status", [404, 410])
def test_the_queue_endpoint_can_be_removed_and_restored_while_it_runs(status: int) -> None:
    with demo("--queue-removed", str(status)) as (process, (url, key)):
        assert queue(url, key)[0] == status
        process.send_signal(signal.SIGUSR1)
        until(lambda: queue(url, key)[0] == 200)
        process.send_signal(signal.SIGUSR1)
        until(lambda: queue(url, key)[0] == status)


def test_the_exporter_goes_on_without_the_queue_endpoint(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    arguments = ("--accounts", "2", "--config-file", str(file))
    with (
        demo(*arguments) as (process, (url, key, _)),
        exporter_process("--nextmv.config-file", str(file), "--nextmv.profile", "*") as exporter,
    ):
        assert exporter.sources() == {"account-queue"}
        process.send_signal(signal.SIGUSR1)
        until(lambda: queue(url, key)[0] == 404)
        assert set(exporter.up().values()) == {1}
        assert exporter.sources() == {"application-runs"}
        until(lambda: exporter.logged("Queue endpoint is gone") == 2)
