"""Rules as Prometheus reads them, rendered from the chart as `helm template` does."""

import textwrap
from collections.abc import Mapping
from typing import Any

from helm_python import Chart

from grafana.alerts.settings import CHART

JOB_REGEX = ".*nextmv-exporter.*"
"""For rules without a release of the chart, which would name the job."""


def plain_rules(thresholds: Mapping[str, Any] | None = None, **settings: Any) -> str:
    """Render the rules.

    Args:
        thresholds: values under `prometheusRule.thresholds` that differ from their defaults.
        settings: other values under `prometheusRule`.

    Returns:
        The text of a rules file.

    Raises:
        Exception: if the chart's schema rejects a value.

    Example:
        >>> "for: 47m" in plain_rules({"stalledFor": "47m"})
        True
    """
    rule = {"enabled": True, "jobRegex": JOB_REGEX, "thresholds": thresholds or {}} | settings
    rendered = Chart.load(CHART).render({"demo": True, "prometheusRule": rule}, name="plain")
    manifest = rendered["nextmv-exporter/templates/prometheusrule.yaml"]
    return textwrap.dedent(manifest.partition("\nspec:\n")[2]).strip() + "\n"
