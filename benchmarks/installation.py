"""Fresh virtual environments, as a user has them."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[1]


@contextmanager
def installed(*requirements: str) -> Iterator[Path]:
    """Create a virtual environment with these packages, for as long as the context lasts.

    Args:
        requirements: packages for pip to install.

    Yields:
        Its folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [python(Path(folder)), "-m", "pip", "install", "-q", *requirements], check=True
        )
        yield Path(folder)


@contextmanager
def exporter_python(*, fresh: bool) -> Iterator[str]:
    """Find an interpreter that has the exporter.

    Args:
        fresh: whether it must have nothing else.

    Yields:
        Its path.
    """
    if fresh:
        with installed(str(PROJECT)) as folder:
            yield python(folder)
    else:
        yield sys.executable


def python(folder: Path) -> str:
    """Return the path of a virtual environment's interpreter.

    Args:
        folder: the environment.

    Returns:
        The path.
    """
    return str(folder / "bin" / "python")
