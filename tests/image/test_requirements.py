"""The dependencies: those declared against those imported, and the image's pins against them."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "requirements-build.txt": PROJECT["build-system"]["requires"],
}


@pytest.mark.parametrize("name", WANTED)
def test_what_the_project_asks_for_is_pinned_by_hash_at_a_version_that_it_accepts(
    name: str,
) -> None:
    text = (ROOT / name).read_text()
    lines = [line for line in text.splitlines() if line[:1].isalnum()]
    pins = {each.name: each for each in (Requirement(line.rstrip(" \\")) for line in lines)}
    for wanted in map(Requirement, WANTED[name]):
        assert wanted.name in pins, "run `make requirements`"
        [pin] = pins[wanted.name].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), "run `make requirements`"
    blocks = re.split(r"\n(?=\w)", re.sub(r"(?m)^ *#.*\n", "", text))
    assert len(blocks) == len(pins)
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text, "an address of a registry"


def test_what_the_package_imports_is_declared_and_the_other_way_round() -> None:
    names = importlib.metadata.packages_distributions()
    imported = {
        names[module][0].lower().replace("_", "-")
        for file in (ROOT / "exporter").rglob("*.py")
        for module in imports(file)
        if module not in sys.stdlib_module_names and module != "nextmv_exporter"
    }
    assert imported == {Requirement(wanted).name for wanted in PROJECT["project"]["dependencies"]}


def imports(file: Path) -> set[str]:
    """Return the top-level modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    of = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {module.partition(".")[0] for module in plain | of}
