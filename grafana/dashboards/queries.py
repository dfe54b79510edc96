"""The dashboard's PromQL.

Rules that every query follows:

- Results keep `cluster`, `namespace`, `job` and `account`, so that two environments are never added
  up. Prometheus drops labels that are empty, so a label that a setup lacks does no harm.
- 0 means that the account's queue was read and there is nothing. An account that cannot be read
  gives NaN in numbers and tables, and no sample in graphs over time. An exporter that cannot be
  scraped gives nothing.
- An account that several exporters watch counts once: `max by` leaves out `instance` and `pod`.
- Histograms are read as classic ones and as native ones with custom buckets, whichever there are.
"""

JOB = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"'
ACCOUNT = f'{JOB}, account=~"$account"'
CLASS = f'{ACCOUNT}, execution_class=~"$execution_class"'
GROUP = f'{CLASS}, application_id=~"$application"'

NEVER = 31_536_000
"""Seconds to drain from which on nothing is said to start: a year."""


def by(*labels: str) -> str:
    """List labels to group by.

    Args:
        labels: besides those that distinguish accounts.

    Returns:
        The labels as PromQL lists them.
    """
    return ", ".join(("cluster", "namespace", "job", "account", *labels))


UP = f"max by ({by()}) (nextmv_up{{{ACCOUNT}}})"
UNREADABLE = f"({UP} == 0) / 0"
# The length has no series in an account that has been empty for a while; the totals always have.
EMPTY = (
    f"0 * (max by ({by()}) (nextmv_account_queue_length{{{ACCOUNT}}})\n"
    f"  or sum by ({by()}) (nextmv_account_queue_runs{{{ACCOUNT}}}) == 0)"
)
_GROUP_LABELS = by("execution_class", "application_id")


def _once(metric: str, selector: str) -> str:
    return f"max by ({_GROUP_LABELS}) ({metric}{{{selector}}})"


QUEUED = _once("nextmv_account_queue_length", f'{GROUP}, status_v2="queued"')
RUNNING = _once("nextmv_account_queue_length", f'{GROUP}, status_v2="running"')
QUEUED_IN_CLASS = _once("nextmv_account_queue_length", f'{CLASS}, status_v2="queued"')
# A group whose runs all lack a usable created_at has no age; one that drained lately has age 0.
QUEUED_AGE = (
    f"{_once('nextmv_account_queue_oldest_queued_run_age_seconds', GROUP)}\n"
    f"and on ({_GROUP_LABELS}) {QUEUED} > 0"
)
RUNNING_AGE = (
    f"{_once('nextmv_account_queue_oldest_running_run_age_seconds', GROUP)}\n"
    f"and on ({_GROUP_LABELS}) {RUNNING} > 0"
)


def or_empty(query: str) -> str:
    """Complete counts of runs with the accounts that have none.

    Args:
        query: counts runs, by account at least.

    Returns:
        The query with 0 for accounts that were read and are not in its result.
    """
    return f"{query}\nor on ({by()}) {EMPTY}"


def none_queued(queued: str) -> str:
    """Find the accounts that were read and have no run queued.

    Args:
        queued: the queued runs that count.

    Returns:
        0 for each such account. One with queued runs of unknown age is not among them.
    """
    return f"0 * ((\nsum by ({by()}) ({queued})\nor {EMPTY}\n) == 0)"


def oldest(ages: str, runs: str, *labels: str) -> str:
    """Find the greatest age.

    Args:
        ages: of the oldest run of each group that has one.
        runs: number of runs of each group.
        labels: to group by, besides the account's.

    Returns:
        Seconds; 0 where there is no run, no series where all ages are unknown.
    """
    return f"max by ({by(*labels)}) ({ages})\nor 0 * (sum by ({by(*labels)}) ({runs}) == 0)"


def or_unreadable(query: str) -> str:
    """Complete a query with the accounts that cannot be read.

    Args:
        query: gives series by account at least.

    Returns:
        The query with NaN for those accounts.
    """
    return f"{query}\nor on ({by()}) {UNREADABLE}"


