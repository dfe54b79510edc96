"""Answers of `v1/account/queue` as bytes, made by the demo."""

import time
from functools import cache

import msgspec

from nextmv_exporter.demo import StandingAccount, wire

FEW_APPLICATIONS = 6
MANY_APPLICATIONS = 480
"""With the demo's execution classes and statuses just under 2,000 groups, the default limit."""


@cache
def queue_body(runs: int, applications: int = FEW_APPLICATIONS) -> bytes:
    """Write a queue as the API does.

    Args:
        runs: its length.
        applications: how many applications have these runs.

    Returns:
        JSON.
    """
    account = StandingAccount(runs, at=time.time(), applications=applications)
    return msgspec.json.encode({"runs": [wire.queued_run(run) for run in account.queue()]})
