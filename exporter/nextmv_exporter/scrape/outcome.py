"""The result of one account's scrape."""

from dataclasses import dataclass

from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.counters import Counters
from nextmv_exporter.scrape.summary import Summary


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
    """

    account: str
    source: str
    duration: float
    finished: float
    summary: Summary | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Scrape:
    """What a scrape of an account reports.

    Args:
        outcome: its result.
        counters: what has been counted since the start.
    """

    outcome: Outcome
    counters: Counters
