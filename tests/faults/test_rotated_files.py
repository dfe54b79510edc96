"""A changed key is taken up at the next scrape, and a broken file keeps the last good one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.exporter import Process, exporter_process, settings_of
from support.waiting import until

from faults.fault_server import FaultServer, answers, queue
from faults.running_exporter import scrape
from nextmv_exporter.accounts import Accounts


class Scene:
    """An exporter, the API that it asks, and a directory with its files."""

    def __init__(self, directory: Path, server: FaultServer) -> None:
        self.directory = directory
        self.server = server
        self.exporter: Process

    def key_sent(self) -> str:
        """The key of a scrape made now."""
        assert scrape(self.exporter.address, 10).up
        head = self.server.requests[-1].decode()
        [line] = [h for h in head.split("\r\n") if h.startswith("Authorization: ")]
        return line.removeprefix("Authorization: Bearer ")

    def warnings(self) -> list[str]:
        lines = self.exporter.log.splitlines()
        return [line for line in lines if "Reload failed" in line]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with FaultServer(answers(queue())) as server:
        yield Scene(tmp_path, server)


def of_key_file(path: Path) -> dict[str, str]:
    return {"NEXTMV_API_KEY_FILE": str(path), "NEXTMV_API_KEY": ""}


def of_config_file(path: Path) -> dict[str, str]:
    return {"NEXTMV_CONFIG_FILE": str(path), "NEXTMV_API_KEY": ""}


def bare(key: str) -> str:
    return f"{key}\n"


def config(key: str) -> str:
    return f"apikey: {key}\nendpoint: unused.example\n"


KINDS = [(of_key_file, bare), (of_config_file, config)]
Kind = tuple[Callable[[Path], dict[str, str]], Callable[[str], str]]


@pytest.fixture(params=KINDS, ids=["key file", "config file"])
def kind(request: pytest.FixtureRequest) -> Kind:
    given: Kind = request.param
    return given


def test_a_changed_file_is_taken_up_and_a_broken_one_keeps_the_last_good_key(
    scene: Scene, kind: Kind
) -> None:
    environment, text = kind
    file = scene.directory / "secret"
    file.write_text(text("first"))
    with exporter_process(
        environment=environment(file), endpoint=scene.server.url
    ) as scene.exporter:
        assert scene.key_sent() == "first"

        file.write_text(text("second"))
        assert scene.key_sent() == "second"

        file.unlink()
        assert [scene.key_sent() for _ in range(3)] == ["second"] * 3
        until(lambda: len(scene.warnings()) == 1, what="the one line of the vanished file")

        file.write_text(text("third"))
        assert scene.key_sent() == "third"

        for half_written in ("", "apikey: 'fou" if text is config else "two words"):
            file.write_text(half_written)
            assert [scene.key_sent() for _ in range(2)] == ["third"] * 2
        until(lambda: len(scene.warnings()) == 3, what="a line of each way of being broken")

        replacement = scene.directory / "replacement"
        replacement.write_text(text("fourth"))
        replacement.replace(file)
        assert scene.key_sent() == "fourth"

        file.unlink()
        file.mkdir()
        assert scene.key_sent() == "fourth"
        log = scene.exporter.log
    for key in ("first", "second", "third", "fourth"):
        assert key not in log
    assert "Traceback" not in log


def test_a_kubernetes_secret_is_taken_up_when_its_link_is_swapped(scene: Scene, kind: Kind) -> None:
    environment, text = kind
    volume = scene.directory / "volume"
    for version, key in (("..2026_a", "first"), ("..2026_b", "second")):
        (volume / version).mkdir(parents=True)
        (volume / version / "secret").write_text(text(key))
    (volume / "..data").symlink_to("..2026_a")
    (volume / "secret").symlink_to("..data/secret")

    with exporter_process(
        environment=environment(volume / "secret"), endpoint=scene.server.url
    ) as scene.exporter:
        assert scene.key_sent() == "first"

        (volume / "..data_tmp").symlink_to("..2026_b")
        (volume / "..data_tmp").rename(volume / "..data")
        (volume / "..2026_a" / "secret").unlink()
        assert scene.key_sent() == "second"
        assert not scene.warnings()


@pytest.mark.parametrize(
    "broken",
    [
        "expires: 2026-13-99\napikey: x\n",
        "a: " + "[" * 1500,
        "apikey: [x]\n",
        "- apikey: x\n",
        "\x00",
        "apikey: 12\n",
        "? {a: b}\n: c\n? [x]\n: y\n",
        "&a [*a]",
    ],
    ids=range(8),
)
def test_no_broken_configuration_file_fails_a_scrape(broken: str, scene: Scene) -> None:
    file = scene.directory / "config.yaml"
    file.write_text(config("first"))
    accounts = Accounts(settings_of(f"--nextmv.config-file={file}"))
    file.write_text(broken)

    assert accounts._credentials("default")().api_key == "first"
