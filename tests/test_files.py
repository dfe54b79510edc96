"""Files are loaded again when they change, and the last good value stays after a failure."""

import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.descriptors import no_descriptor_left
from support.logs import capture_logs

from nextmv_exporter.files import Reloaded, Watch, read, read_yaml
from nextmv_exporter.nextmv.errors import ConfigurationError, UnreadableFileError

KEPT = "Reload failed, keeping current text"


class Text:
    """The text of a file, reloaded; "bad..." is invalid."""

    def __init__(self, *files: Path) -> None:
        self.files = files
        self.loads = 0
        self.reloads: list[tuple[str, str]] = []
        self.latest = Reloaded(self.load, lambda *both: self.reloads.append(both), KEPT)

    def load(self, last: str | None, watch: Watch) -> str:
        self.loads += 1
        assert (last is None) == (self.loads == 1)
        for file in self.files:
            watch(file)
        text = "".join(read(file, "file").decode() for file in self.files)
        if text.startswith("bad"):
            raise ConfigurationError(text)
        return text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("first")
    return file


def events(logs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["event"], entry["err"]) for entry in logs]


def test_a_file_that_is_written_is_loaded_again(file: Path) -> None:
    text = Text(file)
    file.write_text("second")
    assert [text.latest() for _ in range(3)] == ["second"] * 3
    assert (text.loads, text.reloads) == (2, [("first", "second")])


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_seen(file: Path) -> None:
    text = Text(file)
    before = file.stat()
    other = file.with_name("other")
    other.write_text("third")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert text.latest() == "third"


def test_a_link_that_is_swapped_is_seen(tmp_path: Path) -> None:
    """As Kubernetes does it: the link `..data` is replaced, not the file."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(name)
    data, swapped = tmp_path / "..data", tmp_path / "..data_tmp"
    data.symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    text = Text(tmp_path / "key")
    swapped.symlink_to("two")
    swapped.replace(data)
    assert text.latest() == "two"


def test_a_file_written_while_it_is_loaded_is_loaded_again(file: Path) -> None:
    def load(_: str | None, watch: Watch) -> str:
        watch(file)
        text = file.read_text()
        if text == "first":
            file.write_text("written meanwhile")
        return text

    latest = Reloaded(load, lambda *_: None, KEPT)
    assert latest() == "written meanwhile"


def test_an_invalid_file_keeps_the_last_value_and_is_neither_loaded_nor_logged_again(
    file: Path,
) -> None:
    text = Text(file)
    file.write_text("bad")
    with capture_logs() as logs:
        assert [text.latest() for _ in range(5)] == ["first"] * 5
    assert (text.loads, text.reloads) == (2, [])
    assert events(logs) == [(KEPT, "bad")]
    assert logs[0]["log_level"] == "warning"


def test_a_failure_is_logged_again_when_its_message_changes_or_when_it_comes_back(
    file: Path,
) -> None:
    text = Text(file)
    with capture_logs() as logs:
        for content in ("bad 1", "bad 1", "bad 2", "good", "bad 2"):
            file.with_name("new").write_text(content)
            file.with_name("new").replace(file)
            text.latest()
    assert [err for _, err in events(logs)] == ["bad 1", "bad 2", "bad 2"]
    assert text.latest() == "good"


def test_a_file_that_could_not_be_read_is_tried_again_although_it_has_not_changed(
    file: Path,
) -> None:
    text = Text(file)
    file.write_text("second")
    with capture_logs() as logs, no_descriptor_left():
        assert [text.latest() for _ in range(3)] == ["first"] * 3
    assert text.latest() == "second"
    assert events(logs) == [(KEPT, f"file {file} can't be read: Too many open files")]
    text.latest()
    assert text.loads == 1 + 3 + 1


def test_a_reload_that_is_asked_for_loads_an_unchanged_file(file: Path) -> None:
    text = Text(file)
    text.latest.reload()
    assert (text.loads, text.reloads) == (2, [("first", "first")])


def test_the_first_load_must_succeed(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="can't be read: No such file"):
        Text(tmp_path / "missing")


def test_threads_that_ask_at_once_cost_one_load(file: Path) -> None:
    text = Text(file)
    file.write_text("second")
    start = threading.Barrier(20)
    seen = []

    def ask() -> None:
        start.wait()
        seen.append(text.latest())

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["second"] * 20
    assert text.loads == 2


# YAML


def failure(file: Path) -> str:
    """What a file is refused with; empty if it is valid. Other errors are let out."""
    try:
        read_yaml(file, "file")
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "text",
    ["!!bool SECR", "!!int ''", "a: " + "[" * 2000, "2026-13-99", "? [a]\n: b", "SECR: [\n"],
)
def test_what_pyyaml_itself_trips_over_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    assert re.match(rf"file {file} is not valid YAML.*: correct it", failure(file))
    assert "SECR" not in failure(file)


TAGS = (
    *("bool", "int", "float", "null", "str", "timestamp", "binary", "omap", "pairs", "set", "seq"),
    *("map", "merge", "value", "python/object:os.system", "unknown"),
)
PIECES = st.sampled_from(
    [*(f"!!{tag} " for tag in TAGS), *"[]{},:?-&*|>'\"%@#\n\t ", ": ", "- ", "&a ", "*a", "<<: "]
)


@settings(max_examples=300)
@given(st.lists(PIECES | st.just("SECR") | st.from_regex(r"\d[\d:.eE_+-]*", fullmatch=True)))
def test_no_other_error_comes_out_of_any_text_and_none_quotes_it(pieces: list[str]) -> None:
    file = Path(os.environ["HOME"]) / "file.yaml"
    file.write_text("".join(pieces))
    assert "SECR" not in failure(file)
