import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nextmv_exporter import logs
from nextmv_exporter.cli import main
from nextmv_exporter.web.server import Server
from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig
from web.conftest import TESTDATA

GOOD = sorted(path.name for path in TESTDATA.glob("*.good.yml"))
BAD = sorted(path.name for path in TESTDATA.glob("*.bad.yml"))
SECRETS = ("hunter2", "$2y", "$apr1", "PRIVATE")

Refusal = Callable[[Path], str]


@pytest.fixture
def refusal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Refusal]:
    """Starts the program with a web configuration; gives what it says as it refuses it."""
    handlers = logging.root.handlers[:]
    monkeypatch.setenv("NEXTMV_API_KEY", "hunter2")
    monkeypatch.setattr(Server, "run", lambda *_: None)  # where it is accepted after all

    def start(path: Path) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["--web.listen-address", "127.0.0.1:0", "--web.config.file", str(path)])
        assert ended.value.code == 2
        said = capfd.readouterr()
        assert said.out == ""
        return said.err

    yield start
    logging.root.handlers[:] = handlers
    logs._renders_fields = False


def test_there_are_files_of_both_kinds() -> None:
    assert len(GOOD) > 10
    assert len(BAD) > 40


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_taken(testdata: Path, name: str) -> None:
    ReloadingWebConfig(testdata / name)


@pytest.mark.parametrize("name", GOOD)
def test_prometheus_own_tool_accepts_a_good_file_too(testdata: Path, name: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "web-config", testdata / name],
        capture_output=True,
        text=True,
        check=False,
    )
    faults = checked.stderr.splitlines()[1:]
    # Keys that are younger than some versions of promtool.
    younger = r"  line \d+: field (cert|client_ca|client_allowed_sans|rate_limit) not found in .*"
    assert checked.returncode == 0 or faults
    assert all(re.fullmatch(younger, fault) for fault in faults), checked.stderr


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_line_that_names_its_fault(
    testdata: Path, refusal: Refusal, name: str
) -> None:
    path = testdata / name
    fault = path.read_text().splitlines()[0].removeprefix("# Refused with: FILE")
    said = refusal(path)
    assert said == (
        f"nextmv-exporter: --web.config.file {path}{fault.replace('FOLDER', str(testdata))}\n"
    )
    for secret in SECRETS:
        assert secret not in said


def test_a_file_that_is_not_there_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    assert refusal(path) == (
        f"nextmv-exporter: --web.config.file {path} can't be read: No such file or directory\n"
    )


def test_a_folder_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    assert "can't be read: Is a directory" in refusal(tmp_path)


def test_bytes_that_are_no_text_are_refused(refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_bytes(b"basic_auth_users:\n  alice: \xff\xfe\xfa\n")
    assert "is not valid YAML" in refusal(path)


def test_an_alternative_is_named_for_what_this_server_cannot_ask_of_clients(
    testdata: Path, refusal: Refusal
) -> None:
    said = refusal(testdata / "tls_client_auth_require_any.bad.yml")
    assert "'RequireAndVerifyClientCert'" in said


def test_the_program_itself_ends_with_status_2_and_waits_for_no_passphrase(testdata: Path) -> None:
    path = testdata / "tls_key_encrypted.bad.yml"
    ended = subprocess.run(
        [sys.executable, "-m", "nextmv_exporter", "--demo", "--web.config.file", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "is encrypted" in ended.stderr
