"""`python -m nextmv_exporter` is `nextmv-exporter`."""

import os
import signal
from importlib import import_module


def main() -> None:
    """Run `nextmv-exporter` and exit."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server handles it
    _run("cli")


def queue() -> None:
    """Run `nextmv-queue` and exit."""
    _run("nextmv.queue_command")


def _run(module: str) -> None:
    """Run a module's `main`; end quietly at a signal, also during the imports.

    Process 1 of a container gets only signals with a handler, and Python's own for an interrupt
    would print a traceback.
    """
    signal.signal(signal.SIGINT, _exit)
    signal.signal(signal.SIGTERM, _exit)
    import_module(f"nextmv_exporter.{module}").main()


def _exit(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
