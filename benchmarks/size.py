"""Installed size and number of dependencies, compared with celery-exporter's."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.installation import PROJECT, installed, python
from benchmarks.scale import Scale
from benchmarks.table import Row, Table, mebibytes

# The dependencies that celery-exporter 0.9.1 names in its pyproject.toml, without pylint, which
# is among them by mistake. It is published as an image; the size of its own code is negligible.
CELERY_EXPORTER = (
    "celery~=5.0",
    "prometheus-client~=0.13.1",
    "click~=8.0",
    "pretty-errors~=1.2",
    "loguru~=0.6.0",
    "redis~=4.2",
    "flask~=2.0",
    "waitress~=2.0",
)


def measure(scale: Scale) -> Table:
    """Install both and measure what was installed.

    Args:
        scale: whether to install at all.

    Returns:
        Sizes and numbers of packages.
    """
    packages: dict[str, Sequence[str]] = {
        "nextmv-exporter": [str(PROJECT)],
        "celery-exporter's dependencies": CELERY_EXPORTER,
    }
    return Table(
        "Installed size, without byte code",
        ("", "Size", "Packages"),
        [_row(name, what) for name, what in packages.items()] if scale.install else [],
    )


def _row(name: str, requirements: Sequence[str]) -> Row:
    with installed(*requirements) as folder:
        uninstall = [python(folder), "-m", "pip", "uninstall", "-qy", "setuptools", "pip"]
        subprocess.run(uninstall, check=True)
        (site_packages,) = folder.glob("lib/python*/site-packages")
        files = [p for p in site_packages.rglob("*") if p.is_file() and p.suffix != ".pyc"]
        size = sum(path.stat().st_size for path in files)
        return name, mebibytes(size), str(len(_packages(site_packages)))


def _packages(site_packages: Path) -> Sequence[Path]:
    return list(site_packages.glob("*.dist-info"))
