"""What the package offers to other programs."""

import subprocess
import sys

import pytest

import nextmv_exporter
from nextmv_exporter import (
    Account,
    Client,
    ConfigurationError,
    NextmvError,
    Queue,
    QueueCollector,
    QueuedRun,
    errors,
)
from nextmv_exporter.nextmv import errors as api_errors

HEAVY = ("bcrypt", "jinja2", "prometheus_client", "pydantic", "requests", "starlette", "structlog")


@pytest.mark.parametrize("name", nextmv_exporter.__all__)
def test_every_name_that_is_offered_is_there(name: str) -> None:
    assert getattr(nextmv_exporter, name).__name__ == name


def test_the_collector_and_the_models_are_offered() -> None:
    for each in (QueueCollector, Account, Client, Queue, QueuedRun):
        assert isinstance(each, type)
        assert each.__module__.startswith("nextmv_exporter.")
    assert ConfigurationError is errors.ConfigurationError


def test_every_error_that_can_be_raised_is_offered() -> None:
    raised = {
        name
        for name, each in (vars(errors) | vars(api_errors)).items()
        if isinstance(each, type) and issubclass(each, NextmvError | ConfigurationError)
    }
    assert raised == {name for name in nextmv_exporter.__all__ if name.endswith("Error")}


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    for module in (nextmv_exporter, nextmv_exporter.nextmv):
        with pytest.raises(AttributeError) as caught:
            module.Nothing  # noqa: B018 - asked for in vain
        assert str(caught.value) == f"module {module.__name__!r} has no attribute 'Nothing'"


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout


def test_all_names_can_be_imported_at_once() -> None:
    program = "from nextmv_exporter import *; print(*sorted(n for n in dir() if n[0].isupper()))"
    assert run(program).split() == nextmv_exporter.__all__


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    loaded = run("import sys, nextmv_exporter; print(*sys.modules)").split()
    assert set(HEAVY).isdisjoint(loaded)
    assert "nextmv_exporter" in loaded
