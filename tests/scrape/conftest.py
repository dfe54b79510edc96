"""Fixtures of the tests of scrapes."""

from collections.abc import Iterator

import pytest
from freezegun import config, freeze_time
from freezegun.api import FrozenDateTimeFactory

NOON = "2026-11-23T12:00:00Z"


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    """Stop all clocks at noon, also for the threads of fetches, which freezegun leaves alone."""
    config.configure(default_ignore_list=["_pytest.terminal", "_pytest.runner"])
    with freeze_time(NOON) as frozen:
        yield frozen  # type: ignore[misc]
    config.reset_config()
