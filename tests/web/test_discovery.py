"""Targets for Prometheus's HTTP service discovery."""

from urllib.parse import urlsplit

import pytest
from starlette.requests import Request

from nextmv_exporter.web.discovery import base_url, target_groups


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


@pytest.mark.parametrize(
    ("scheme", "host", "external_url", "url"),
    [
        ("http", b"exporter:10057", None, "http://exporter:10057"),
        ("http", b"exporter", None, "http://exporter:80"),
        ("https", b"exporter", None, "https://exporter:443"),
        ("http", b"inside:10057", "https://outside.example/a/", "https://outside.example:443/a/"),
        ("http", b"inside:10057", "http://outside.example:81", "http://outside.example:81"),
    ],
)
def test_the_host_is_that_of_the_request_unless_an_external_url_is_set(
    scheme: str, host: bytes, external_url: str | None, url: str
) -> None:
    scope = {"type": "http", "scheme": scheme, "path": "/sd", "headers": [(b"host", host)]}
    assert base_url(Request(scope), external_url).geturl() == url
