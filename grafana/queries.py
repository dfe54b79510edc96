"""The dashboard's PromQL.

Rules that every query follows:

- Results keep `cluster`, `namespace`, `job` and `account`, so that two environments are never added
  up. Prometheus drops labels that are empty, so a label that a setup lacks does no harm.
- 0 means that the account's queue was read and there is nothing. An account that cannot be read
  gives NaN in numbers and tables, and no sample in graphs over time. An exporter that cannot be
  scraped gives nothing.
- What stands in for missing series is added before a cut to the largest, never after: after a cut,
  an account that was cut off looks like an account that has nothing.
- An account that several exporters watch counts once: `max by` leaves out `instance` and `pod`.
- Histograms are read as classic ones and as native ones with custom buckets, whichever there are.

`labels` are those to group by, besides the account's. `runs` are series of groups: their numbers of
runs, from each replica.
"""

JOB = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"'
ACCOUNT = f'{JOB}, account=~"$account"'
CLASS = f'{ACCOUNT}, execution_class=~"$execution_class"'
GROUP = f'{CLASS}, application_id=~"$application"'

NEVER = 31_536_000
"""Seconds to drain from which on nothing is said to start: a year."""

MOST = 20
"""How many accounts a number shows, and how many lines a query draws."""


def by(*labels: str) -> str:
    """List labels to group by: those that distinguish accounts, and others."""
    return ", ".join(("cluster", "namespace", "job", "account", *labels))


def once(metric: str, selector: str, *labels: str) -> str:
    """Take a gauge's value once, however many replicas report it."""
    return f"max by ({by(*labels)}) ({metric}{{{selector}}})"


_CLASS = ("execution_class",)
_GROUP = ("execution_class", "application_id")
_QUEUE = "nextmv_account_queue_"

UP = once("nextmv_up", ACCOUNT)
READABLE = f"{UP} == 1"
UNREADABLE = f"({UP} == 0) / 0"
# The length has no series in an account that has been empty for a while; the totals always have.
_READ = (
    f"0 * ({once(_QUEUE + 'length', ACCOUNT)}\n"
    f"  or sum by ({by()}) ({_QUEUE}runs{{{ACCOUNT}}}) == 0)"
)
QUEUED = f'{_QUEUE}length{{{GROUP}, status_v2="queued"}}'
RUNNING = f'{_QUEUE}length{{{GROUP}, status_v2="running"}}'
QUEUED_IN_CLASS = f'{_QUEUE}length{{{CLASS}, status_v2="queued"}}'
# A group whose runs all lack a usable created_at has no age; one that drained lately has age 0.
_WITH = "and ignoring (status_v2)"
QUEUED_AGE = f"{_QUEUE}oldest_queued_run_age_seconds{{{GROUP}}} {_WITH} {QUEUED} > 0"
RUNNING_AGE = f"{_QUEUE}oldest_running_run_age_seconds{{{GROUP}}} {_WITH} {RUNNING} > 0"


def most(series: str, *labels: str) -> str:
    """Take the largest value of series."""
    return f"max by ({by(*labels)}) ({series})"


def total(series: str, *labels: str) -> str:
    """Add up what groups have, each once, however many replicas report it."""
    return f"sum by ({by(*labels)}) ({most(series, *dict.fromkeys((*_GROUP, *labels)))})"


def or_named(query: str, zero: str, label: str, name: str) -> str:
    """Draw a line at 0, with a name in place of a label, for each account without a line.

    `zero` is 0 for each account that may have that line.
    """
    return f'{query}\nor on ({by()}) label_replace({zero}, "{label}", "{name}", "", "")'


def nothing(runs: str) -> str:
    """Give 0 for each account that was read and has none of these runs."""
    return f"0 * ((\n{most(runs)}\nor {_READ}\n) == 0)"


def or_nothing(query: str, runs: str) -> str:
    """Complete a number with 0 for each account that was read and has none of these runs."""
    return f"{query}\nor on ({by()}) {nothing(runs)}"


def counts(runs: str, label: str = "", name: str = "") -> str:
    """Count runs by account, or by a label, and call accounts without runs by a name there."""
    if label:
        return or_named(total(runs, label), _READ, label, name)
    return f"{total(runs)}\nor on ({by()}) {_READ}"


def or_unreadable(query: str) -> str:
    """Cut a query for numbers to the largest, and give NaN for accounts that cannot be read."""
    return f"{UNREADABLE}\nor on ({by()}) topk({MOST},\n{query}\n)"


def largest(query: str, rank: str, *labels: str) -> str:
    """Cut a query for graphs to the series whose rank is largest in the dashboard's time range.

    The series are the same at each moment, so that lines are whole.
    """
    return (
        f"(\n{query}\n)\nand on ({by(*labels)}) "
        f"topk({MOST}, max_over_time((\n{rank}\n)[$__range:$__interval] @ end()))"
    )


def known(query: str, up: str) -> str:
    """Leave out what a range still holds of accounts that are not `UP`, or not `READABLE`."""
    return f"{query}\nand on ({by()}) {up}"


