"""Fixtures and settings of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.fake_api import FakeAPI

from nextmv_exporter import logs

# A busy machine is slow, which is no fault of the code; and what fails, fails for everyone.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

SLOW = ("end_to_end", "grafana", "faults", "web")
"""Folders of tests that take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow tests, so that no worker waits for another's at the end."""
    folder = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(folder).parts[0] not in SLOW)


@pytest.fixture
def api() -> Iterator[FakeAPI]:
    """A real HTTP server in the place of Nextmv's API."""
    with FakeAPI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own Nextmv configuration, variables and proxies out of the tests."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in [name for name in os.environ if name.startswith("NEXTMV_")]:
        monkeypatch.delenv(name)
    # Python does not report at its exit what it could not write, if it does not buffer it.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Write a test's log lines, which a thread does, before the next test's output is captured."""
    yield
    logs.flush()
