"""`python -m nextmv_exporter` is `nextmv-exporter`."""

import signal


def main() -> None:
    """Run the program and exit."""
    # Blocked until the server handles it: a SIGHUP during start-up would end the program.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from nextmv_exporter.cli import main as run

    run()


if __name__ == "__main__":
    main()
