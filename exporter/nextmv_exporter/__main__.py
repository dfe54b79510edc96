"""`python -m nextmv_exporter` is `nextmv-exporter`."""

import gc
import signal


def main() -> None:
    """Run the program and exit."""
    # Imports leave no garbage, and to look for it takes 6 % of the start.
    gc.disable()
    # Blocked until the server handles it: a SIGHUP during start-up would end the program.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from nextmv_exporter.cli import main as run

    run()


if __name__ == "__main__":
    main()
