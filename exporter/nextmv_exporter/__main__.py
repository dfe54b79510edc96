"""`python -m nextmv_exporter` is `nextmv-exporter`."""

import os
import signal


def main() -> None:
    """Run `nextmv-exporter` and exit."""
    _handle_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which would end the program
    from nextmv_exporter.cli import main as run

    run()


def queue() -> None:
    """Run `nextmv-queue` and exit."""
    _handle_signals()
    from nextmv_exporter.nextmv.queue_command import main as run

    run()


def _handle_signals() -> None:
    """End quietly, also during the imports, until the server handles the signals.

    Process 1 of a container gets only signals with a handler, and Python's own for an interrupt
    would print a traceback.
    """
    signal.signal(signal.SIGINT, _exit)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _exit(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
