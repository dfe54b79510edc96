import base64
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import bcrypt
import pytest
from support.exporter import Served, ask, exporter_here
from support.harness import write_yaml
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.web.toolkit.authentication import MAX_CHECKS

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
    """Watches the calls of bcrypt, which go through; may hold them up.

    They go to bcrypt itself: only how often and with what it is called is of interest.
    """

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.most_at_once = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._under_way = 0
        self._lock = threading.Lock()
        self._bcrypt = bcrypt.checkpw

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        with self._lock:
            self.hashes.append(hashed_password.decode())
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            assert self.go_on.wait(30)
            return self._bcrypt(password, hashed_password)
        finally:
            with self._lock:
                self._under_way -= 1


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
        checks.go_on.set()


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
def test_a_wrong_password_or_user_is_turned_away(shared: Served, headers: dict[str, str]) -> None:
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
        authorization("Basic \xff\xfe"),
        authorization("Bearer " + ALICE["Authorization"].partition(" ")[2]),
        authorization(f"Basic alice:{PASSWORD}"),
        authorization("Basic " + "A" * 8000),
    ],
)
def test_a_header_that_brings_no_password_is_turned_away_at_no_cost(
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


def test_a_path_told_in_a_header_opens_nothing(shared: Served) -> None:
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
def test_a_file_cut_short_opens_nothing(served: Served, file: Path, content: str) -> None:
    file.write_text(content)
    assert status(served, {}) == 401
    assert status(served, ALICE) == 200


def test_a_file_that_vanishes_opens_nothing(served: Served, file: Path) -> None:
    file.unlink()
    assert status(served, {}) == 401
    assert status(served, ALICE) == 200


def test_a_right_password_costs_bcrypt_once(served: Served, checks: Checks) -> None:
    for _ in range(3):
        assert status(served, ALICE) == 200
    assert len(checks.hashes) == 1


def test_a_wrong_password_costs_bcrypt_each_time(served: Served, checks: Checks) -> None:
    for _ in range(3):
        assert status(served, basic("alice", "wrong")) == 401
    assert len(checks.hashes) == 3


def test_an_unknown_user_costs_as_much_as_the_costliest_known_one(
    served: Served, users: Users, checks: Checks
) -> None:
    costly = hashed("hers", cost=6)
    users({"alice": HASH, "carol": costly, "bob": hashed("his", cost=5)})
    for _ in range(2):
        assert status(served, basic("nobody", "hers")) == 401
    assert checks.hashes == [costly, costly]


def test_scrapes_that_arrive_together_share_one_check(served: Served, checks: Checks) -> None:
    with ThreadPoolExecutor(3 * MAX_CHECKS) as pool:
        statuses = pool.map(lambda _: status(served, ALICE), range(3 * MAX_CHECKS))
        assert set(statuses) == {200}
    assert len(checks.hashes) < 3  # one, and another at most where a request came very late


def test_guesses_are_checked_one_at_a_time_and_sent_away_beyond_a_limit(
    served: Served, checks: Checks
) -> None:
    checks.go_on.clear()
    guesses = 3 * MAX_CHECKS
    statuses: list[int] = []

    def guess(number: int) -> None:
        statuses.append(status(served, basic("alice", f"guess {number}")))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(guesses)]
    for thread in threads:
        thread.start()
    until(lambda: len(statuses) == guesses - MAX_CHECKS, seconds=30, what="the rest is sent away")
    assert set(statuses) == {503}
    checks.go_on.set()
    for thread in threads:
        thread.join()
    assert statuses.count(401) == MAX_CHECKS
    assert checks.most_at_once == 1


def test_while_passwords_are_guessed_those_who_are_known_are_served(
    served: Served, checks: Checks
) -> None:
    assert status(served, ALICE) == 200
    checks.go_on.clear()
    with ThreadPoolExecutor(MAX_CHECKS + 1) as pool:
        guesses = [
            pool.submit(status, served, basic("alice", f"guess {number}"))
            for number in range(MAX_CHECKS + 1)
        ]
        until(lambda: any(guess.done() for guess in guesses), seconds=30, what="one is sent away")
        assert status(served, ALICE, "/metrics") == 200
        assert status(served, {}, "/metrics") == 401
        assert status(served, {}, "/-/healthy") == 200
        checks.go_on.set()
    assert sorted(guess.result() for guess in guesses) == [401] * MAX_CHECKS + [503]


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
