"""The dashboard's PromQL.

Two rules make it honest. Where a healthy account has nothing to show, the answer is 0, and where
an account can't be read it is NaN, which panels show as "unreadable": `0 / nextmv_up` is just
that. And `max without (instance, pod)` counts an account once that two exporters watch.
"""

ACCOUNT = 'account=~"$account"'
CLASS = f'{ACCOUNT}, execution_class=~"$execution_class"'
GROUP = f'{CLASS}, application_id=~"$application"'

GROUP_LABELS = "account, application_id, execution_class"
NEVER = 31_536_000
"""Seconds from which on a backlog is said not to drain: a year."""

UP = f"max by (account) (nextmv_up{{{ACCOUNT}}})"
EMPTY = f"0 / {UP}"


def _once(selector: str) -> str:
    return f"max without (instance, pod) ({selector})"


QUEUED = _once(f'nextmv_account_queue_length{{{GROUP}, status_v2="queued"}}')
RUNNING = _once(f'nextmv_account_queue_length{{{GROUP}, status_v2="running"}}')
AGE = _once(f"nextmv_account_queue_oldest_queued_run_age_seconds{{{GROUP}}}")
WAITS = _once(f"nextmv_account_queue_wait_seconds_bucket{{{CLASS}}}")


def per_account(query: str) -> str:
    """Complete a query with the accounts for which it found nothing.

    Args:
        query: gives at most one series per account.

    Returns:
        The query with 0 for other accounts that are readable, and NaN for those that are not.
    """
    return f"{query}\nor on (account) {EMPTY}"


def per_label(query: str, label: str, value: str) -> str:
    """Complete a query that may find nothing at all.

    Args:
        query: gives one series per value of the label.
        label: by which the series are told apart.
        value: of that label when there is nothing.

    Returns:
        The query, or a single series with 0 when accounts are readable, and NaN when none is.
    """
    return f'{query}\nor on () label_replace(max({EMPTY}), "{label}", "{value}", "", "")'


def growth(query: str) -> str:
    """Tell how fast something grows.

    Args:
        query: what to watch.

    Returns:
        Its growth per second over 15 minutes; negative while it shrinks.
    """
    return f"deriv((\n{query}\n)[15m:15s])"


def quantile(share: float) -> str:
    """Tell how long runs have waited.

    Args:
        share: of the runs that have waited less, from 0 to 1.

    Returns:
        Seconds per account; the buckets are a gauge, so there is no rate to take.
    """
    return per_account(f"histogram_quantile({share}, sum by (account, le) ({WAITS})) >= 0")


def time_to_empty() -> str:
    """Tell when the backlog is gone if it goes on shrinking as it does.

    Returns:
        Seconds per account: 0 when empty, `NEVER` when it doesn't shrink, NaN when unknown.
    """
    queued = per_account(f"sum by (account) ({QUEUED})")
    return (
        f"clamp_max((\n{queued}\n) / clamp_min(-{growth(queued)}, 0), {NEVER}) >= 0\n"
        f"or on (account) (\n{queued}\n) == 0\n"
        f"or on (account) {UP} * NaN"
    )


_QUEUED_BY_GROUP = f"sum by ({GROUP_LABELS}) ({QUEUED}) > 0"
_OLDEST_BY_GROUP = f"max by ({GROUP_LABELS}) ({AGE})\nand on ({GROUP_LABELS}) {_QUEUED_BY_GROUP}"
WORST_AGE = f"topk(25,\n{per_account(_OLDEST_BY_GROUP)}\n)"
_OF_THE_WORST = f"and on ({GROUP_LABELS}) {WORST_AGE}"
WORST_QUEUED = f"(\n{per_account(_QUEUED_BY_GROUP)}\n)\n{_OF_THE_WORST}"
_RUNNING_BY_GROUP = f"sum by ({GROUP_LABELS}) ({RUNNING})"
WORST_RUNNING = (
    f"(\n{_RUNNING_BY_GROUP}\nor on ({GROUP_LABELS}) 0 * ({_QUEUED_BY_GROUP})\n)\n{_OF_THE_WORST}"
)
