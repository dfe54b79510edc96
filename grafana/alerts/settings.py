"""The settings of the rules: the chart's values under `prometheusRule`."""

from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "nextmv-exporter"

THRESHOLDS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"][
    "thresholds"
]
"""The defaults, by name."""