def or_named(query: str, fallback: str, label: str, name: str) -> str:
    """Complete the series of a graph with a line for each account that has none.

    Args:
        query: gives series by account and a label.
        fallback: what to draw instead, by account.
        label: that distinguishes the query's series.
        name: value of that label in the fallback.

    Returns:
        The completed query.
    """
    return f'{query}\nor on ({by()}) label_replace({fallback}, "{label}", "{name}", "", "")'


def known(query: str, up: str = f"{UP} == 1") -> str:
    """Leave out what a range still holds of an account that is unreadable or gone.

    Args:
        query: looks at a range of time, by account.
        up: what must be so now.

    Returns:
        The query for the accounts where it is.
    """
    return f"{query}\nand on ({by()}) {up}"


def quantile(share: float, metric: str, selector: str, *labels: str, over: str = "") -> str:
    """Estimate a quantile from a classic or native histogram.

    Args:
        share: from 0 to 1.
        metric: name of the histogram.
        selector: which series of it.
        labels: to group by, besides the account's.
        over: range whose observations count; without it, those that a gauge histogram has now.

    Returns:
        The quantile; no series where the histogram is missing or has no observations.
    """
    classic, native = (
        f"rate({series}{{{selector}}}[{over}])" if over else f"{series}{{{selector}}}"
        for series in (f"{metric}_bucket", metric)
    )
    return (
        f"(histogram_quantile({share}, sum by ({by(*labels, 'le')}) ({classic}))\n"
        f"  or histogram_quantile({share}, sum by ({by(*labels)}) ({native}))) >= 0"
    )


def waiting(share: float, *labels: str) -> str:
    """Estimate how long the runs that are queued now have waited.

    Args:
        share: of the runs that have waited less, from 0 to 1.
        labels: to group by, besides the account's.

    Returns:
        Seconds.
    """
    return quantile(share, "nextmv_account_queue_wait_seconds", CLASS, *labels)


def flow(event: str, selector: str, *labels: str) -> str:
    """Calculate how often something happens to runs.

    Args:
        event: `entered`, `started` or `left`.
        selector: which runs count.
        labels: to group by, besides the execution class and the account's.

    Returns:
        Runs per second over the chosen window, while the account can be read.
    """
    series = by("execution_class", "application_id", *labels)
    counter = f"nextmv_account_queue_runs_{event}_total{{{selector}}}"
    return known(
        f"sum by ({by('execution_class', *labels)}) (max by ({series}) (rate({counter}[$window])))"
    )


_IN_CLASS = f"sum by ({by('execution_class')}) ({QUEUED_IN_CLASS})"
_STARTED = flow("started", CLASS)
DRAIN_BY_CLASS = f"{_IN_CLASS} == 0\nor {_IN_CLASS} / ((\n{_STARTED}\n) > 0)"
# A class without runs and starts is 0 / 0, which the comparison drops.
_SLOWEST = f"max by ({by()}) (clamp_max({_IN_CLASS} / (\n{_STARTED}\n), {NEVER}) >= 0)"
DRAIN = or_unreadable(f"{_SLOWEST}\nor {none_queued(QUEUED_IN_CLASS)}")

_ROWS = or_unreadable(or_empty(f"{QUEUED} > 0"))
_WORST = f"topk(25,\n{QUEUED_AGE}\nor on ({_GROUP_LABELS}) 0 * (\n{_ROWS}\n)\n)"
WORST_QUEUED = f"(\n{_ROWS}\n)\nand on ({_GROUP_LABELS}) {_WORST}"
WORST_AGE = f"(\n{or_unreadable(QUEUED_AGE)}\n)\nand on ({_GROUP_LABELS}) {_WORST}"
WORST_RUNNING = (
    f"(\n{RUNNING}\nor on ({_GROUP_LABELS}) 0 * ({QUEUED} > 0)\n)\n"
    f"and on ({_GROUP_LABELS}) {QUEUED} > 0\nand on ({_GROUP_LABELS}) {_WORST}"
)
