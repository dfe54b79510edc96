"""`python -m nextmv_exporter`."""

import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
from support.fake_api import KEY, FakeAPI
from support.waiting import until

from nextmv_exporter import __main__


def test_imports_run_without_garbage_collection_and_with_sighup_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run() -> None:
        seen.append((gc.isenabled(), signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    monkeypatch.setattr("nextmv_exporter.cli.main", run)
    try:
        __main__.main()
    finally:
        gc.enable()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert seen == [(False, {signal.SIGHUP})]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_signal_before_the_server_handles_it_ends_the_program_quietly(
    api: FakeAPI, number: signal.Signals
) -> None:
    """The status is that of an exit: as process 1, it would not get a signal without a handler."""
    api.answer.held_until = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-m", "nextmv_exporter", "--once"],
        env={**os.environ, "NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            until(lambda: api.requests, seconds=30, what="the request")
            process.send_signal(number)
            assert process.communicate(timeout=5) == (b"", b"")
        finally:
            api.answer.held_until.set()
            process.kill()
    assert process.returncode == 128 + number
