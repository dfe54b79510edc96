"""Which accounts there are, and how they follow their files."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.descriptors import no_descriptor_left
from support.exporter import exporter_process, settings_of
from support.fake_api import FakeAPI
from support.logs import capture_logs
from support.programs import write_yaml
from support.waiting import until

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv.client import Deadline
from nextmv_exporter.nextmv.errors import ConfigurationError

KEPT = "Reload failed, keeping current accounts"
INVALID = "Ignoring invalid credentials"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


class Files:
    """Configuration files whose profiles are all of one API, and what it is sent."""

    def __init__(self, api: FakeAPI, file: Path) -> None:
        self.api = api
        self.file = file

    def write(self, keys: Mapping[str, str], **more: Any) -> None:
        profiles = {name: {"apikey": key, "endpoint": self.api.url} for name, key in keys.items()}
        write_yaml(self.file, profiles | more)

    def accounts(self, *profiles: str, **flags: str) -> Accounts:
        named = [f"--nextmv.profile={name}" for name in profiles]
        others = [f"--nextmv.{name.replace('_', '-')}={value}" for name, value in flags.items()]
        return Accounts(settings_of(f"--nextmv.config-file={self.file}", *named, *others))

    def of_key_file(self, key_file: Path, *flags: str) -> Accounts:
        endpoint = f"--nextmv.endpoint={self.api.url}"
        return Accounts(settings_of(f"--nextmv.api-key-file={key_file}", endpoint, *flags))

    def keys(self, accounts: Accounts) -> dict[str, str]:
        """The key that a request of each account is made with, after its files were looked at."""
        accounts.refresh()
        return {name: self.key(target) for name, target in accounts.targets.items()}

    def key(self, target: Any) -> str:
        target.result(target.start(Deadline(60)), Deadline(60))
        return self.api.requests[-1].headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def files(api: FakeAPI, file: Path) -> Files:
    return Files(api, file)


def events(logs: Sequence[Mapping[str, Any]], *fields: str) -> list[tuple[Any, ...]]:
    return [(entry["event"], *(entry.get(field) for field in fields)) for entry in logs]


def test_with_an_asterisk_profiles_that_come_and_go_are_followed_and_logged_by_name(
    files: Files, logs: list[Any]
) -> None:
    files.write({"a": "1", "b": "2"})
    accounts = files.accounts("*")
    assert files.keys(accounts) == {"a": "1", "b": "2"}
    of_a, of_b = accounts.targets["a"], accounts.targets["b"]
    assert logs == []
    files.write({"b": "5", "c": "3", "d": "4"})
    assert files.keys(accounts) == {"b": "5", "c": "3", "d": "4"}
    assert accounts.targets["b"] is of_b, "with its back-off and the groups drained lately"
    assert files.key(of_a) == "1", "a fetch in progress keeps the key of a removed account"
    added = ("Accounts reloaded", "c,d", "a", None)
    changed = ("Credentials reloaded", None, None, "b")
    assert events(logs, "added", "removed", "account") == [added, changed]
    accounts.reload()
    files.write({"b": "5", "a": "1"})
    assert files.keys(accounts) == {"b": "5", "a": "1"}
    assert accounts.targets["a"] is not of_a
    assert events(logs, "added", "removed")[2:] == [("Accounts reloaded", "a", "c,d")]


def test_a_named_profile_that_left_the_file_keeps_its_key_until_a_reload_is_asked_for(
    files: Files, logs: list[Any]
) -> None:
    files.write({"a": "1", "b": "2"})
    accounts = files.accounts("a", "b")
    files.write({"a": "3"})
    assert files.keys(accounts) == {"a": "3", "b": "2"}
    assert events(logs, "account").count((INVALID, "b")) == 1
    accounts.reload()
    assert files.keys(accounts) == {"a": "3"}
    assert events(logs, "added", "removed")[-1] == ("Accounts reloaded", "", "b")
    assert events(logs, "account").count((INVALID, "b")) == 1
    files.write({"a": "3", "b": "4"})
    assert files.keys(accounts) == {"a": "3", "b": "4"}
    files.write({"a": "3"})
    assert files.keys(accounts) == {"a": "3", "b": "4"}


@pytest.mark.parametrize("profiles", [["a"], ["a", "c"], ["*"]])
def test_a_file_without_any_of_the_accounts_changes_nothing_and_is_logged_once(
    files: Files, logs: list[Any], profiles: list[str]
) -> None:
    files.write({"a": "1", "c": "2"})
    accounts = files.accounts(*profiles)
    before = files.keys(accounts)
    texts = ["", "a: [", "- a", "!!bool x", "# nothing"]
    texts += [] if "*" in profiles else ["b: {apikey: k, endpoint: e}"]
    for text in texts:
        logs.clear()
        files.file.write_text(text)
        for reload in (accounts.refresh, accounts.reload, accounts.refresh):
            reload()
            assert files.keys(accounts) == before
        assert {entry["event"].partition(",")[0] for entry in logs} <= {"Reload failed", INVALID}
        assert len({str(entry) for entry in logs}) == len(logs), "each failure is logged once"
    logs.clear()
    files.file.unlink()
    assert [files.keys(accounts) for _ in range(3)] == [before] * 3
    assert events(logs) == [(KEPT,)]


@pytest.mark.parametrize(
    "broken", [{"apikey": 5}, {"apikey": "k"}, {"apikey": "two SECR", "endpoint": "e.example"}]
)
def test_an_invalid_profile_affects_no_other_account(
    files: Files, logs: list[Any], broken: object
) -> None:
    files.write({"a": "1", "b": "2"})
    accounts = files.accounts("*")
    files.write({"a": "3"}, b=broken, new=broken)
    for _ in range(3):
        assert files.keys(accounts) == {"a": "3", "b": "2"}
    lines = [("Credentials reloaded", "a"), (INVALID, "b"), (INVALID, "new")]
    assert sorted(events(logs, "account"), key=str) == sorted(lines, key=str)
    logs.clear()
    files.write({"a": "3", "c": "1"}, b=broken, new=broken, newer=broken)
    assert files.keys(accounts) == {"a": "3", "b": "2", "c": "1"}
    assert events(logs) == [(INVALID,), ("Accounts reloaded",)]
    assert "'newer'" in logs[0]["err"]
    assert "SECR" not in str(logs)
    for profiles in (["*"], ["a", "b"]):
        with pytest.raises(ConfigurationError, match=r"'b' in "):
            files.accounts(*profiles)  # at start it is refused


def test_a_profile_whose_name_can_not_be_printed_is_left_out(files: Files) -> None:
    bad = ["lone \ud800 surrogate", "bell\a", "new\nline", "escape \x1b[31m", "c1 \x85."]
    files.write({"a": "1", **dict.fromkeys(bad, "2")})
    assert files.keys(files.accounts("*")) == {"a": "1"}
    with pytest.raises(ConfigurationError, match="is not in") as caught:
        files.accounts("nowhere")
    assert str(caught.value).isprintable()


def test_a_thousand_profiles_are_read_and_followed_in_seconds(files: Files) -> None:
    names = [f"account-{number}" for number in range(1000, 2000)]
    files.write(dict.fromkeys(names, "k"))
    start = time.process_time()
    accounts = files.accounts("*")
    files.write(dict.fromkeys(names, "new"))
    accounts.refresh()
    assert time.process_time() - start < 20
    for _ in range(1000):
        accounts.refresh()
    assert list(accounts.targets) == names
    assert files.key(accounts.targets["account-1007"]) == "new"
    assert time.process_time() - start < 30


# One key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("first")
    return file


def test_a_bad_key_file_keeps_the_last_key_and_is_logged_once(
    files: Files, key_file: Path, logs: list[Any]
) -> None:
    accounts = files.of_key_file(key_file)
    for fault in (None, "half SECR\nkey"):
        logs.clear()
        key_file.unlink() if fault is None else key_file.write_text(fault)
        assert [files.keys(accounts) for _ in range(3)] == [{"default": "first"}] * 3
        [entry] = logs
        assert entry["event"] in (KEPT, INVALID)
        assert str(key_file) in entry["err"]
        assert "SECR" not in str(entry)
    os.utime(key_file, (1, 1))
    key_file.write_text("first\n")
    logs.clear()
    assert files.keys(accounts) == {"default": "first"}
    assert logs == [], "a key that is written again unchanged is not logged"
    key_file.write_text("back")
    assert files.keys(accounts) == {"default": "back"}


def test_a_key_replaced_while_no_file_could_be_opened_is_used_once_one_can(
    files: Files, key_file: Path
) -> None:
    files.write({"a": "first"})
    for accounts, rotate in (
        (files.of_key_file(key_file), lambda: key_file.write_text("second")),
        (files.accounts("a"), lambda: files.write({"a": "second"})),
    ):
        assert [*files.keys(accounts).values()] == ["first"]
        rotate()
        with no_descriptor_left():
            accounts.refresh()
            accounts.refresh()
        assert [*files.keys(accounts).values()] == ["second"]


def test_the_clis_own_file_may_come_later_and_if_it_vanishes_the_endpoint_is_kept(
    api: FakeAPI, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", "k")
    own = Path(os.environ["HOME"]) / ".nextmv" / "config.yaml"
    own.parent.mkdir()
    before = Accounts(settings_of())
    own.write_text(f"endpoint: {api.url}\n")
    assert files.keys(before) == {"default": "k"}
    accounts = Accounts(settings_of())
    own.unlink()
    assert files.keys(accounts) == {"default": "k"}, "not sent to the default endpoint"


def test_keys_that_are_sent_in_clear_are_warned_of_in_one_line(
    files: Files, logs: list[Any]
) -> None:
    plain = {"apikey": "SECR", "endpoint": "http://api.example"}
    files.write({"a": "SECR"}, b=plain, c=plain, d={**plain, "endpoint": "https://api.example"})
    accounts = files.accounts("*")
    warning = ("API key is sent unencrypted: use https", "warning", "b,c")
    assert events(logs, "log_level", "accounts") == [warning]
    assert "SECR" not in str(logs)
    accounts.reload()
    assert len(logs) == 1


# Names


def test_the_default_profile_and_a_bare_key_are_named_by_the_flag(
    files: Files, key_file: Path
) -> None:
    assert files.keys(files.of_key_file(key_file)) == {"default": "first"}
    for name in ("--nextmv.account-name= ", "--nextmv.account-name=default"):
        assert list(files.of_key_file(key_file, name).targets) == ["default"]
    assert list(files.of_key_file(key_file, "--nextmv.account-name=eu").targets) == ["eu"]
    files.write({"staging": "2"}, apikey="1", endpoint=files.api.url)
    for profiles in ([], ["DEFAULT", "staging"], ["*"], ["*", "default"]):
        accounts = files.accounts(*profiles, account_name="production")
        assert files.keys(accounts)["production"] == "1"
        assert set(accounts.targets) <= {"production", "staging"}
    assert files.keys(files.accounts("staging", account_name="production")) == {"staging": "2"}


def test_a_profile_of_the_default_accounts_name_is_refused(files: Files, logs: list[Any]) -> None:
    default = {"apikey": "1", "endpoint": files.api.url}
    files.write({"a": "2"}, **default)
    accounts = files.accounts("*", account_name="staging")
    files.write({"a": "3", "staging": "2"}, **default)
    assert files.keys(accounts) == {"staging": "1", "a": "2"}
    [fault] = [entry["err"] for entry in logs if "err" in entry]
    assert "--nextmv.account-name gives the default profile the name of another" in fault
    with pytest.raises(ConfigurationError, match=r"--nextmv\.account-name"):
        files.accounts("*", account_name="staging")


# The program


def test_the_program_takes_up_rotated_keys_and_profiles_that_come_and_go(files: Files) -> None:
    files.write({"a": "SECR-1", "b": "SECR-2"})
    flags = [f"--nextmv.config-file={files.file}", "--nextmv.profile=a", "--nextmv.profile=b"]
    with exporter_process(*flags) as exporter:
        assert exporter.up() == {"a": 1, "b": 1}
        files.write({"a": "SECR-3"})
        assert exporter.up() == {"a": 1, "b": 1}
        exporter.hang_up()
        until(lambda: exporter.up() == {"a": 1}, seconds=120, what="the removal of b")
        files.file.write_text("a: [")
        assert exporter.up() == {"a": 1}
    sent = [each.headers["Authorization"] for each in files.api.requests]
    assert sorted(sent[:2]) == ["Bearer SECR-1", "Bearer SECR-2"]
    assert sent[-1] == "Bearer SECR-3"
    for text in ("Credentials reloaded", "Accounts reloaded", INVALID, KEPT):
        assert exporter.logged(text) == 1, exporter.log
    assert "SECR" not in exporter.log
