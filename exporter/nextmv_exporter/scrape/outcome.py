"""The results of an account's scrapes, and the log of those that failed."""

import time
from dataclasses import dataclass
from typing import Any

from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import Counters
from nextmv_exporter.scrape.summary import Summary

LOG_INTERVAL = 60.0
"""Seconds between two log lines about the same failure."""

log = get_logger()


@dataclass(frozen=True)
class Failure:
    """Why an account could not be read.

    Args:
        reason: the value of the `reason` label.
        message: for the operator.
    """

    reason: Reason
    message: str


@dataclass(frozen=True)
class Outcome:
    """The result of one account's scrape: a summary, or why there is none.

    Args:
        account: the account's name.
        source: what the queue is read from.
        duration: seconds to fetch, parse and summarise.
        finished: when, unix seconds.
        summary: the queue in numbers; None if it could not be read.
        failure: why it could not be read; None if it was.
        clock_offset: the API's clock less this machine's, seconds; None if no response told it.
    """

    account: str
    source: str
    duration: float
    finished: float
    summary: Summary | None = None
    failure: Failure | None = None
    clock_offset: float | None = None


@dataclass(frozen=True)
class Scrape:
    """What a scrape of an account reports.

    Args:
        outcome: its result.
        counters: what has been counted since the start.
    """

    outcome: Outcome
    counters: Counters


class FailureLog:
    """Log of a failure: when it begins, when its reason changes, once a minute, when it ends.

    A failure that begins again within the minute is logged after it, so that scrapes that fail
    and succeed in turn do not fill the log.

    Args:
        account: the account's name.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._logged: Failure | None = None
        self._logged_at = float("-inf")
        self._failing = False  # as far as the log says
        self._unlogged = 0  # failed scrapes since the last line
        self._failed = 0  # scrapes since the last success

    def failed(self, failure: Failure) -> None:
        """Log a failed scrape, if it says something new.

        Args:
            failure: why it failed.
        """
        self._failed += 1
        self._unlogged += 1
        now, last = time.monotonic(), self._logged
        same = failure == last or (self._failing and last and failure.reason is last.reason)
        if same and now - self._logged_at < LOG_INTERVAL:
            return
        fields: dict[str, Any] = {"account": self._account, "reason": failure.reason.value}
        log.warning("Scrape failed", **fields, err=failure.message, count=self._unlogged)
        self._logged, self._logged_at, self._failing, self._unlogged = failure, now, True, 0

    def succeeded(self) -> None:
        """Log the end of a failure, if its beginning was logged."""
        if self._failing and self._logged:
            fields: dict[str, Any] = {"account": self._account, "reason": self._logged.reason.value}
            log.info("Scrape succeeded after failures", **fields, count=self._failed)
        self._failing, self._failed = False, 0
