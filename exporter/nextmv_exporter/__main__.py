"""`python -m nextmv_exporter` is `nextmv-exporter`."""

import signal


def main() -> None:
    """Run the program and exit."""
    # Until the server handles it, SIGHUP waits: it would end the program while that starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from nextmv_exporter.cli import main as run

    run()


if __name__ == "__main__":
    main()
