"""The wheel and the sdist, built as for a release and installed into environments of their own."""

import base64
import gzip
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import bcrypt
import pytest
from support.certificates import Authority
from support.exporter import exporter_process
from support.metrics import open_metrics
from support.programs import write_yaml
from support.pythons import find

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PYTHONS = {version: find(version) for version in ("3.11", "3.12", "3.13")}
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


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def links(of: Message) -> set[str]:
    """Return where the links and pictures of the README lead, but for places in it."""
    text = of.get_payload(decode=True)
    assert isinstance(text, bytes)
    found = re.findall(r'\]\(([^)]+)\)|(?:src|srcset|href)="([^"]+)"', text.decode())
    return {a or b for a, b in found if not (a or b).startswith("#")}


def test_the_readme_on_an_index_has_no_link_that_leads_nowhere(wheel: Path, tmp_path: Path) -> None:
    assert links(metadata(wheel))
    assert all(link.startswith("http") for link in links(metadata(wheel)))
    address = "https://git.example/team/nextmv-exporter"
    run(UV, "build", "-q", "--wheel", "-o", tmp_path, ROOT, REPOSITORY_URL=address)
    built = metadata(next(tmp_path.glob("*.whl")))
    own = {link.partition("/HEAD/")[2] for link in links(built) if link.startswith(address)}
    assert "docs/metrics.md" in own
    assert all((ROOT / path.partition("#")[0]).exists() for path in own)
    assert f"Source, {address}" in (built.get_all("Project-URL") or [])


def test_the_wheel_says_what_it_is_and_holds_one_package(wheel: Path) -> None:
    found = metadata(wheel)
    assert found["License-Expression"] == "Apache-2.0"
    claimed = set(found.get_all("Classifier") or [])
    versions = {c.rpartition(" ")[2] for c in claimed if re.search(r":: 3\.\d+$", c)}
    assert versions == PYTHONS.keys()
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nextmv_exporter"}


def test_the_sdist_has_what_its_tests_need(tmp_path: Path) -> None:
    run(UV, "build", "--quiet", "--sdist", "--out-dir", tmp_path, ROOT)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.glob("nextmv_exporter-*/")
    told = run(sys.executable, "-m", "pytest", "--collect-only", "--quiet", cwd=unpacked)
    assert re.search(r"\d{3,} tests collected", told)


@pytest.mark.parametrize("version", [version for version, python in PYTHONS.items() if python])
def test_it_serves_with_tls_passwords_openmetrics_and_gzip(
    wheel: Path, version: str, tmp_path: Path
) -> None:
    """Scrape the demo as a Prometheus does that knows its password."""
    venv = tmp_path / "venv"
    run(UV, "venv", "--quiet", "--python", str(PYTHONS[version]), venv)
    lowest = ["--resolution=lowest-direct"] if version == "3.11" else []
    run(UV, "pip", "install", "--quiet", "--python", venv, *lowest, wheel)
    authority = Authority(tmp_path)
    authority.issue("server")
    users = {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    file = write_yaml(tmp_path / "web.yml", {"tls_server_config": tls, "basic_auth_users": users})
    headers = {
        "Accept": "application/openmetrics-text;version=1.0.0",
        "Accept-Encoding": "gzip",
        "Authorization": f"Basic {base64.b64encode(f'prometheus:{PASSWORD}'.encode()).decode()}",
    }
    command = (venv / "bin" / "python", "-P")
    # A file of this name in the working folder must not shadow the package.
    (tmp_path / "exporter.py").write_text("raise SystemExit('the wrong file')")
    with exporter_process("--demo", f"--web.config.file={file}", python=command) as exporter:
        assert exporter.get("/metrics", tls=authority.client()).status == 401
        response = exporter.get("/metrics", tls=authority.client(), headers=headers)
    assert response.status == 200
    assert response.headers["Content-Encoding"] == "gzip"
    families = {each.name: each for each in open_metrics(gzip.decompress(response.raw).decode())}
    assert [sample.value for sample in families["nextmv_up"].samples] == [1]
    [build] = families["nextmv_exporter_build_info"].samples
    assert build.labels["pythonversion"].startswith(version)
