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

each_file = pytest.mark.parametrize("name", WANTED)


@each_file
def test_what_the_project_asks_for_is_pinned_at_a_version_that_it_accepts(name: str) -> None:
    versions = {
        requirement.name: next(iter(requirement.specifier)).version for requirement in pins(name)
    }
    for wanted in map(Requirement, WANTED[name]):
        assert wanted.name in versions, "run `make requirements`"
        assert wanted.specifier.contains(versions[wanted.name]), "run `make requirements`"


@each_file
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / name).read_text()
    for requirement in pins(name):
        assert [each.operator for each in requirement.specifier] == ["=="]
    blocks = re.split(r"\n(?=\w)", re.sub(r"(?m)^ *#.*\n", "", text))
    assert all("--hash=sha256:" in block for block in blocks)


@each_file
def test_no_address_and_no_path_stands_in_the_file(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^-|(?<!\w)/\w", text)


def test_what_the_package_imports_is_declared_and_the_other_way_round() -> None:
    names = importlib.metadata.packages_distributions()
    imported = {
        names[module][0].lower().replace("_", "-")
        for file in (ROOT / "exporter").rglob("*.py")
        for module in imports(file)
        if module not in sys.stdlib_module_names and module != "nextmv_exporter"
    }
    assert imported == {Requirement(wanted).name for wanted in PROJECT["project"]["dependencies"]}


@pytest.mark.parametrize("name", ["h11", "prometheus-client", "urllib3", "uvicorn"])
def test_libraries_whose_internals_are_used_are_capped(name: str) -> None:
    wanted = {each.name: each for each in map(Requirement, PROJECT["project"]["dependencies"])}
    assert any(each.operator == "<" for each in wanted[name].specifier)


def imports(file: Path) -> set[str]:
    """Return the top-level modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    of = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {module.partition(".")[0] for module in plain | of}


def pins(name: str) -> list[Requirement]:
    """The requirements of a file, without their hashes."""
    return [
        Requirement(line.rstrip(" \\"))
        for line in (ROOT / name).read_text().splitlines()
        if line[:1].isalnum()
    ]
