"""Whether what the exporter writes can be read by all that read it."""

import subprocess

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def assert_parseable(text: str, openmetrics: str | None = None) -> None:
    """Read an exposition with prometheus-client's parsers."""
    assert list(parse_text(text))
    if openmetrics is not None:
        assert list(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]


def assert_promtool_reads(text: str) -> None:
    """Read an exposition with Prometheus's own parser, which also finds faults of style."""
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()
