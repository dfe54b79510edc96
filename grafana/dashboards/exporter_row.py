"""The collapsed row on the exporter itself: why an account is unreadable, or scrapes are slow."""

from grafana_foundation_sdk.builders import dashboard

from grafana.dashboards import queries as promql
from grafana.dashboards.panels import ACCOUNT, dashed, lines, names, query, stacked

# The Prometheus operator gives targets a label `endpoint`, and so renames the metrics' own.
_ENDPOINT = ("endpoint", "exported_endpoint")
_OF_ENDPOINT = f"{{{{endpoint}}}} {{{{exported_endpoint}}}} {ACCOUNT}"


def exporter_row() -> dashboard.Row:
    """Make the row.

    Returns:
        The row with its panels, collapsed.
    """
    return (
        dashboard.Row("Exporter")
        .id(40)
        .collapsed(True)
        .with_panel(
            stacked(
                lines(
                    41,
                    "Errors by reason",
                    "Failed scrapes of accounts. auth: replace the key. rate_limited: scrape less "
                    "often. timeout, connection, tls, server_error: check the network, then "
                    "Nextmv's status page.",
                    "short",
                    query(
                        _while_scraped(
                            f"sum by ({promql.by('reason')}) (increase("
                            f"nextmv_scrape_errors_total{{{promql.ACCOUNT}}}[$__rate_interval]))"
                        ),
                        f"{{{{reason}}}} {ACCOUNT}",
                    ),
                )
            )
        )
        .with_panel(
            lines(
                42,
                "Scrape duration",
                "Time to fetch, parse and summarise a queue. Near Prometheus's scrape_timeout or "
                "--nextmv.timeout, raise these, or scrape each account as a target of its own.",
                "s",
                query(
                    f"max by ({promql.by()}) (nextmv_scrape_duration_seconds{{{promql.ACCOUNT}}})",
                    ACCOUNT,
                ),
            )
        )
        .with_panel(
            dashed(
                lines(
                    43,
                    "API latency",
                    "Time that the Nextmv API takes to respond: median (dashed) and 95th "
                    "percentile. If it is slow and the network is not, contact Nextmv.",
                    "s",
                    query(_latency(0.95), f"p95 {_OF_ENDPOINT}"),
                    query(_latency(0.5), f"median {_OF_ENDPOINT}", "B"),
                ),
                "B",
            )
        )
        .with_panel(
            stacked(
                lines(
                    44,
                    "API responses by code",
                    "Requests per second by HTTP status. 401 and 403: the key. 429: too many "
                    "requests. 5xx: Nextmv. error: no response came.",
                    "reqps",
                    query(
                        _while_scraped(
                            f"sum by ({promql.by('code', *_ENDPOINT)}) (rate("
                            f"nextmv_api_requests_total{{{promql.ACCOUNT}}}[$__rate_interval]))"
                        ),
                        f"{{{{code}}}} {_OF_ENDPOINT}",
                    ),
                )
            )
        )
        .with_panel(
            lines(
                45,
                "Malformed runs and folded groups",
                "Malformed runs lack a field, or it is invalid: report them to Nextmv. Folded "
                "groups are counted under __other__: raise --queue.max-groups to see them.",
                "short",
                *(
                    query(
                        f"max by ({promql.by()}) "
                        f"(nextmv_account_queue_{metric}{{{promql.ACCOUNT}}})",
                        f"{metric.replace('_', ' ')} {ACCOUNT}",
                        ref_id,
                    )
                    for metric, ref_id in (("malformed_runs", "A"), ("folded_groups", "B"))
                ),
            )
        )
        .with_panel(
            lines(
                46,
                "Memory",
                "Resident memory of each exporter. It follows the length of the queue; if it "
                "climbs while the queue does not, restart the exporter and report a bug. Empty "
                "where Prometheus scrapes only the targets of /sd: see the second job of the "
                "README.",
                "bytes",
                query(
                    f"process_resident_memory_bytes{{{promql.JOB}}}\n"
                    "and on (cluster, namespace, job, instance) nextmv_exporter_build_info",
                    "{{instance}} {{pod}} {{job}} {{namespace}} {{cluster}}",
                ),
            )
        )
        .with_panel(
            names(
                47,
                "Source of the queue",
                "application-runs in place of account-queue: Nextmv no longer serves the account's "
                "queue, and it is put together from the runs of each application.",
                f"max by ({promql.by('source')}) (nextmv_source_info{{{promql.ACCOUNT}}})",
                f"{{{{source}}}} {ACCOUNT}",
            )
        )
        .with_panel(
            names(
                48,
                "Version",
                "Several versions: a rollout is in progress or stuck. No exporter: it is gone, or "
                "Prometheus scrapes only the targets of /sd.",
                "count by (cluster, namespace, job, version, revision, pythonversion) "
                f"(nextmv_exporter_build_info{{{promql.JOB}}})",
                "{{version}} {{revision}} Python {{pythonversion}} {{job}} {{namespace}} "
                "{{cluster}}",
            )
        )
    )


def _while_scraped(query: str) -> str:
    return promql.known(query, promql.UP)


def _latency(share: float) -> str:
    metric = "nextmv_api_request_duration_seconds"
    return _while_scraped(
        promql.quantile(share, metric, promql.ACCOUNT, *_ENDPOINT, over="$__rate_interval")
    )
