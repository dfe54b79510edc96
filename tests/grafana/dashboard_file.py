"""The dashboard as it is committed, and its queries as Grafana sends them."""

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "helm/nextmv-exporter/dashboards/account-queue.json"
TEXT = FILE.read_text()
DASHBOARD: dict[str, Any] = json.loads(TEXT)
ROWS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] == "row"]
OVERVIEW: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
PANELS: list[dict[str, Any]] = OVERVIEW + ROWS[-1]["panels"]
VARIABLES: dict[str, dict[str, Any]] = {
    each["name"]: each for each in DASHBOARD["templating"]["list"]
}
ANNOTATION: dict[str, Any] = DASHBOARD["annotations"]["list"][0]
QUERIES: dict[str, str] = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
assert len(QUERIES) > len(PANELS) > 20


def filled_in(query: str, **chosen: str) -> str:
    """Replace variables as Grafana does.

    Args:
        query: PromQL of the dashboard.
        chosen: values of variables by name; those that are left out are at their defaults.
    """
    values = {"__rate_interval": "1m", "__range": "10m", "__interval": "1s"}
    for name, variable in VARIABLES.items():
        values[name] = variable.get("allValue") or variable.get("current", {}).get("value", "")
    return re.sub(r"\$(\w+)", lambda variable: (values | chosen)[variable[1]], query)