def quantiles(metric: str, selector: str, over: str, up: str, *labels: str) -> dict[str, str]:
    """Estimate the 95th percentile and the median of what a histogram has observed.

    Without the histogram, or without observations in the range, there are no series.
    """
    classic = f"sum by ({by(*labels, 'le')}) (rate({metric}_bucket{{{selector}}}[{over}]))"
    native = f"sum by ({by(*labels)}) (rate({metric}{{{selector}}}[{over}]))"
    return {
        name: known(
            f"(histogram_quantile({share}, {classic})\n"
            f"  or histogram_quantile({share}, {native})) >= 0",
            up,
        )
        for name, share in (("p95", 0.95), ("median", 0.5))
    }


def waiting(share: float, *labels: str) -> str:
    """Estimate for how long at most a share of the runs that are queued now has waited."""
    buckets = f"{_QUEUE}wait_seconds_bucket{{{CLASS}}}"
    return f"histogram_quantile({share}, sum by ({by(*labels, 'le')}) ({buckets})) >= 0"


def flow(event: str, selector: str, *labels: str) -> str:
    """Calculate runs per second that `entered`, `started` or `left`, over the chosen window."""
    counter = f"{_QUEUE}runs_{event}_total{{{selector}}}"
    return known(total(f"rate({counter}[$window])", *_CLASS, *labels), READABLE)


def rate(counter: str, function: str, *labels: str) -> str:
    """Calculate events per second (`rate`) or in Grafana's interval (`increase`)."""
    events = f"{function}({counter}{{{ACCOUNT}}}[$__rate_interval])"
    return known(f"sum by ({by(*labels)}) ({events})", UP)


OLDEST = most(QUEUED_AGE)
OLDEST_IN_CLASS = f"{most(QUEUED_AGE, *_CLASS)}\nor 0 * ({most(QUEUED, *_CLASS)} == 0)"
OLDEST_RUNNING = most(RUNNING_AGE, *_GROUP)
# The alerts' own, where their rules are loaded, since a class may have a setting of its own. Else
# their default: the longest run of the class and a tenth more, an hour at least.
_RECORDED = "execution_class:nextmv_account_queue_last_start_age_seconds:threshold"
BOUND = (
    f"({once(_RECORDED, CLASS, *_CLASS)}\n"
    f"or clamp_min(1.1 * {once('nextmv_execution_class_max_run_seconds', CLASS, *_CLASS)}\n"
    f"or 0 * {most(QUEUED, *_CLASS)}, 3600))"
)
AGAINST_BOUND = f"(\n{OLDEST_IN_CLASS}\n)\n/ {BOUND}"
_FURTHEST = f"max by ({by()}) ({AGAINST_BOUND})"
OLDEST_NEAR_BOUND = f"{OLDEST}\nand on ({by()}) {_FURTHEST} >= 0.5 < 1"
OLDEST_OVER_BOUND = f"{OLDEST}\nand on ({by()}) {_FURTHEST} >= 1"
OLDEST_WITHIN_BOUND = f"({or_nothing(OLDEST, QUEUED)})\nunless on ({by()}) {_FURTHEST} >= 0.5"

_LAST_START = once(_QUEUE + "last_start_timestamp_seconds", CLASS, *_CLASS)
SINCE_START = f"time() - {_LAST_START}\nand on ({by(*_CLASS)}) {most(QUEUED_IN_CLASS, *_CLASS)} > 0"

_WAITING = f"({total(QUEUED_IN_CLASS, *_CLASS)} > 0)"
_STARTED = flow("started", CLASS)
DRAIN_BY_CLASS = f"{_WAITING} / ((\n{_STARTED}\n) > 0)"
DRAIN = or_nothing(
    f"max by ({by()}) (clamp_max({_WAITING} / (\n{_STARTED}\n), {NEVER}))", QUEUED_IN_CLASS
)

_AGE_BY_GROUP = most(QUEUED_AGE, *_GROUP)
_ON_GROUP = f"on ({by(*_GROUP)})"
_ROWS = or_nothing(f"{most(QUEUED, *_GROUP)} > 0", QUEUED)
_WORST = f"and {_ON_GROUP} topk(25,\n{_AGE_BY_GROUP}\nor {_ON_GROUP} 0 * (\n{_ROWS}\n)\n)"
WORST = {
    "age": f"{UNREADABLE}\nor on ({by()}) {_AGE_BY_GROUP}\n{_WORST}",
    "bound": f"{_AGE_BY_GROUP}\n/ on ({by(*_CLASS)}) group_left () {BOUND}\n{_WORST}",
    "queued": f"{UNREADABLE}\nor on ({by()}) (\n{_ROWS}\n)\n{_WORST}",
    "running": f"({most(RUNNING, *_GROUP)} or {_ON_GROUP} 0 * {most(QUEUED, *_GROUP)})\n{_WORST}",
}

MEMORY = (
    f"process_resident_memory_bytes{{{JOB}}}\n"
    "and on (cluster, namespace, job, instance) nextmv_exporter_build_info"
)
VERSIONS = (
    "count by (cluster, namespace, job, version, revision, pythonversion) "
    f"(nextmv_exporter_build_info{{{JOB}}})"
)
