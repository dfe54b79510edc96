import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import Authority, encrypt_key, issue_weak, write_rsa_key

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount
from nextmv_exporter.nextmv.credentials import Credentials

TESTDATA = Path(__file__).parent / "toolkit" / "testdata"


@pytest.fixture(scope="module")
def account() -> Iterator[dict[str, Credentials]]:
    """An account with a queue that stands still, served on loopback."""
    with DemoServer(DemoAPI({DEMO_KEY: StandingAccount(20, at=time.time())})) as server:
        yield {"demo": Credentials(api_key=DEMO_KEY, url=server.url)}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Issues certificates into the test's folder; server.pem is there already."""
    made = Authority(tmp_path)
    made.issue("server")
    return made


@pytest.fixture(scope="module")
def testdata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The web configurations, beside the certificates and keys that they name."""
    folder = tmp_path_factory.mktemp("testdata")
    shutil.copytree(TESTDATA, folder, dirs_exist_ok=True)
    authority = Authority(folder)
    authority.issue("server")
    authority.issue("other")
    encrypt_key(folder / "server.key", folder / "encrypted.key")
    issue_weak(folder / "weak.pem")
    write_rsa_key(folder / "rsa.key")
    return folder
