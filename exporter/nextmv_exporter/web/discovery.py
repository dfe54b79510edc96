"""Targets for Prometheus's HTTP service discovery."""

from collections.abc import Iterable
from typing import TypedDict
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request


class TargetGroup(TypedDict):
    """One entry of the response, in the format of `http_sd_configs`."""

    targets: list[str]
    labels: dict[str, str]


def target_groups(
    accounts: Iterable[str], base: SplitResult, telemetry_path: str
) -> list[TargetGroup]:
    """Create a target for each account.

    Args:
        accounts: the accounts' names.
        base: URL under which Prometheus reaches the exporter.
        telemetry_path: path of the metrics, relative to that URL.

    Returns:
        A group for each account. `instance` is the account, so that its series keep the same
        labels whichever replica is scraped.
    """
    return [
        {
            "targets": [base.netloc],
            "labels": {
                "__scheme__": base.scheme,
                "__metrics_path__": base.path.rstrip("/") + telemetry_path,
                "__param_account": account,
                "instance": account,
            },
        }
        for account in accounts
    ]


def base_url(request: Request, external_url: str | None) -> SplitResult:
    """Return the URL under which Prometheus reaches the exporter.

    Args:
        request: a request from Prometheus, whose URL is the default.
        external_url: the configured URL; takes precedence over the request.

    Returns:
        The URL; its host has a port.
    """
    url = urlsplit(external_url or f"{request.url.scheme}://{request.url.netloc}")
    if url.port is None:
        url = url._replace(netloc=f"{url.netloc}:{443 if url.scheme == 'https' else 80}")
    return url
