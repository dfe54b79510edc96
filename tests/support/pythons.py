"""The Pythons of this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def find(version: str) -> str | None:
    """Return a Python of a version such as `3.13`; None if none is installed."""
    for candidate in _candidates(version):
        probe = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        found = subprocess.run(probe, capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[str]:
    if on_path := shutil.which(f"python{version}"):  # a shim of pyenv may find nothing behind it
        yield on_path
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from map(str, versions.glob(f"{version}.*/bin/python"))


if __name__ == "__main__":
    python = find(sys.argv[1])
    print(python or "")
    sys.exit(python is None)
