"""The chart's papers: its README, its versions and its archive."""

import subprocess
import sys
import tarfile
from pathlib import Path

import helm_python
import yaml

from nextmv_exporter import __version__

from .chart import CHART, ROOT

GENERATOR = ROOT / "helm" / "generate_readme.py"


def test_the_readme_is_what_make_chart_docs_writes() -> None:
    checked = subprocess.run(
        [sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_value_is_described_or_stands_under_one_that_is() -> None:
    readme = (CHART / "README.md").read_text()
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert undescribed(defaults, readme) == []


def test_the_chart_has_the_version_of_the_exporter() -> None:
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert facts["version"] == __version__
    assert facts["appVersion"] == __version__


def test_the_archive_holds_what_users_need_and_nothing_else(tmp_path: Path) -> None:
    archive = helm_python.package(CHART, destination=tmp_path)
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"Chart.yaml", "README.md", "values.schema.json", "files/rules.yaml.tpl"} <= names
    assert not {name for name in names if name.startswith("ci/") or name.endswith(".gotmpl")}


def undescribed(values: dict[str, object], readme: str, above: str = "") -> list[str]:
    """The paths of the values without a row in the README's table."""
    paths = []
    for name, value in values.items():
        if f"| {above}{name} |" not in readme:
            below = undescribed(value, readme, f"{above}{name}.") if isinstance(value, dict) else []
            paths += below or ([] if isinstance(value, dict) and value else [f"{above}{name}"])
    return paths
