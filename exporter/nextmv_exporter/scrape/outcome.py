"""The results of an account's scrapes, and the log of those that failed."""

import time
from dataclasses import dataclass

from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import Counters
from nextmv_exporter.scrape.summary import Summary

# Seconds between two log lines about the same failure.
LOG_INTERVAL = 60.0

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

    A failure that begins again within the minute, for the same reason, is logged after it, so that
    scrapes that fail and succeed in turn do not fill the log.

    Args:
        account: the account's name.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._reason: Reason | None = None  # the latest that was logged
        self._logged = float("-inf")  # when, monotonic seconds
        self._failing = False  # as far as the log says
        self._failed = 0  # scrapes since the last success

    def log(self, failure: Failure | None) -> None:
        """Log the result of a scrape, if it says something new.

        Args:
            failure: why it failed; None if it succeeded.
        """
        now, account = time.monotonic(), self._account
        if failure is None:
            if self._failing:
                message, failed = "Scrape succeeded after failures", self._failed
                log.info(message, account=account, reason=self._reason, count=failed)
            self._failing, self._failed = False, 0
            return
        self._failed += 1
        reason, text = failure.reason, failure.message
        if reason is not self._reason or now - self._logged >= LOG_INTERVAL:
            log.warning(
                "Scrape failed", account=account, reason=reason, err=text, count=self._failed
            )
            self._reason, self._logged, self._failing = reason, now, True
