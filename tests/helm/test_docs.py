"""The chart's README, its versions, its archive, and what a release makes of them."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from helm_python import Chart

from nextmv_exporter import __version__

from .chart import CHART, NAMESPACE, RELEASE, ROOT

GENERATOR = ROOT / "helm" / "generate_readme.py"
PREPARE_RELEASE = ROOT / "helm" / "prepare_release.py"
HOME = "https://git.example.com/owner/exporter"


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


def test_the_readme_has_no_links_that_break_outside_the_repository() -> None:
    assert links((CHART / "README.md").read_text()) == []


def test_a_release_names_its_home_and_its_image(release: Chart) -> None:
    facts = release.metadata
    assert facts["home"] == HOME
    assert facts["sources"] == [HOME]
    assert facts["version"] == facts["appVersion"] == __version__
    rendered = release.render({"demo": True}, name=RELEASE, namespace=NAMESPACE)
    deployment = yaml.safe_load(rendered["nextmv-exporter/templates/deployment.yaml"])
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/owner/exporter:{__version__}"
    assert "no registry has" not in rendered["nextmv-exporter/templates/NOTES.txt"]


def test_a_release_links_to_the_runbooks_of_its_version(release: Chart) -> None:
    values: dict[str, Any] = {"demo": True, "prometheusRule": {"enabled": True}}
    rules = release.render(values, name=RELEASE, namespace=NAMESPACE)[
        "nextmv-exporter/templates/prometheusrule.yaml"
    ]
    urls = re.findall(r"runbook_url: (\S+)", rules)
    assert urls
    assert all(url.startswith(f"{HOME}/blob/v{__version__}/docs/runbooks.md#") for url in urls)


def test_a_mirror_replaces_the_registry_of_a_release(release: Chart) -> None:
    values = {"demo": True, "global": {"imageRegistry": "mirror.example.com"}}
    rendered = release.render(values, name=RELEASE, namespace=NAMESPACE)
    assert (
        f'"mirror.example.com/owner/exporter:{__version__}"'
        in rendered["nextmv-exporter/templates/deployment.yaml"]
    )


def test_the_readme_of_a_release_shows_its_home_and_its_image(prepared: Path) -> None:
    readme = (prepared / "README.md").read_text()
    assert links(readme) == [HOME]
    assert '| image.registry | string | `"registry.example.com"` |' in readme
    assert '| image.repository | string | `"owner/exporter"` |' in readme


def test_a_release_is_the_chart_itself_in_all_else(prepared: Path) -> None:
    changed = {"Chart.yaml", "README.md", "values.yaml"}
    files = {path.relative_to(CHART) for path in CHART.rglob("*") if path.is_file()}
    assert {path.relative_to(prepared) for path in prepared.rglob("*") if path.is_file()} == files
    differing = {
        str(path) for path in files if (CHART / path).read_bytes() != (prepared / path).read_bytes()
    }
    assert differing == changed
    assert helm_python.lint(prepared, {"demo": True}, strict=True)["errors"] == []


def test_the_archive_contains_what_users_need_and_nothing_else(tmp_path: Path) -> None:
    archive = helm_python.package(CHART, destination=tmp_path)
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"Chart.yaml", "README.md", "values.schema.json", "files/rules.yaml.tpl"} <= names
    assert not {name for name in names if name.startswith("ci/") or name.endswith(".gotmpl")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy of the chart that a release packages."""
    output = tmp_path_factory.mktemp("release") / "nextmv-exporter"
    subprocess.run(
        [sys.executable, PREPARE_RELEASE, "--home", HOME,
         "--image", "registry.example.com/Owner/exporter", output],
        check=True,
    )  # fmt: skip
    return output


@pytest.fixture(scope="module")
def release(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """That copy, packaged and loaded from its archive."""
    archive = helm_python.package(prepared, destination=tmp_path_factory.mktemp("archive"))
    return Chart.load_archive(Path(archive).read_bytes())


def links(markdown: str) -> list[str]:
    """The targets of all links, other than those within the page."""
    found = re.finditer(r"\]\(([^)#][^)]*)\)|<(https?://[^>]+)>", markdown)
    return [match[1] or match[2] for match in found]


def undescribed(values: dict[str, object], readme: str, above: str = "") -> list[str]:
    """The paths of the values without a row in the README's table."""
    paths = []
    for name, value in values.items():
        if f"| {above}{name} |" not in readme:
            below = undescribed(value, readme, f"{above}{name}.") if isinstance(value, dict) else []
            paths += below or ([] if isinstance(value, dict) and value else [f"{above}{name}"])
    return paths
