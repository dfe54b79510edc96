"""The dashboard as it is committed."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[2] / "grafana"

TEXT = (_FOLDER / "dashboards" / "account-queue.json").read_text()
DASHBOARD: dict[str, Any] = json.loads(TEXT)
IMPORTABLE: dict[str, Any] = json.loads((_FOLDER / "import" / "account-queue.json").read_text())

OVERVIEW: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
(ROW,) = (each for each in DASHBOARD["panels"] if each["type"] == "row")
PANELS: list[dict[str, Any]] = OVERVIEW + ROW["panels"]
VARIABLES: dict[str, dict[str, Any]] = {
    each["name"]: each for each in DASHBOARD["templating"]["list"]
}
ANNOTATION: dict[str, Any] = DASHBOARD["annotations"]["list"][0]
