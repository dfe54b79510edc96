import asyncio
import base64
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import bcrypt
import pytest
from support.exporter import Served, ask, exporter_here
from support.harness import write_yaml
from support.logs import capture_logs
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.web.toolkit import authentication

PASSWORD = "correct horse: battery staple"
SECURITY = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "X-XSS-Protection": "0",
}


def hashed(password: str | bytes, cost: int = 4) -> str:
    secret = password.encode() if isinstance(password, str) else password
    return bcrypt.hashpw(secret, bcrypt.gensalt(cost)).decode()


def basic(user: str, password: str) -> dict[str, str]:
    return authorization("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def authorization(value: str) -> dict[str, str]:
    return {"Authorization": value}


ALICE = basic("alice", PASSWORD)
HASH = hashed(PASSWORD)

Users = Callable[[dict[str, str]], None]


class Checks:
    """Records the calls of bcrypt, and holds some of them up if a test asks for it."""

    def __init__(self) -> None:
        self.passwords: list[str] = []
        self.hashes: list[str] = []
        self.held: set[str] = set()
        self.release = threading.Event()
        self._bcrypt = bcrypt.checkpw

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        self.passwords.append(password.decode())
        self.hashes.append(hashed_password.decode())
        if hashed_password.decode() in self.held:
            assert self.release.wait(30)
        return self._bcrypt(password, hashed_password)


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 0.5)
    monkeypatch.setattr(authentication, "_SECONDS_PER_GUESS", 0.01)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_CHEAP_THREADS", 1)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    monkeypatch.setattr(bcrypt, "checkpw", made)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_yaml(tmp_path / "web.yml", {"basic_auth_users": {"alice": HASH}})


@pytest.fixture
def users(file: Path) -> Users:
    """Replaces the users of the configuration."""

    def replace(users: dict[str, str]) -> None:
        write_yaml(file, {"basic_auth_users": users})

    return replace


@pytest.fixture
def served(file: Path, account: dict[str, Credentials], checks: Checks) -> Iterator[Served]:
    with ExitStack() as stack:
        yield stack.enter_context(exporter_here(accounts=account, web_config=file))
        checks.release.set()


