"""The panels of the exporter: why an account is unreadable, or scrapes are slow."""

from collections.abc import Iterator

from grafana_foundation_sdk.builders import stat, timeseries

from grafana import panels
from grafana import queries as promql
from grafana.panels import graph, lines, names, stacked


def exporter() -> Iterator[timeseries.Panel | stat.Panel]:
    """Make the panels of the row."""
    account = promql.ACCOUNT
    errors = promql.rate("nextmv_scrape_errors_total", "increase", "reason")
    yield stacked(
        graph(
            41,
            "Errors by reason",
            "Failed scrapes of accounts. auth: replace the key. rate_limited: scrape less often. "
            "timeout, connection, tls, server_error: check the network, then Nextmv's status page.",
            "short",
            lines({"": errors}, "reason"),
        )
    )
    yield graph(
        42,
        "Scrape duration",
        "Time to fetch, parse and summarise a queue. Near Prometheus's scrape_timeout or "
        "--nextmv.timeout, raise these, or scrape each account as a target of its own.",
        "s",
        lines({"": promql.once("nextmv_scrape_duration_seconds", account)}),
    )
    latency = ("nextmv_api_request_duration_seconds", account, "$__rate_interval", promql.UP)
    yield graph(
        43,
        "API latency",
        "Time that the Nextmv API takes to respond: 95th percentile and median (dashed). If it is "
        "slow and the network is not, contact Nextmv.",
        "s",
        lines(promql.quantiles(*latency, "path"), "path"),
    )
    requests = promql.rate("nextmv_api_requests_total", "rate", "code", "path")
    yield stacked(
        graph(
            44,
            "API responses by code",
            "Requests per second by HTTP status. 401 and 403: the key. 429: too many requests. "
            "5xx: Nextmv. error: no response came.",
            "reqps",
            lines({"": requests}, "code", "path"),
        )
    )
    malformed = promql.once("nextmv_account_queue_malformed_runs", account)
    folded = promql.once("nextmv_account_queue_folded_groups", account)
    both = {"malformed runs": malformed, "folded groups": folded}
    yield graph(
        45,
        "Malformed runs and folded groups",
        "Malformed runs lack a field, or it is invalid: report them to Nextmv. Folded groups "
        "(dashed) are counted under __other__: raise --queue.max-groups to see them.",
        "short",
        lines(both, rank=f"{malformed} + {folded}"),
    )
    yield graph(
        46,
        "Memory",
        "Resident memory of each exporter. It follows the length of the queue; if it climbs while "
        "the queue does not, restart the exporter and report a bug. Empty where Prometheus scrapes "
        "only the targets of /sd.",
        "bytes",
        lines({"": promql.MEMORY}, "instance", "pod"),
    )
    offset = promql.once("nextmv_api_clock_offset_seconds", account, "instance")
    yield graph(
        49,
        "Clock offset",
        "The API's clock less the exporter's, to within a second. Half a minute or more: correct "
        "the clock of the exporter's machine, since all ages and waits are wrong by as much.",
        "s",
        lines({"": offset}, "instance", rank=f"abs({offset})"),
    )
    yield names(
        47,
        "Source of the queue",
        "application-runs in place of account-queue: Nextmv no longer serves the account's queue, "
        "and it is put together from the runs of each application.",
        promql.once("nextmv_source_info", account, "source"),
        panels.legend("source"),
    )
    yield names(
        48,
        "Version",
        "Several versions: a rollout is in progress or stuck. No exporter: it is gone, or "
        "Prometheus scrapes only the targets of /sd.",
        promql.VERSIONS,
        "{{version}} {{revision}} Python {{pythonversion}} {{job}} {{namespace}} {{cluster}}",
    )
