"""Targets for Prometheus's HTTP service discovery."""

from urllib.parse import urlsplit

from nextmv_exporter.web.discovery import target_groups


def test_each_account_is_a_target_with_the_labels_that_scrape_it_alone() -> None:
    base = urlsplit("https://exporter.example:8443/behind/a/proxy/")
    assert target_groups(["production", "staging"], base, "/metrics") == [
        {
            "targets": ["exporter.example:8443"],
            "labels": {
                "__scheme__": "https",
                "__metrics_path__": "/behind/a/proxy/metrics",
                "__param_account": account,
                "instance": account,
            },
        }
        for account in ("production", "staging")
    ]
