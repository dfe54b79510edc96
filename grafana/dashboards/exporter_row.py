"""The collapsed row on the exporter itself: why an account is unreadable, or readings late."""

from grafana_foundation_sdk.builders import dashboard

from grafana.dashboards.panels import latest, lines, query, rows, stacked
from grafana.dashboards.queries import ACCOUNT


def exporter_row() -> dashboard.Row:
    """Make the row.

    Returns:
        The row with its panels, collapsed.
    """
    latency = f"nextmv_api_request_duration_seconds_bucket{{{ACCOUNT}}}[$__rate_interval]"
    return (
        dashboard.Row("Exporter")
        .collapsed(True)
        .with_panel(
            stacked(
                lines(
                    "Errors by reason",
                    "Failed scrapes of accounts. auth: replace the key. rate_limited: scrape less "
                    "often. timeout, connection, tls, server_error: look at the network, then at "
                    "Nextmv's status page.",
                    "short",
                    query(
                        "sum by (account, reason) "
                        f"(increase(nextmv_scrape_errors_total{{{ACCOUNT}}}[$__rate_interval]))",
                        "{{account}} {{reason}}",
                    ),
                )
            )
        )
        .with_panel(
            lines(
                "Scrape duration",
                "Time to fetch, parse and summarise a queue. Near Prometheus's scrape_timeout or "
                "--nextmv.timeout, raise these, or scrape each account as a target of its own.",
                "s",
                query(
                    f"max by (account) (nextmv_scrape_duration_seconds{{{ACCOUNT}}})",
                    "{{account}}",
                ),
            )
        )
        .with_panel(
            lines(
                "API latency",
                "How long the Nextmv API takes to answer: median and 95th percentile. If it is "
                "slow while the network is well, tell Nextmv.",
                "s",
                query(
                    f"histogram_quantile(0.95, sum by (endpoint, le) (rate({latency})))",
                    "{{endpoint}} p95",
                ),
                query(
                    f"histogram_quantile(0.5, sum by (endpoint, le) (rate({latency})))",
                    "{{endpoint}} median",
                    "B",
                ),
            )
        )
        .with_panel(
            stacked(
                lines(
                    "API answers by code",
                    "Requests per second by HTTP status. 401 and 403: the key. 429: too many "
                    "requests. 5xx: Nextmv. error: no answer came at all.",
                    "reqps",
                    query(
                        "sum by (endpoint, code) "
                        f"(rate(nextmv_api_requests_total{{{ACCOUNT}}}[$__rate_interval]))",
                        "{{endpoint}} {{code}}",
                    ),
                )
            )
        )
        .with_panel(
            lines(
                "Malformed runs and folded groups",
                "Malformed runs lack a field, or it is unusable: report them to Nextmv. Folded "
                "groups are counted under __other__: raise --queue.max-groups to see them.",
                "short",
                query(
                    f"max by (account) (nextmv_account_queue_malformed_runs{{{ACCOUNT}}})",
                    "{{account}} malformed runs",
                ),
                query(
                    f"max by (account) (nextmv_account_queue_folded_groups{{{ACCOUNT}}})",
                    "{{account}} folded groups",
                    "B",
                ),
            )
        )
        .with_panel(
            lines(
                "Memory",
                "Resident memory of each exporter. It follows the length of the queue; if it "
                "climbs while the queue does not, restart it and report a bug.",
                "bytes",
                query(
                    "process_resident_memory_bytes "
                    "and on (job, instance) nextmv_exporter_build_info",
                    "{{instance}}",
                ),
            )
        )
        .with_panel(
            rows(
                "Source of the queue",
                "application-runs in place of account-queue: Nextmv no longer answers for the "
                "account's queue, and it is put together from each application's runs.",
                latest(f"max by (account, source) (nextmv_source_info{{{ACCOUNT}}})"),
            )
            .height(6)
            .span(12)
        )
        .with_panel(
            rows(
                "Version",
                "Several versions: a rollout is under way, or stuck.",
                latest(
                    "max by (instance, version, revision, pythonversion) "
                    "(nextmv_exporter_build_info)"
                ),
            )
            .height(6)
            .span(12)
        )
    )
