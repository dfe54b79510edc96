"""Several profiles, one account each: none costs the others anything, and all may come and go."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.harness import Watched, dead, dripping, get, numbered, profile, write_yaml
from support.metrics import by, samples
from support.waiting import until

from nextmv_exporter.demo import DemoAPI, DemoServer, StandingAccount

KEYS = {f"key-{number}": 10 * number for number in range(1, 5)}


@pytest.fixture
def api() -> Iterator[tuple[str, Watched]]:
    """The URL of an API with accounts of 10, 20, 30 and 40 runs."""
    now = time.time()
    watched = Watched(
        DemoAPI({key: StandingAccount(runs, at=now, seed=runs) for key, runs in KEYS.items()})
    )
    with DemoServer(watched) as server:
        yield server.url, watched


def lengths(text: str) -> dict[str, float]:
    return by("account", samples(text, "nextmv_account_queue_length"))


def test_each_profile_is_read_with_its_own_key_from_its_own_endpoint(
    api: tuple[str, Watched], tmp_path: Path
) -> None:
    url, _ = api
    with DemoServer(DemoAPI({"other": StandingAccount(7, at=time.time())})) as elsewhere:
        profiles = {"a": profile(url, "key-1"), "b": profile(elsewhere.url, "other")}
        file = write_yaml(tmp_path / "config.yaml", profiles)
        asked = ("--nextmv.profile", "a", "--nextmv.profile", "b")
        with exporter_process("--nextmv.config-file", str(file), *asked) as exporter:
            assert lengths(exporter.scrape()) == {"a": 10, "b": 7}


def test_profiles_may_be_named_in_the_environment(
    api: tuple[str, Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_yaml(
        tmp_path / "config.yaml", {name: profile(api[0], f"key-{name}") for name in "1234"}
    )
    monkeypatch.setenv("NEXTMV_PROFILE", "1, 3")
    monkeypatch.setenv("NEXTMV_CONFIG_FILE", str(file))
    with exporter_process() as exporter:
        assert lengths(exporter.scrape()) == {"1": 10, "3": 30}


def test_accounts_are_scraped_at_the_same_time(api: tuple[str, Watched], tmp_path: Path) -> None:
    url, watched = api
    file = write_yaml(tmp_path / "config.yaml", {key: profile(url, key) for key in KEYS})
    watched.delay = 1.0
    with exporter_process("--nextmv.config-file", str(file), "--nextmv.profile", "*") as exporter:
        start = time.monotonic()
        assert set(exporter.up().values()) == {1}
        assert time.monotonic() - start < 2.5
        assert watched.most_at_once == len(KEYS)


def test_slow_and_broken_accounts_are_down_and_cost_the_others_nothing(
    api: tuple[str, Watched], tmp_path: Path
) -> None:
    with dead() as refused, dripping() as slow:
        profiles = {
            "good": profile(api[0], "key-1"),
            "revoked": profile(api[0], "wrong"),
            "refused": profile(refused, "k"),
            "slow": profile(slow, "k"),
        }
        file = write_yaml(tmp_path / "config.yaml", profiles)
        asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
        with exporter_process(*asked) as exporter:
            start = time.monotonic()
            text = exporter.scrape(timeout=1.5)
            assert time.monotonic() - start < 1.5
            assert by("account", samples(text, "nextmv_up")) == {
                "good": 1,
                "revoked": 0,
                "refused": 0,
                "slow": 0,
            }
            assert lengths(text) == {"good": 10}
            errors = samples(text, "nextmv_scrape_errors_total")
            assert {
                (dict(labels)["account"], dict(labels)["reason"])
                for labels, number in errors.items()
                if number
            } == {("revoked", "auth"), ("refused", "connection"), ("slow", "timeout")}
            start = time.monotonic()
            exporter.scrape("?account=good&account=revoked&account=refused")
            assert time.monotonic() - start < 1


@pytest.mark.parametrize("asked", [["*"], ["a", "b", "c"]], ids=["all", "named"])
def test_profiles_that_come_and_go_are_taken_up(
    api: tuple[str, Watched], tmp_path: Path, asked: list[str]
) -> None:
    """Without a signal where all are monitored, on SIGHUP where they are named."""
    url, _ = api
    keys = {"a": "key-1", "b": "key-2", "c": "key-3"}
    file = tmp_path / "config.yaml"

    def have(names: str) -> None:
        write_yaml(file, {name: profile(url, keys[name]) for name in names})
        if asked != ["*"]:
            exporter.hang_up()

    def shows(names: str) -> bool:
        return lengths(exporter.scrape()).keys() == set(names)

    write_yaml(file, {name: profile(url, keys[name]) for name in "abc"})
    arguments = [word for name in asked for word in ("--nextmv.profile", name)]
    with exporter_process("--nextmv.config-file", str(file), *arguments) as exporter:
        assert shows("abc")
        have("ac")
        until(lambda: shows("ac"), seconds=5)
        text = exporter.scrape()
        assert 'account="b"' not in text
        assert 'aria-label="Account b"' not in get(exporter.url)[1]
        assert get(f"{exporter.url}/metrics?account=b")[0] == 404
        assert '"b"' not in get(f"{exporter.url}/sd")[1]
        if asked != ["*"]:
            until(lambda: exporter.logged("removed=b") == 1)
        have("abc")
        until(lambda: shows("abc"), seconds=5)
        until(lambda: exporter.logged("Accounts reloaded") == 2)
        errors = samples(exporter.scrape("?account=b"), "nextmv_scrape_errors_total")
        assert set(errors.values()) == {0}


def test_the_landing_page_and_sd_follow_the_file_before_any_scrape(
    api: tuple[str, Watched], tmp_path: Path
) -> None:
    url, _ = api
    file = write_yaml(tmp_path / "config.yaml", {"a": profile(url, "key-1")})
    asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
    with exporter_process(*asked) as exporter:
        write_yaml(file, {"b": profile(url, "key-2")})
        page = get(exporter.url)[1]
        assert 'aria-label="Account b"' in page
        assert 'aria-label="Account a"' not in page
        write_yaml(file, {"c": profile(url, "key-3")})
        assert '"c"' in get(f"{exporter.url}/sd")[1]


def test_a_scrape_under_way_is_finished_though_its_account_is_removed(
    api: tuple[str, Watched], tmp_path: Path
) -> None:
    url, watched = api
    profiles = {"a": profile(url, "key-1"), "b": profile(url, "key-2")}
    file = write_yaml(tmp_path / "config.yaml", profiles)
    asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
    with exporter_process(*asked) as exporter:
        watched.delay = 1.5
        answers: list[str] = []
        scrape = threading.Thread(target=lambda: answers.append(exporter.scrape()))
        scrape.start()
        until(lambda: len(watched.paths) == 2)
        del profiles["b"]
        write_yaml(file, profiles)
        exporter.hang_up()
        until(lambda: exporter.logged("Accounts reloaded"))
        assert scrape.is_alive()
        scrape.join()
        assert lengths(answers[0]) == {"a": 10, "b": 20}
        watched.delay = 0
        assert exporter.up() == {"a": 1}
        assert exporter.logged("failed") == 0


@pytest.mark.parametrize("text", ["", "a: [", "- a", "b: {apikey: k, endpoint: e}\n"])
def test_a_file_that_holds_none_of_the_named_profiles_changes_nothing(
    api: tuple[str, Watched], tmp_path: Path, text: str
) -> None:
    file = write_yaml(tmp_path / "config.yaml", {"a": profile(api[0], "key-1")})
    asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "a")
    with exporter_process(*asked) as exporter:
        file.write_text(text, encoding="utf-8")
        exporter.hang_up()
        until(lambda: exporter.scrape() and exporter.logged("Reload failed"))
        assert lengths(exporter.scrape()) == {"a": 10}
        assert "Traceback" not in "".join(exporter.log)


def test_a_new_profile_that_is_unusable_keeps_no_other_from_being_taken_up(
    api: tuple[str, Watched], tmp_path: Path
) -> None:
    good = {"a": profile(api[0], "key-1")}
    file = write_yaml(tmp_path / "config.yaml", good)
    asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
    with exporter_process(*asked) as exporter:
        added = {"broken": {"apikey": "no endpoint"}, "b": profile(api[0], "key-2")}
        write_yaml(file, good | added)
        assert lengths(exporter.scrape()) == {"a": 10, "b": 20}
    assert exporter.logged("profile 'broken'") == 1
    assert exporter.logged("has no endpoint") == 1


def test_each_account_follows_its_own_key(api: tuple[str, Watched], tmp_path: Path) -> None:
    url, _ = api
    file = tmp_path / "config.yaml"
    write_yaml(file, {"a": profile(url, "key-1"), "b": profile(url, "key-2")})
    asked = ("--nextmv.profile", "a", "--nextmv.profile", "b")
    with exporter_process("--nextmv.config-file", str(file), *asked) as exporter:
        assert lengths(exporter.scrape()) == {"a": 10, "b": 20}
        write_yaml(file, {"a": profile(url, "key-1"), "b": profile(url, "key-3")})
        assert lengths(exporter.scrape()) == {"a": 10, "b": 30}


def test_a_thousand_profiles_are_read_from_the_file_in_a_few_seconds(tmp_path: Path) -> None:
    with dead() as url:
        profiles = {name: profile(url, "key") for name in numbered(1000)}
        file = write_yaml(tmp_path / "config.yaml", profiles)
        start = time.monotonic()
        asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
        with exporter_process(*asked) as exporter:
            assert time.monotonic() - start < 15
            start = time.monotonic()
            write_yaml(file, profiles | {"one-more": profile(url, "key")})
            assert get(f"{exporter.url}/metrics?account=one-more")[0] == 200
            assert time.monotonic() - start < 10


def test_of_fifty_accounts_the_forty_good_ones_are_up_within_the_deadline(tmp_path: Path) -> None:
    now = time.time()
    accounts = {f"key-{n}": StandingAccount(100, at=now, seed=n) for n in range(40)}
    with ExitStack() as stack:
        server = stack.enter_context(DemoServer(DemoAPI(accounts)))
        profiles = {f"good-{n}": profile(server.url, f"key-{n}") for n in range(40)}
        for number in range(5):
            profiles[f"dead-{number}"] = profile(stack.enter_context(dead()), "k")
            profiles[f"dripping-{number}"] = profile(stack.enter_context(dripping()), "k")
        file = write_yaml(tmp_path / "config.yaml", profiles)
        asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
        # Two cores that other tests keep busy need more than half a second for the answer.
        spare = ("--web.timeout-offset", "2s")
        exporter = stack.enter_context(exporter_process(*asked, *spare))
        idle = exporter.status("Threads")
        threads, memory = [], []
        for _ in range(3):
            start = time.monotonic()
            texts: list[str] = []
            scrape = threading.Thread(
                target=lambda to: to.append(exporter.scrape(timeout=4)), args=(texts,)
            )
            scrape.start()
            while scrape.is_alive():
                threads.append(exporter.status("Threads"))
                scrape.join(0.02)
            assert time.monotonic() - start < 4
            up = by("account", samples(texts[0], "nextmv_up"))
            assert {name for name, value in up.items() if value} == {f"good-{n}" for n in range(40)}
            assert len(up) == 50
            assert lengths(texts[0]) == {f"good-{n}": 100 for n in range(40)}
            memory.append(exporter.status("VmRSS"))
        # A thread that fetches for each account, and the one that waits for them.
        assert max(threads) <= idle + 50 + 10
        until(lambda: exporter.status("Threads") <= idle + 10)
        assert memory[-1] < memory[0] + 10 * 1024
        assert memory[-1] < 150 * 1024
