"""Which accounts there are, and how they follow their files."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from support.descriptors import no_descriptor_left
from support.exporter import settings_of
from support.harness import write_yaml
from support.logs import capture_logs

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv.errors import ConfigurationError

ENDPOINT = "https://api.example"
BAD_NAMES = [
    "lone \ud800 surrogate",
    "bell\a",
    "new\nline",
    "escape \x1b[31m",
    "del\x7f",
    "c1 \x85.",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("first")
    return file


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


def accounts_of(file: Path, *profiles: str, **flags: str) -> Accounts:
    named = [f"--nextmv.profile={name}" for name in profiles]
    others = [f"--nextmv.{name.replace('_', '-')}={value}" for name, value in flags.items()]
    return Accounts(settings_of(f"--nextmv.config-file={file}", *named, *others))


def write(file: Path, keys: Mapping[str, str], **more: Any) -> None:
    profiles = {name: {"apikey": key, "endpoint": ENDPOINT} for name, key in keys.items()}
    write_yaml(file, profiles | more)


def keys(accounts: Accounts) -> dict[str, str]:
    """The key that a request of each account is made with."""
    accounts.refresh()
    return {name: accounts._credentials(name)().api_key for name in accounts.targets}


def events(logs: Sequence[Mapping[str, Any]], *fields: str) -> list[tuple[Any, ...]]:
    return [(entry["event"], *(entry.get(field) for field in fields)) for entry in logs]


def test_with_an_asterisk_profiles_that_come_and_go_are_followed_and_logged_by_name(
    file: Path, logs: list[Any]
) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "*")
    assert keys(accounts) == {"a": "1", "b": "2"}
    assert logs == []
    write(file, {"b": "2", "c": "3", "d": "4"})
    assert keys(accounts) == {"b": "2", "c": "3", "d": "4"}
    assert events(logs, "added", "removed") == [("Accounts reloaded", "c,d", "a")]
    accounts.reload()
    assert len(logs) == 1
    write(file, {"b": "2"})
    assert keys(accounts) == {"b": "2"}
    assert events(logs, "added", "removed")[1:] == [("Accounts reloaded", "", "c,d")]


def test_it_is_outdated_from_a_change_of_the_file_until_it_is_refreshed(file: Path) -> None:
    write(file, {"a": "first"})
    accounts = accounts_of(file, "*")
    states = [accounts.outdated]
    write(file, {"a": "second"})
    states.append(accounts.outdated)
    accounts.refresh()
    assert [*states, accounts.outdated] == [False, True, False]


def test_a_known_account_keeps_its_target_through_a_reload(file: Path) -> None:
    """And with it its back-off and the groups that were drained lately."""
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "*")
    before = dict(accounts.targets)
    write(file, {"a": "new key", "b": "2", "c": "3"}, a={"apikey": "k", "endpoint": "e.example"})
    accounts.refresh()
    accounts.reload()
    assert accounts.targets["a"] is before["a"]
    assert accounts.targets["b"] is before["b"]
    assert list(accounts.targets) == ["a", "b", "c"]


def test_an_account_that_comes_back_starts_anew(file: Path) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "*")
    before = accounts.targets["b"]
    for names in ("a", "ab"):
        write(file, dict.fromkeys(names, "k"))
        accounts.refresh()
    assert accounts.targets["b"] is not before


def test_the_account_whose_key_changed_is_logged(file: Path, logs: list[Any]) -> None:
    write(file, {"a": "SECR-1", "b": "SECR-2", "c": "SECR-3"})
    accounts = accounts_of(file, "*")
    write(file, {"a": "SECR-1", "b": "SECR-4", "c": "SECR-3"})
    assert keys(accounts) == {"a": "SECR-1", "b": "SECR-4", "c": "SECR-3"}
    assert events(logs, "account", "log_level") == [("Credentials reloaded", "b", "info")]
    assert "SECR" not in str(logs)


def test_a_removed_accounts_requests_under_way_keep_its_key(file: Path) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "*")
    of_b = accounts._credentials("b")
    write(file, {"a": "1"})
    assert of_b().api_key == "2"
    assert list(accounts.targets) == ["a"]


def test_a_named_profile_that_left_the_file_keeps_its_key_until_it_is_asked_to_reload(
    file: Path, logs: list[Any]
) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "a", "b")
    write(file, {"a": "3"})
    assert keys(accounts) == {"a": "3", "b": "2"}
    assert ("Reload failed, keeping current credentials", "b") in events(logs, "account")
    accounts.reload()
    assert keys(accounts) == {"a": "3"}
    assert events(logs, "added", "removed")[-1] == ("Accounts reloaded", "", "b")
    kept = ("Reload failed, keeping current credentials", "b")
    assert events(logs, "account").count(kept) == 1
    write(file, {"a": "3", "b": "4"})
    assert keys(accounts) == {"a": "3", "b": "4"}
    assert events(logs, "added", "removed")[-1] == ("Accounts reloaded", "b", "")
    write(file, {"a": "3"})
    assert keys(accounts) == {"a": "3", "b": "4"}


def test_a_named_profile_that_is_dropped_is_logged_with_the_reason(
    file: Path, logs: list[Any]
) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "a", "b")
    write(file, {"a": "1"})
    accounts.reload()
    assert events(logs) == [
        ("Skipping account with invalid configuration",),
        ("Accounts reloaded",),
    ]
    assert logs[0]["err"].startswith("profile 'b' is not in")


@pytest.mark.parametrize("reload", [Accounts.refresh, Accounts.reload])
@pytest.mark.parametrize(
    ("profiles", "text"),
    [
        *itertools.product([["a"], ["a", "c"], ["*"]], ["", "a: [", "- a", "!!bool x"]),
        (["a"], "b: {apikey: k, endpoint: e}"),
        (["a", "c"], "b: {apikey: k, endpoint: e}"),
    ],
)
def test_a_file_without_any_of_the_accounts_changes_nothing(
    file: Path, logs: list[Any], profiles: list[str], text: str, reload: Any
) -> None:
    write(file, {"a": "1", "c": "2"})
    accounts = accounts_of(file, *profiles)
    before = keys(accounts)
    file.write_text(text)
    for _ in range(3):
        reload(accounts)
        assert keys(accounts) == before
    assert {entry["event"].partition(",")[0] for entry in logs} == {"Reload failed"}
    assert len(logs) <= len(profiles), "each failure is logged once"


@pytest.mark.parametrize(
    "broken", [{"apikey": 5}, {"apikey": "k"}, {"apikey": "two words", "endpoint": "e.example"}]
)
def test_an_invalid_profile_affects_no_other_account(
    file: Path, logs: list[Any], broken: object
) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "*")
    write(file, {"a": "3", "b": "4"}, b=broken, new=broken)
    for _ in range(3):
        assert keys(accounts) == {"a": "3", "b": "2"}
    assert sorted(events(logs)) == [
        ("Credentials reloaded",),
        ("Reload failed, keeping current credentials",),
        ("Skipping account with invalid configuration",),
    ]
    assert [entry["account"] for entry in logs if "keeping" in entry["event"]] == ["b"]
    assert [entry["err"] for entry in logs if "'new'" in entry.get("err", "")]
    logs.clear()
    write(file, {"a": "3", "b": "4"}, b=broken, new=broken, newer=broken)
    assert keys(accounts) == {"a": "3", "b": "2"}
    [line] = logs
    assert "'newer'" in line["err"]


@pytest.mark.parametrize("profiles", [["*"], ["a", "b"]])
def test_an_invalid_profile_is_an_error_at_start(file: Path, profiles: list[str]) -> None:
    write(file, {"a": "1"}, b={"apikey": "k"})
    with pytest.raises(ConfigurationError, match=r"'b' in .* has no endpoint"):
        accounts_of(file, *profiles)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_profile_whose_name_can_not_be_printed_is_skipped_and_its_name_shown_safely(
    file: Path, logs: list[Any], name: str
) -> None:
    write(file, {"a": "1", name: "2"})
    accounts = accounts_of(file, "*")
    assert keys(accounts) == {"a": "1"}
    [line] = logs
    assert line["event"] == "Skipping account with invalid configuration"
    assert line["err"].startswith(f"profile {name!r} has characters")
    assert line["err"].isprintable()
    with pytest.raises(ConfigurationError, match="is not in") as caught:
        accounts_of(file, "nowhere")
    assert str(caught.value).isprintable()
    write(file, {"a": "1", "b": "3", name: "2"})
    assert keys(accounts) == {"a": "1", "b": "3"}


def test_a_version_of_the_file_is_parsed_once_be_it_valid_or_not(
    file: Path, logs: list[Any]
) -> None:
    write(file, {f"account-{number}": "k" for number in range(50)})
    accounts = accounts_of(file, "*")
    with mock.patch("yaml.load", wraps=yaml.load) as load:
        file.write_text(file.read_text() + "last: [\n")
        for _ in range(3):
            assert len(keys(accounts)) == 50
        assert load.call_count == 1
        assert events(logs) == [("Reload failed, keeping current accounts",)]
        write(file, {f"account-{number}": "new" for number in range(50)})
        assert set(keys(accounts).values()) == {"new"}
        assert load.call_count == 2


def test_the_files_of_several_named_profiles_fail_as_one(file: Path, logs: list[Any]) -> None:
    write(file, {"a": "1", "b": "2"})
    accounts = accounts_of(file, "a", "b")
    file.unlink()
    for _ in range(3):
        assert keys(accounts) == {"a": "1", "b": "2"}
    assert events(logs) == [("Reload failed, keeping current accounts",)]


# One key


@pytest.mark.parametrize("fault", ["vanished", "empty", "half written"])
def test_a_bad_key_file_keeps_the_last_key_and_is_logged_once(
    key_file: Path, logs: list[Any], fault: str
) -> None:
    accounts = Accounts(settings_of(f"--nextmv.api-key-file={key_file}"))
    if fault == "vanished":
        key_file.unlink()
    else:
        key_file.write_text("" if fault == "empty" else "half a\nkey")
    assert [keys(accounts) for _ in range(3)] == [{"default": "first"}] * 3
    [entry] = logs
    assert entry["event"].startswith("Reload failed, keeping current ")
    assert str(key_file) in entry["err"]
    assert "half a" not in str(entry)
    key_file.write_text("back")
    assert keys(accounts) == {"default": "back"}


@pytest.mark.parametrize("of", ["key file", "config file"])
def test_a_key_replaced_while_no_file_could_be_opened_is_used_once_one_can(
    file: Path, key_file: Path, of: str
) -> None:
    write(file, {"a": "first"})
    if of == "key file":
        accounts = Accounts(settings_of(f"--nextmv.api-key-file={key_file}"))
        key_file.write_text("second")
    else:
        accounts = accounts_of(file, "a")
        write(file, {"a": "second"})
    with no_descriptor_left():
        assert [*keys(accounts).values(), *keys(accounts).values()] == ["first", "first"]
    assert [*keys(accounts).values()] == ["second"]


def test_a_key_that_is_written_again_unchanged_is_not_logged(
    key_file: Path, logs: list[Any]
) -> None:
    accounts = Accounts(settings_of(f"--nextmv.api-key-file={key_file}"))
    os.utime(key_file, (1, 1))
    assert keys(accounts) == {"default": "first"}
    assert logs == []


def test_if_the_clis_own_file_vanishes_the_key_is_not_sent_to_the_default_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", "k")
    own = Path(os.environ["HOME"]) / ".nextmv" / "config.yaml"
    own.parent.mkdir()
    own.write_text("endpoint: api.staging.example\n")
    accounts = Accounts(settings_of())
    own.unlink()
    assert accounts._credentials("default")().url == "https://api.staging.example"


def test_the_clis_own_file_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTMV_API_KEY", "k")
    accounts = Accounts(settings_of())
    own = Path(os.environ["HOME"]) / ".nextmv" / "config.yaml"
    own.parent.mkdir()
    own.write_text("endpoint: api.staging.example\n")
    assert accounts._credentials("default")().url == "https://api.staging.example"


def test_keys_that_are_sent_in_clear_are_warned_of_in_one_line(file: Path, logs: list[Any]) -> None:
    plain = {"apikey": "SECR", "endpoint": "http://api.example"}
    local = {"apikey": "SECR", "endpoint": "http://127.0.0.1:8080"}
    write(file, {"a": "SECR"}, b=plain, c=plain, d=local)
    accounts = accounts_of(file, "*")
    warning = "API key is sent unencrypted: use https"
    assert events(logs, "log_level", "accounts") == [(warning, "warning", "b,c")]
    assert "SECR" not in str(logs)
    accounts.reload()
    assert len(logs) == 1


# Names


def test_the_default_profile_and_a_bare_key_are_named_by_the_flag(
    file: Path, key_file: Path
) -> None:
    assert keys(Accounts(settings_of(f"--nextmv.api-key-file={key_file}"))) == {"default": "first"}
    named = settings_of(f"--nextmv.api-key-file={key_file}", "--nextmv.account-name=production")
    assert keys(Accounts(named)) == {"production": "first"}
    write(file, {"staging": "2"}, apikey="1")
    for profiles in ([], ["DEFAULT", "staging"], ["*"]):
        accounts = accounts_of(file, *profiles, account_name="production")
        assert keys(accounts)["production"] == "1"
        assert set(accounts.targets) <= {"production", "staging"}
    assert keys(accounts_of(file, "staging", account_name="production")) == {"staging": "2"}


def test_a_profile_of_the_default_accounts_name_is_refused(file: Path, logs: list[Any]) -> None:
    write(file, {"a": "2"}, apikey="1")
    accounts = accounts_of(file, "*", account_name="staging")
    write(file, {"a": "3", "staging": "2"}, apikey="1")
    assert keys(accounts) == {"staging": "1", "a": "3"}
    [fault] = [entry["err"] for entry in logs if "err" in entry]
    assert "profile 'staging' has the name that --nextmv.account-name gives" in fault
    with pytest.raises(ConfigurationError, match=r"--nextmv\.account-name"):
        accounts_of(file, "*", account_name="staging")
