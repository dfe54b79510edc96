"""An exporter in this process, its API, and an authority that issues certificates."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.certificates import Authority
from support.exporter import Served, exporter_here
from support.fake_api import KEY, RUN, FakeAPI

from nextmv_exporter.nextmv.credentials import Credentials


@pytest.fixture(scope="module")
def account() -> Iterator[Mapping[str, Credentials]]:
    """An account with a queued run."""
    with FakeAPI() as api:
        api.serves(RUN)
        yield {"default": Credentials(KEY, api.url)}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Issues certificates into the test's folder; server.pem is there already."""
    made = Authority(tmp_path)
    made.issue("server")
    return made


@pytest.fixture
def served(api: FakeAPI) -> Iterator[Served]:
    """An exporter of one account, whose API a test controls."""
    api.serves(RUN)
    with exporter_here(accounts={"default": Credentials(KEY, api.url)}) as made:
        yield made
