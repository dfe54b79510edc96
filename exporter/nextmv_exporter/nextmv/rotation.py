"""Credentials that follow their files, so that a rotated key needs no restart."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.files import stamp
from nextmv_exporter.nextmv.credentials import Credentials

log = structlog.get_logger()


class RotatingCredentials:
    """Gives an account's credentials, found anew when a file that they come from changes.

    A file that vanishes or is half written keeps the last good credentials, and is logged
    once.

    Args:
        account: the account's name, for the log.
        find: finds the credentials; raises ConfigurationError.
        files: the files that `find` reads.

    Raises:
        ConfigurationError: there are none to begin with.
    """

    def __init__(
        self, account: str, find: Callable[[], Credentials], files: Sequence[Path]
    ) -> None:
        self._account = account
        self._find = find
        self._files = files
        self._lock = threading.Lock()
        self._stamp = stamp(files)
        self._good = find()

    def __call__(self) -> Credentials:
        """Give the credentials as they are now.

        Returns:
            The latest good ones.
        """
        with self._lock:  # several requests of an account may be in flight
            latest = stamp(self._files)
            if latest != self._stamp:
                self._stamp = latest
                self._take_up()
            return self._good

    def _take_up(self) -> None:
        try:
            found = self._find()
        except ConfigurationError as error:
            log.warning("Kept the last good API key", account=self._account, err=str(error))
            return
        if found != self._good:
            log.info("Took up changed credentials", account=self._account)
        self._good = found
