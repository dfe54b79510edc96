"""A key that is rotated in its file, seen from Prometheus's side."""

from pathlib import Path

from support.exporter import exporter_process
from support.metrics import value

from nextmv_exporter.demo import DemoAPI, DemoServer, StandingAccount


def test_a_rotated_key_is_taken_up_at_the_next_scrape(tmp_path: Path) -> None:
    keys = {"old-key-1": StandingAccount(3, at=1_800_000_000)}
    file = tmp_path / "key"
    file.write_text("old-key-1\n")
    with (
        DemoServer(DemoAPI(keys)) as nextmv,
        exporter_process(
            "--nextmv.api-key-file", str(file), "--nextmv.endpoint", nextmv.url
        ) as exporter,
    ):

        def up() -> float:
            return value(exporter.scrape(), "nextmv_up")

        assert up() == 1
        keys["new-key-1"] = keys.pop("old-key-1")
        assert up() == 0
        file.write_text("new-key-1\n")
        assert up() == 1
        file.write_text("")
        assert up() == 1, "a file that is being written anew costs no scrape"
    assert exporter.logged("Credentials reloaded")
    assert exporter.logged("Reload failed, keeping current credentials")
    assert not exporter.logged("-key-1")
