"""`python -m nextmv_exporter` is `nextmv-exporter`."""

import gc
import os
import signal


def main() -> None:
    """Run the program and exit."""
    # Until the server handles them. Process 1 of a container gets only signals with a handler,
    # and Python's own for an interrupt would print a traceback.
    signal.signal(signal.SIGINT, _exit)
    signal.signal(signal.SIGTERM, _exit)
    # Imports leave no garbage, and to look for it takes 6 % of the start.
    gc.disable()
    # Blocked until the server handles it: a SIGHUP during start-up would end the program.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from nextmv_exporter.cli import main as run

    run()


def _exit(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
