"""The dashboard as it is committed, and its queries as Grafana sends them."""

import json
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[2] / "grafana"

TEXT = (_FOLDER / "dashboards" / "account-queue.json").read_text()
DASHBOARD: dict[str, Any] = json.loads(TEXT)
IMPORTABLE: dict[str, Any] = json.loads((_FOLDER / "import" / "account-queue.json").read_text())

ROWS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] == "row"]
EXPORTER_ROW = ROWS[-1]
OVERVIEW: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
PANELS: list[dict[str, Any]] = OVERVIEW + EXPORTER_ROW["panels"]
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
    values = {
        name: variable["allValue"] if variable.get("includeAll") else variable["current"]["value"]
        for name, variable in VARIABLES.items()
        if name != "datasource"
    }
    values |= {"__rate_interval": "1m"} | chosen
    return re.sub(r"\$(\w+)", lambda variable: values[variable[1]], query)
