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


def test_a_release_names_its_home_and_its_image_and_is_the_chart_in_all_else(
    tmp_path: Path,
) -> None:
    output = tmp_path / "nextmv-exporter"
    image = ["--image", "registry.example.com/Owner/exporter"]
    program = CHART.parent / "prepare_release.py"
    subprocess.run([sys.executable, program, "--home", HOME, *image, output], check=True)
    files = {path.relative_to(CHART) for path in CHART.rglob("*") if path.is_file()}
    assert {path.relative_to(output) for path in output.rglob("*") if path.is_file()} == files
    differing = {
        str(each) for each in files if (CHART / each).read_bytes() != (output / each).read_bytes()
    }
    assert differing == {"Chart.yaml", "values.yaml"}

    facts = yaml.safe_load((output / "Chart.yaml").read_text())
    assert (facts["home"], facts["sources"]) == (HOME, [HOME])
    assert facts["version"] == facts["appVersion"] == __version__
    texts = rendered("demo: true, prometheusRule: {enabled: true}", chart=output)
    assert f'"registry.example.com/owner/exporter:{__version__}"' in texts["deployment.yaml"]
    assert "no registry has" not in texts["NOTES.txt"]
    urls = re.findall(r"runbook_url: (\S+)", texts["prometheusrule.yaml"])
    assert urls
    assert all(url.startswith(f"{HOME}/blob/v{__version__}/docs/runbooks.md#") for url in urls)

    archive = helm_python.package(output, destination=tmp_path)
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"Chart.yaml", "README.md", "values.schema.json", "files/renamed.yaml"} <= names
    assert not any(name.startswith("ci/") for name in names)