@pytest.fixture(scope="module")
def shared(
    account: dict[str, Credentials], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Where the test changes nothing, one server does for all."""
    path = tmp_path_factory.mktemp("guard") / "web.yml"
    with exporter_here(
        accounts=account, web_config=write_yaml(path, {"basic_auth_users": {"alice": HASH}})
    ) as served:
        yield served


def status(served: Served, headers: dict[str, str], path: str = "/sd") -> int:
    return served.get(path, headers=headers).status


def test_the_right_password_opens_everything(shared: Served) -> None:
    for path in ("/", "/metrics", "/metrics?account=demo", "/sd", "/-/healthy", "/-/ready"):
        assert status(shared, ALICE, path) == 200
    assert status(shared, ALICE, "/nothing") == 404


def test_the_scheme_may_be_written_in_any_case(shared: Served) -> None:
    assert status(shared, authorization(ALICE["Authorization"].replace("Basic", "bASIC"))) == 200


@pytest.mark.parametrize(
    "headers",
    [
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("alice", PASSWORD + "\0"),
        basic("alice", PASSWORD.upper()),
        basic("Alice", PASSWORD),
        basic("bob", PASSWORD),
        basic("", PASSWORD),
        basic("alice", HASH),
    ],
)
def test_a_wrong_password_or_user_is_refused(shared: Served, headers: dict[str, str]) -> None:
    refused = shared.get("/metrics", headers=headers)
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"] == "Basic"
    assert refused.body == "Unauthorized\n"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        authorization(""),
        authorization("Basic"),
        authorization("Basic "),
        authorization("Basic !!!!"),
        authorization("Basic YWxpY2U="),  # alice, and no colon
        authorization("Basic YWxpY2U"),  # not padded
        authorization("Basic !" + ALICE["Authorization"].partition(" ")[2]),
        authorization("Basic \xff\xfe"),
        authorization("Bearer " + ALICE["Authorization"].partition(" ")[2]),
        authorization(f"Basic alice:{PASSWORD}"),
        authorization("Basic " + "A" * 8000),
    ],
)
def test_a_header_without_a_password_is_refused_at_no_cost(
    shared: Served, checks: Checks, headers: dict[str, str]
) -> None:
    assert status(shared, headers) == 401
    assert not checks.hashes


@pytest.mark.parametrize(
    "path", ["/-/healthy", "/-/ready", "/-/healthy?x=1", "/%2d/ready", "http://localhost/-/ready"]
)
def test_health_and_readiness_need_no_password(shared: Served, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert shared.get(path, method=method).status == 200
    assert shared.get(path).body in {"Healthy\n", "Ready\n"}
    assert shared.get(path, method="POST").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/metrics?account=demo",
        "/metrics?/-/healthy",
        "/sd",
        "/nothing",
        "//-/healthy",
        "/-//healthy",
        "/-/healthy/",
        "/-/healthy//",
        "/-/healthy/../metrics",
        "/-/healthy/../../metrics",
        "/-/healthy/..%2f..%2fmetrics",
        "/-/healthy/%2e%2e/%2e%2e/metrics",
        "/-/healthy%2f",
        "/-/healthy%00",
        "/-/healthy%20",
        "/-/healthy%3f",
        "/-/healthy;/metrics",
        "/-/healthy\\..\\..\\metrics",
        "/./-/healthy",
        "/metrics/../-/healthy",
        "/-/Healthy",
        "/-%252fhealthy",
        "/-/ready.",
        "/-/",
        "*",
        "http://localhost/metrics",
        "http://localhost/-/healthy/../../metrics",
        "http://localhost//-/healthy",
        "ftp://localhost/-/healthy",
    ],
)
def test_nothing_else_is_open(shared: Served, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        assert shared.get(path, method=method).status == 401


def test_a_path_in_a_header_opens_nothing(shared: Served) -> None:
    told = {
        "X-Original-URL": "/-/healthy",
        "X-Rewrite-URL": "/-/healthy",
        "X-Forwarded-Prefix": "/",
    }
    assert status(shared, told, "/metrics") == 401


@pytest.mark.parametrize(
    ("password", "given"),
    [
        ("Grüße, 世界", "Grüße, 世界"),
        ("", ""),
        ("p:a:s:s", "p:a:s:s"),
        ("x" * 72, "x" * 72),
        ("x" * 72, "x" * 100),  # as in Go: bcrypt reads no more than 72 bytes
    ],
    ids=["unicode", "empty", "colons", "as long as bcrypt reads", "longer"],
)
def test_unusual_passwords_work(served: Served, users: Users, password: str, given: str) -> None:
    users({"Zoë": hashed(password)})
    assert status(served, basic("Zoë", given)) == 200


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_hashes_of_all_bcrypts_work(served: Served, users: Users, kind: str) -> None:
    users({"alice": HASH.replace("2b", kind, 1)})
    assert status(served, ALICE) == 200
    assert status(served, basic("alice", "wrong")) == 401


def test_a_changed_password_is_taken_up_and_the_old_one_is_forgotten(
    served: Served, users: Users
) -> None:
    assert status(served, ALICE) == 200
    users({"alice": hashed("new")})
    assert status(served, ALICE) == 401
    assert status(served, basic("alice", "new")) == 200


def test_a_user_who_is_removed_is_not_let_in_by_what_is_remembered(
    served: Served, users: Users
) -> None:
    assert status(served, ALICE) == 200
    users({"bob": HASH})
    assert status(served, ALICE) == 401
    assert status(served, basic("bob", PASSWORD)) == 200


def test_a_user_who_is_added_is_let_in(served: Served, users: Users) -> None:
    assert status(served, basic("bob", "his")) == 401
    users({"alice": HASH, "bob": hashed("his")})
    assert status(served, basic("bob", "his")) == 200
    assert status(served, ALICE) == 200


@pytest.mark.parametrize(
    "content",
    ["", "basic_auth_users: {}", "basic_auth_users:\n", "basic_auth_users:\n  alice: $2y$10$"],
)
def test_a_file_cut_short_does_not_disable_authentication(
    served: Served, file: Path, content: str
) -> None:
    file.write_text(content)
    assert status(served, {}) == 401
    assert status(served, ALICE) == 200


def test_a_missing_file_does_not_disable_authentication(served: Served, file: Path) -> None:
    file.unlink()
    assert status(served, {}) == 401
    assert status(served, ALICE) == 200


def test_a_right_password_costs_bcrypt_once(served: Served, checks: Checks) -> None:
    for _ in range(3):
        assert status(served, ALICE) == 200
    assert len(checks.hashes) == 1


@pytest.mark.parametrize("user", ["alice", "nobody"])
def test_a_wrong_password_costs_bcrypt_once(
    served: Served, checks: Checks, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 2.0)
    for _ in range(3):
        assert status(served, basic(user, "wrong")) == 401
    assert len(checks.hashes) == 1


def test_wrong_passwords_do_not_displace_a_right_one(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_MAX_REMEMBERED", 2)
    passwords = authentication.Passwords()

    async def admit(password: str) -> bool | None:
        return await passwords.admit("alice", password.encode(), {"alice": HASH}, "192.0.2.1")

    async def guess() -> None:
        assert await admit(PASSWORD)
        for number in range(4):
            assert not await admit(f"guess {number}")
        checks.hashes.clear()
        assert await admit(PASSWORD)
        assert not await admit("guess 3")
        assert not checks.hashes
        assert not await admit("guess 0")
        assert len(checks.hashes) == 1

    asyncio.run(guess())


@pytest.mark.usefixtures("one_thread")
def test_a_limited_number_of_passwords_waits_whoever_guesses(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MAX_GUESSES", 2)
    passwords = authentication.Passwords()
    checks.held = {HASH}

    async def guess() -> None:
        addresses = [f"192.0.2.{number}" for number in range(8)]
        admits = (
            passwords.admit("alice", address.encode(), {"alice": HASH}, address)
            for address in addresses
        )
        waiting = asyncio.gather(*admits)
        await asyncio.to_thread(until, lambda: checks.passwords, what="the first check")
        waiting_checks = len(passwords._pending[""])
        checks.release.set()
        assert await waiting == [False] * 8
        assert waiting_checks <= 2

    asyncio.run(guess())
    assert len(checks.passwords) <= 3


def test_an_unknown_user_costs_a_hash_of_a_fixed_cost(
    served: Served, users: Users, checks: Checks
) -> None:
    users({"alice": HASH, "carol": hashed("hers", cost=11)})
    assert status(served, basic("nobody", "hers")) == 401
    [checked] = checks.hashes
    assert checked.startswith("$2b$10$")


def test_a_refusal_does_not_wait_for_bcrypt(served: Served, checks: Checks) -> None:
    checks.held = {HASH}
    assert status(served, basic("alice", "wrong")) == 401
    assert status(served, ALICE) == 401  # held longer than a refusal takes
    checks.release.set()
    until(lambda: status(served, ALICE) == 200, what="the next time")


@pytest.mark.parametrize("user", ["alice", "carol", "nobody"])
def test_the_time_of_a_refusal_does_not_depend_on_the_user(
    served: Served, users: Users, user: str, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 1.5)
    carols = hashed("hers").replace("$04$", "$13$")
    users({"alice": HASH, "carol": carols})
    checks.held = {carols}
    began = time.monotonic()
    assert status(served, basic(user, "wrong")) == 401
    assert 1.5 <= time.monotonic() - began < 10  # the rest is for busy machines
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 100.0)
    assert status(served, basic(user, "wrong")) == 401  # at once


def test_a_refusal_takes_longer_the_more_a_client_guesses(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_SECONDS_PER_GUESS", 0.2)
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        guesses = [pool.submit(status, served, basic("alice", f"{n}")) for n in range(20)]
        assert {guess.result() for guess in guesses} == {401}
    assert time.monotonic() - began >= 20 * 0.2
    assert status(served, basic("alice", "afterwards")) == 401


def test_scrapes_that_arrive_together_do_not_cost_bcrypt_each(
    served: Served, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 20.0)
    queued = []
    queue = authentication.Passwords._queue

    def counted(passwords: authentication.Passwords, check: authentication._Check) -> bool:
        queued.append(check)
        return queue(passwords, check)

    monkeypatch.setattr(authentication.Passwords, "_queue", counted)
    checks.held.add(HASH)
    with ThreadPoolExecutor(48) as pool:
        statuses = pool.map(lambda _: status(served, ALICE), range(48))
        until(lambda: len(queued) == 48, what="48 checks that wait")
        checks.release.set()
        assert set(statuses) == {200}
    assert len(checks.hashes) <= authentication._CHEAP_THREADS


@pytest.mark.parametrize("user", ["alice", "nobody"])
def test_guesses_of_a_client_beyond_a_limit_are_rejected_whoever_is_guessed(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MAX_GUESSES", 16)
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 3.0)
    passwords = authentication.Passwords()

    def admit(user: str, password: str, address: str) -> Coroutine[None, None, bool | None]:
        return passwords.admit(user, password.encode(), {"alice": HASH}, address)

    async def guess() -> None:
        began = time.monotonic()
        guesses = [
            asyncio.create_task(admit(user, f"guess {number}", "192.0.2.1")) for number in range(24)
        ]
        await asyncio.wait(guesses, timeout=0.1)
        assert [each.done() for each in guesses] == [False] * 16 + [True] * 8
        assert await admit("alice", PASSWORD, "192.0.2.2")
        assert await asyncio.gather(*guesses) == [False] * 16 + [None] * 8
        assert time.monotonic() - began >= 3
        assert await admit(user, "one more", "192.0.2.1") is False

    asyncio.run(guess())


def test_those_who_are_known_are_admitted_beyond_the_limit_of_guesses(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status(served, ALICE) == 200
    monkeypatch.setattr(authentication, "MAX_GUESSES", 0)
    assert status(served, basic("alice", "wrong")) == 503
    assert status(served, ALICE, "/metrics") == 200


@pytest.mark.usefixtures("one_thread")
def test_the_latest_password_is_checked_first(
    served: Served, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 8.0)
    checks.held = {HASH}
    with ThreadPoolExecutor(5) as pool:
        for number in range(4):
            pool.submit(status, served, basic("alice", f"guess {number}"))
            until(lambda: checks.passwords, what="the first check")
        time.sleep(0.5)  # until all guesses wait
        right = pool.submit(status, served, ALICE)
        time.sleep(0.5)
        assert checks.passwords == ["guess 0"]
        monkeypatch.setattr(authentication, "MIN_REFUSAL", 0.1)
        checks.release.set()
        assert right.result() == 200
    assert checks.passwords[1] == PASSWORD


@pytest.mark.usefixtures("one_thread")
def test_passwords_that_were_refused_unchecked_are_not_checked_later(
    served: Served, checks: Checks
) -> None:
    checks.held = {HASH}
    with ThreadPoolExecutor(5) as pool:
        guesses = [pool.submit(status, served, basic("alice", f"{n}")) for n in range(5)]
        assert {guess.result() for guess in guesses} == {401}
    checks.release.set()
    assert status(served, ALICE) == 200
    assert len(checks.passwords) == 2


def test_a_costly_hash_of_another_user_keeps_no_one_waiting(
    served: Served, users: Users, checks: Checks
) -> None:
    costly = hashed("hers").replace("$04$", "$13$")
    users({"alice": HASH, "carol": costly})
    checks.held = {costly}
    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(status, served, basic("carol", f"{n}")) for n in range(8)]
        until(lambda: checks.passwords, what="a check")
        assert status(served, ALICE) == 200
        assert {guess.result() for guess in guesses} == {401}


@pytest.mark.parametrize(("cost", "at_once"), [(12, authentication._CHEAP_THREADS), (13, 1)])
def test_hashes_up_to_cost_12_are_checked_several_at_a_time_and_a_costlier_one_alone(
    cost: int,
    at_once: int,
    *,
    served: Served,
    users: Users,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 3.0)
    monkeypatch.setattr(checks, "_bcrypt", lambda *_: False)  # those costs would outlast the test
    hashed_at_cost = HASH.replace("$04$", f"${cost}$")
    users({"alice": hashed_at_cost})
    checks.held = {hashed_at_cost}
    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(status, served, basic("alice", f"{n}")) for n in range(8)]
        until(lambda: len(checks.passwords) >= at_once, what="the checks")
        assert {guess.result() for guess in guesses} == {401}
    assert len(checks.passwords) == at_once


def test_a_password_gets_503_while_no_thread_can_be_started(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, capture_logs() as log:
        patch.setattr(threading.Thread, "start", fail)
        assert status(served, ALICE) == 503
    assert [(line["event"], line["client"]) for line in log] == [
        ("Too many passwords are being checked", "127.0.0.1")
    ]
    until(lambda: status(served, ALICE) == 200, what="a thread")


def test_right_users_get_in_while_40_clients_guess(
    served: Served, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MIN_REFUSAL", 2.0)
    monkeypatch.setattr(authentication, "_SECONDS_PER_GUESS", 1.0)
    right = {f"user {number}": f"password {number}" for number in range(6)}
    users(
        {user: hashed(password, cost=10) for user, password in right.items()}
        | {"carol": hashed("hers", cost=4).replace("$04$", "$18$")}
    )
    ended = threading.Event()

    def guess(client: int) -> set[int]:
        statuses: set[int] = set()
        for number in itertools.count():
            if ended.is_set():
                return statuses
            user = ["carol", "nobody", *right][(client + number) % 8]
            statuses.add(status(served, basic(user, f"guess {client} {number}")))
        raise AssertionError

    with ThreadPoolExecutor(40) as pool:
        guesses = [pool.submit(guess, client) for client in range(40)]
        try:
            for user, password in right.items():
                time.sleep(1)
                began = time.monotonic()
                assert status(served, basic(user, password)) == 200
                assert (
                    time.monotonic() - began < 15
                )  # promised are 2; the rest is for busy machines
        finally:
            ended.set()
        assert set().union(*(each.result() for each in guesses)) == {401}


def test_the_headers_go_with_every_answer(served: Served, file: Path, checks: Checks) -> None:
    write_yaml(
        file, {"basic_auth_users": {"alice": HASH}, "http_server_config": {"headers": SECURITY}}
    )
    answers = {
        200: served.get("/metrics", headers=ALICE),
        401: served.get("/metrics"),
        404: served.get("/metrics?account=nobody", headers=ALICE),
        405: served.get("/-/healthy", method="POST"),
    }
    for expected, answer in answers.items():
        assert answer.status == expected
        for name, value in SECURITY.items():
            assert answer.headers.get_all(name) == [value]


def test_headers_may_change_while_a_connection_is_open(served: Served, file: Path) -> None:
    users = {"alice": HASH}
    headers = {"headers": {"X-Frame-Options": "sameorigin"}}
    with closing(served.connection()) as connection:
        assert ask(connection).headers["X-Frame-Options"] is None
        write_yaml(file, {"basic_auth_users": users, "http_server_config": headers})
        assert ask(connection).headers["X-Frame-Options"] == "sameorigin"
