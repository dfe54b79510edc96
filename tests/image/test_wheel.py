"""The wheel, built as for a release and installed into environments of its own."""

import base64
import gzip
import os
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import bcrypt
import pytest
import yaml
from support.certificates import Authority
from support.exporter import exporter_process
from support.harness import write_yaml
from support.metrics import open_metrics
from support.pythons import find

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PYTHONS = {version: find(version) for version in ("3.11", "3.12", "3.13", "3.14")}
# Found before the tests have a home of their own, where every download would be made again.
CACHE = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
PASSWORD = "correct horse"


def run(*command: str | Path, cwd: str | Path = "/", **environment: str) -> str:
    """Return what a command prints that must succeed."""
    given = {**os.environ, "UV_CACHE_DIR": CACHE, **environment}
    done = subprocess.run(command, env=given, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


def install(folder: Path, python: str | Path, *arguments: str | Path) -> Path:
    """Make an environment with what is to be installed; return its Python."""
    run(UV, "venv", "--quiet", "--python", python, folder)
    run(UV, "pip", "install", "--quiet", "--python", folder, *arguments)
    return folder / "bin" / "python"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def readme(of: Message) -> str:
    text = of.get_payload(decode=True)
    assert isinstance(text, bytes)
    return text.decode()


def targets(text: str) -> set[str]:
    """Return where the links and pictures of a text lead, but for places in it."""
    links = re.findall(r"\]\(([^)]+)\)", text)
    links += re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return {link for link in links if not link.startswith("#")}


def test_the_readme_that_is_shown_elsewhere_has_no_link_that_leads_nowhere(wheel: Path) -> None:
    text = readme(metadata(wheel))
    assert text.startswith("# nextmv-exporter\n")
    assert "runbooks" in text
    assert targets(text)
    assert all(link.startswith("https://") for link in targets(text))


def test_with_an_address_its_links_lead_into_the_repository(tmp_path: Path) -> None:
    address = "https://git.example/team/nextmv-exporter"
    run(UV, "build", "-q", "--wheel", "-o", tmp_path, ROOT, REPOSITORY_URL=address)
    built = metadata(next(tmp_path.glob("*.whl")))
    links = targets(readme(built))
    assert f"{address}/blob/HEAD/docs/runbooks.md" in links
    assert all(link.startswith("https://") for link in links)
    paths = {link.partition("/HEAD/")[2] for link in links if link.startswith(address)}
    assert all((ROOT / path.partition("#")[0]).exists() for path in paths)
    assert f"Source, {address}" in (built.get_all("Project-URL") or [])


def test_a_release_is_built_with_the_address_of_its_repository() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    scripts = [step.get("run", "") for step in workflow["jobs"]["distribution"]["steps"]]
    [build] = [script for script in scripts if "hatchling build" in script]
    assert 'REPOSITORY_URL="$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" python -m hatchling' in build


def test_who_made_it_and_what_it_runs_on_are_said(wheel: Path) -> None:
    found = metadata(wheel)
    assert found["Author"] == "The nextmv-exporter authors"
    assert found["License-Expression"] == "Apache-2.0"
    classifiers = found.get_all("Classifier") or []
    for version in PYTHONS:
        assert f"Programming Language :: Python :: {version}" in classifiers
    urls = found.get_all("Project-URL") or []
    assert all("https://" in url for url in urls)


def test_it_installs_one_package_of_its_own_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nextmv_exporter"}


@pytest.mark.parametrize("version", [version for version, python in PYTHONS.items() if python])
def test_it_serves_with_tls_passwords_openmetrics_and_gzip(
    wheel: Path, version: str, tmp_path: Path
) -> None:
    python = PYTHONS[version]
    assert python
    assert_serves(install(tmp_path / "venv", python, wheel), tmp_path, version)


def test_it_serves_with_the_lowest_versions_that_it_allows(wheel: Path, tmp_path: Path) -> None:
    lowest = "--resolution=lowest-direct"
    python = PYTHONS["3.11"] or sys.executable
    assert_serves(install(tmp_path / "venv", python, lowest, wheel), tmp_path)


def assert_serves(python: Path, folder: Path, version: str = "") -> None:
    """Scrape the demo as a Prometheus does that knows its password."""
    authority = Authority(folder)
    authority.issue("server")
    users = {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    file = write_yaml(folder / "web.yml", {"tls_server_config": tls, "basic_auth_users": users})
    credentials = base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode()
    headers = {
        "Accept": "application/openmetrics-text;version=1.0.0",
        "Accept-Encoding": "gzip",
        "Authorization": f"Basic {credentials}",
    }
    command = (python, "-P")
    with exporter_process("--demo", f"--web.config.file={file}", python=command) as exporter:
        assert exporter.get("/metrics", tls=authority.client()).status == 401
        response = exporter.get("/metrics", tls=authority.client(), headers=headers)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert response.headers["Content-Encoding"] == "gzip"
    families = {each.name: each for each in open_metrics(gzip.decompress(response.raw).decode())}
    assert [sample.value for sample in families["nextmv_up"].samples] == [1]
    [build] = families["nextmv_exporter_build_info"].samples
    assert build.labels["pythonversion"].startswith(version)


@pytest.fixture
def beside(wheel: Path, tmp_path: Path) -> Path:
    """An environment with the wheel and with the package called exporter that others publish."""
    python = install(tmp_path / "venv", sys.executable, wheel, "exporter")
    assert_it_scrapes(python)
    return python


def assert_it_scrapes(python: Path) -> None:
    printed = run(python.with_name("nextmv-exporter"), "--demo", "--once")
    assert 'nextmv_up{account="demo"} 1.0' in printed


def files_of(python: Path, package: str) -> set[Path]:
    return set(python.parents[1].glob(f"lib/*/site-packages/{package}/**/*.py"))


def test_removing_another_package_called_exporter_leaves_it_working(beside: Path) -> None:
    theirs = files_of(beside, "exporter")
    assert theirs
    run(UV, "pip", "uninstall", "--quiet", "--python", beside, "exporter")
    assert not files_of(beside, "exporter")
    assert_it_scrapes(beside)


def test_removing_it_leaves_another_package_called_exporter_alone(beside: Path) -> None:
    theirs = files_of(beside, "exporter")
    run(UV, "pip", "uninstall", "--quiet", "--python", beside, "nextmv-exporter")
    assert not files_of(beside, "nextmv_exporter")
    assert files_of(beside, "exporter") == theirs


def test_a_file_called_exporter_in_the_working_folder_does_not_shadow_it(
    wheel: Path, tmp_path: Path
) -> None:
    python = install(tmp_path / "venv", sys.executable, wheel)
    (tmp_path / "exporter.py").write_text("raise SystemExit('the wrong file')")
    assert "nextmv_up" in run(python, "-m", "nextmv_exporter", "--demo", "--once", cwd=tmp_path)
