"""`python -m nextmv_exporter`."""

import gc
import signal

import pytest

from nextmv_exporter import __main__


def test_imports_run_without_garbage_collection_and_with_sighup_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def run() -> None:
        seen.append((gc.isenabled(), signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    monkeypatch.setattr("nextmv_exporter.cli.main", run)
    try:
        __main__.main()
    finally:
        gc.enable()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    assert seen == [(False, {signal.SIGHUP})]
