import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.files import stamp
from nextmv_exporter.nextmv.credentials import Credentials, read_api_key_file
from nextmv_exporter.nextmv.rotation import RotatingCredentials

URL = "https://api.example"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("first")
    return file


def finder(file: Path, calls: list[int]) -> Callable[[], Credentials]:
    def find() -> Credentials:
        calls.append(1)
        return Credentials(read_api_key_file(file), URL)

    return find


def rotating(file: Path) -> tuple[RotatingCredentials, list[int]]:
    calls: list[int] = []
    return RotatingCredentials("default", finder(file, calls), [file]), calls


def test_a_file_that_stays_is_read_once(key_file: Path) -> None:
    credentials, calls = rotating(key_file)
    assert [credentials().api_key for _ in range(5)] == ["first"] * 5
    assert len(calls) == 1


def test_a_file_that_is_written_anew_is_read_anew(key_file: Path) -> None:
    credentials, calls = rotating(key_file)
    key_file.write_text("second")
    with capture_logs() as logs:
        assert credentials() == Credentials("second", URL)
        assert credentials() == Credentials("second", URL)
    assert len(calls) == 2
    assert [entry["event"] for entry in logs] == ["Took up changed credentials"]
    assert "second" not in str(logs)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_seen(key_file: Path) -> None:
    credentials, _ = rotating(key_file)
    before = key_file.stat()
    other = key_file.with_name("other")
    other.write_text("third")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(key_file)
    assert credentials().api_key == "third"


def test_a_link_that_turns_to_another_file_is_seen(tmp_path: Path) -> None:
    """As Kubernetes does it: the link `..data` is replaced, not the file."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"key-{name}")
    data, turned = tmp_path / "..data", tmp_path / "..data_tmp"
    data.symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    credentials, _ = rotating(tmp_path / "key")
    assert credentials().api_key == "key-one"
    turned.symlink_to("two")
    turned.replace(data)
    assert credentials().api_key == "key-two"


@pytest.mark.parametrize("fault", ["vanished", "emptied", "half written"])
def test_a_bad_file_keeps_the_last_good_key_and_is_logged_once(key_file: Path, fault: str) -> None:
    credentials, _ = rotating(key_file)
    if fault == "vanished":
        key_file.unlink()
    else:
        key_file.write_text("" if fault == "emptied" else "half a\nkey")
    with capture_logs() as logs:
        assert [credentials().api_key for _ in range(3)] == ["first"] * 3
    [entry] = logs
    assert entry["log_level"] == "warning"
    assert entry["account"] == "default"
    assert str(key_file) in entry["err"]
    assert "half a" not in str(entry)


def test_a_file_that_comes_back_is_taken_up(key_file: Path) -> None:
    credentials, _ = rotating(key_file)
    key_file.unlink()
    credentials()
    key_file.write_text("back")
    assert credentials().api_key == "back"


def test_a_file_that_is_touched_but_the_same_is_no_news(key_file: Path) -> None:
    credentials, calls = rotating(key_file)
    os.utime(key_file, (1, 1))
    with capture_logs() as logs:
        assert credentials().api_key == "first"
    assert (len(calls), logs) == (2, [])


def test_without_a_key_to_begin_with_there_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        rotating(tmp_path / "missing")


def test_a_stamp_tells_a_file_from_its_absence(key_file: Path) -> None:
    before = stamp([key_file])
    assert stamp([key_file]) == before
    key_file.unlink()
    assert stamp([key_file]) == (None,) != before
