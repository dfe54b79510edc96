"""Passwords in front of the endpoints."""

import base64
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import bcrypt
import pytest
from support.exporter import Served, ask, exporter_here
from support.logs import capture_logs
from support.programs import write_yaml

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.web import auth

PASSWORD = "correct horse: battery staple ✓"
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "X-XSS-Protection": "0",
}


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).decode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def status(served: Served, user: str, password: str, path: str = "/sd") -> int:
    header = {"Authorization": f"Basic {encoded(f'{user}:{password}')}"}
    return served.get(path, headers=header).status


class Checks:
    """The calls of bcrypt, which wait for a test where it says so."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self._check = bcrypt.checkpw

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        self.hashes.append(hashed_password)
        assert self.go_on.wait(60)
        return self._check(password, hashed_password)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    monkeypatch.setattr(bcrypt, "checkpw", made)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    users = {"alice": hashed(PASSWORD), "": hashed("x" * 80), "bob": hashed("bob's", 6)}
    headers = {"headers": HEADERS}
    return write_yaml(
        tmp_path / "web.yml", {"basic_auth_users": users, "http_server_config": headers}
    )


@pytest.fixture
def guarded(file: Path, account: Mapping[str, Credentials], checks: Checks) -> Iterator[Served]:
    with exporter_here(accounts=account, web_config=file) as served:
        yield served
        checks.go_on.set()


def test_the_right_password_opens_everything_and_costs_bcrypt_once(
    guarded: Served, checks: Checks
) -> None:
    for path in ("/", "/metrics", "/metrics?account=default", "/sd", "/-/ready"):
        assert status(guarded, "alice", PASSWORD, path) == 200
    assert status(guarded, "alice", PASSWORD, "/nothing") == 404
    assert len(checks.hashes) == 1
    assert status(guarded, "", "x" * 80) == 200, "bcrypt reads 72 bytes"
    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(lambda _: status(guarded, "bob", "bob's"), range(30))) == {200}
    assert len(checks.hashes) <= 4


def test_anything_else_opens_nothing_but_health_and_readiness(guarded: Served) -> None:
    for user, password in (
        *(("alice", wrong) for wrong in ("", "wrong", PASSWORD + "\0", PASSWORD.upper(), "bob's")),
        *((unknown, PASSWORD) for unknown in ("", "Alice", "bob", "nobody", "alice\0")),
    ):
        for _ in range(2):
            assert status(guarded, user, password) == 401
    right = encoded(f"alice:{PASSWORD}")
    for header in ("", "Basic", f"Bearer {right}", "Basic ???", f"Basic {encoded('alice')}"):
        refused = guarded.get("/metrics", headers={"Authorization": header})
        assert (refused.status, refused.body) == (401, "Unauthorized\n")
        assert refused.headers["WWW-Authenticate"] == "Basic"
    for path in ("/-/healthy", "/-/ready"):
        assert guarded.get(path).status == 200
    for path in ("/", "/nothing", "/-/healthy/", "//-/ready", "/-/ready/..", "/metrics?/-/ready"):
        assert guarded.get(path).status == 401, path
    assert guarded.get(f"{guarded.url}/metrics").status == 401


def test_an_unknown_user_costs_as_much_as_the_most_costly_known_one(
    guarded: Served, checks: Checks
) -> None:
    assert status(guarded, "nobody", "x") == status(guarded, "bob", "x") == 401
    assert [each[:7] for each in checks.hashes] == [b"$2b$06$"] * 2


def test_users_are_those_of_the_file_at_any_time(guarded: Served, file: Path) -> None:
    assert status(guarded, "alice", PASSWORD) == 200
    write_yaml(file, {"basic_auth_users": {"alice": hashed("new"), "carl": hashed("carl's")}})
    assert status(guarded, "alice", PASSWORD) == 401
    assert status(guarded, "alice", "new") == 200
    assert status(guarded, "carl", "carl's") == 200
    write_yaml(file, {"basic_auth_users": {"carl": hashed("carl's")}})
    assert status(guarded, "alice", "new") == 401
    file.unlink()
    assert status(guarded, "carl", "carl's") == 200
    assert guarded.get("/sd").status == 401


def test_a_password_that_is_not_checked_in_time_gets_503_and_then_what_it_deserves(
    guarded: Served, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "CHECK_TIMEOUT", 0.2)
    checks.go_on.clear()
    with capture_logs() as log:
        for password in (PASSWORD, "wrong", PASSWORD):
            assert status(guarded, "alice", password) == 503
    assert {line["event"] for line in log} == {"A password could not be checked in time"}
    assert guarded.get("/-/healthy").status == 200
    monkeypatch.setattr(auth, "CHECK_TIMEOUT", 60.0)
    checks.go_on.set()
    assert status(guarded, "alice", PASSWORD) == 200
    assert status(guarded, "alice", "wrong") == 401


def test_more_wrong_passwords_than_are_remembered_do_not_displace_a_right_one(
    guarded: Served, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MAX_CHECKS", 3)
    assert status(guarded, "alice", PASSWORD) == 200
    assert [status(guarded, "alice", f"wrong {n}") for n in range(9)] == [401] * 9
    assert len(checks.hashes) == 10
    assert status(guarded, "alice", PASSWORD) == 200
    assert len(checks.hashes) == 10


@pytest.mark.system
def test_right_passwords_are_accepted_while_40_clients_guess(
    tmp_path: Path, account: Mapping[str, Credentials]
) -> None:
    users = {"alice": hashed(PASSWORD, 10), "bob": hashed("bob's", 10)}
    file = write_yaml(tmp_path / "web.yml", {"basic_auth_users": users})
    with (
        exporter_here(accounts=account, web_config=file) as served,
        ThreadPoolExecutor(40) as pool,
    ):
        assert status(served, "alice", PASSWORD) == 200
        ended = threading.Event()

        def guess(number: int) -> set[int]:
            got = set()
            while not ended.is_set():
                got.add(status(served, "bob", f"{number} {time.monotonic()}"))
            return got

        guesses = [pool.submit(guess, number) for number in range(40)]
        time.sleep(1)
        times = []
        for user, password in (("alice", PASSWORD), ("bob", "bob's")) * 2:
            asked = time.monotonic()
            assert status(served, user, password) == 200
            times.append(time.monotonic() - asked)
        ended.set()
        assert set().union(*(each.result() for each in guesses)) <= {401, 503}
    cached, uncached, *cached_again = times
    assert max(cached, *cached_again) < 2
    assert uncached < auth.CHECK_TIMEOUT


def test_the_headers_go_with_every_response_and_may_change(guarded: Served, file: Path) -> None:
    with closing(guarded.connection()) as connection:
        for path in ("/-/ready", "/metrics", "/nothing"):
            headers = ask(connection, path).headers
            assert {name: headers[name] for name in HEADERS} == HEADERS
        users = {"basic_auth_users": {"alice": hashed("new")}}
        blank = {"headers": {"X-Frame-Options": "sameorigin", "Content-Security-Policy": ""}}
        write_yaml(file, {**users, "http_server_config": blank})
        headers = ask(connection).headers
    assert headers["X-Frame-Options"] == "sameorigin"
    assert not {*HEADERS} - {"X-Frame-Options"} & {*headers}
