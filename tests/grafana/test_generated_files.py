from pathlib import Path

import pytest

from grafana.__main__ import generated_files, main


def test_what_is_committed_is_what_the_code_generates() -> None:
    assert main(["--check"]) == 0


def test_check_names_stale_files_until_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], tmp_path) == 1
    told = capsys.readouterr().err
    assert all(str(path) in told for path in generated_files(tmp_path))
    assert not list(tmp_path.iterdir())
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
