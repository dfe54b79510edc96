"""The chart as a release packages it."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import helm_python
import pytest
import yaml

from nextmv_exporter import __version__

from .chart import CHART, rendered

pytestmark = pytest.mark.system

HOME = "https://git.example.com/owner/exporter"
IMAGE = "registry.example.com/Owner/exporter"


def test_a_release_names_its_home_and_its_image_and_nothing_else_differs(tmp_path: Path) -> None:
    output = tmp_path / "nextmv-exporter"
    program = CHART.parent / "prepare_release.py"
    given = ("--home", HOME, "--image", IMAGE, output)
    subprocess.run([sys.executable, program, *given], check=True)
    differing = subprocess.run(
        ["diff", "-rq", CHART, output], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    assert [Path(line.split()[1]).name for line in differing] == ["Chart.yaml", "values.yaml"]

    facts = yaml.safe_load((output / "Chart.yaml").read_text())
    assert (facts["home"], facts["sources"]) == (HOME, [HOME])
    assert facts["version"] == facts["appVersion"] == __version__
    texts = rendered("demo: true, prometheusRule: {enabled: true}", chart=output)
    assert f'"{IMAGE.lower()}:{__version__}"' in texts["deployment.yaml"]
    assert "no registry has" not in texts["NOTES.txt"]
    urls = set(re.findall(r"runbook_url: (.*)#", texts["prometheusrule.yaml"]))
    assert urls == {f"{HOME}/blob/v{__version__}/docs/runbooks.md"}

    with tarfile.open(helm_python.package(output, destination=tmp_path)) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"Chart.yaml", "README.md", "values.schema.json", "files/renamed.yaml"} <= names
    assert not any(name.startswith("ci/") for name in names)
