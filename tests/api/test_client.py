"""The client as a small library, on real connections: what it sends, keeps and tells."""

import gzip
import socketserver
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from support.fake_api import KEY, FakeAPI

from nextmv_exporter import __version__
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import (
    DeadlineExceededError,
    InvalidResponseError,
    NextmvError,
    Reason,
    ResponseTooLargeError,
    StatusError,
)


@pytest.fixture
def client(api: FakeAPI) -> Iterator[Client]:
    client = Client(api_key=KEY, url=api.url)
    yield client
    client.close()


def test_making_a_client_sends_nothing(api: FakeAPI, client: Client) -> None:
    assert client.timeout == 10
    assert api.requests == []


def test_it_asks_for_json_with_the_key_and_says_who_it_is(api: FakeAPI, client: Client) -> None:
    client.get("v1/account/queue")
    [request] = api.requests
    assert request.path == "/v1/account/queue"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Accept-Encoding"] == "gzip"
    assert request.headers["Connection"] == "keep-alive"
    assert request.headers["User-Agent"] == f"nextmv-exporter/{__version__}"


def test_parameters_go_into_the_query(api: FakeAPI, client: Client) -> None:
    client.get("v1/applications", params={"pagereturn": "true", "pagetoken": "a/b&c"})
    assert api.requests[0].path == "/v1/applications?pagereturn=true&pagetoken=a%2Fb%26c"


def test_the_path_of_the_endpoint_goes_before_that_of_the_api(api: FakeAPI) -> None:
    Client(api_key=KEY, url=f"{api.url}/nextmv/").get("v1/account/queue")
    assert api.requests[0].path == "/nextmv/v1/account/queue"


def test_the_body_is_given_as_it_came(api: FakeAPI, client: Client) -> None:
    api.answers(200, b'{"runs": [ ]}')
    assert client.get("v1/account/queue") == b'{"runs": [ ]}'


def test_a_compressed_body_is_decompressed(api: FakeAPI, client: Client) -> None:
    api.answers(200, gzip.compress(b'{"runs": []}'), Content_Encoding="gzip")
    assert client.get("v1/account/queue") == b'{"runs": []}'


def test_a_body_that_only_says_it_is_compressed_is_an_invalid_response(
    api: FakeAPI, client: Client
) -> None:
    api.answers(200, b"plain", Content_Encoding="gzip")
    with pytest.raises(
        InvalidResponseError, match=r"^v1/account/queue: the body can't be decompressed$"
    ):
        client.get("v1/account/queue")


def test_a_compressed_error_is_shown_decompressed(api: FakeAPI, client: Client) -> None:
    api.answers(400, gzip.compress(b"no such account"), Content_Encoding="gzip")
    with pytest.raises(StatusError, match=r": no such account$"):
        client.get("v1/account/queue")


def test_a_large_response_that_is_not_compressed_is_accepted(api: FakeAPI, client: Client) -> None:
    api.answers(200, bytes(6_000_000))
    assert len(client.get("v1/account/queue")) == 6_000_000


def test_a_response_that_grows_too_much_is_refused(api: FakeAPI, client: Client) -> None:
    api.answers(200, gzip.compress(bytes(6_000_000)), Content_Encoding="gzip")
    with pytest.raises(ResponseTooLargeError) as caught:
        client.get("v1/account/queue")
    assert str(caught.value) == (
        "v1/account/queue: the response grew to more than 500 times its size when it was "
        "decompressed"
    )


def test_the_limit_counts_decompressed_bytes(api: FakeAPI) -> None:
    bomb = gzip.compress(bytes(1_000_000))
    assert len(bomb) < 2_000
    api.answers(200, bomb, Content_Encoding="gzip")
    client = Client(credentials=lambda: Credentials(KEY, api.url), max_response_bytes=500_000)
    with pytest.raises(
        ResponseTooLargeError, match=r"^v1/account/queue: the response is larger than 500000 bytes$"
    ):
        client.get("v1/account/queue")
    api.answers(200, bytes(500_000))
    assert len(client.get("v1/account/queue")) == 500_000


def test_a_redirect_is_not_followed_and_the_key_stays_here(api: FakeAPI, client: Client) -> None:
    with FakeAPI() as elsewhere:
        api.answers(302, Location=f"{elsewhere.url}/v1/account/queue?key=secret")
        with pytest.raises(StatusError) as caught:
            client.get("v1/account/queue")
        assert elsewhere.requests == []
    assert caught.value.reason is Reason.REDIRECT
    assert "a redirect to host 127.0.0.1, not followed" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_in_netrc_does_not_take_the_place_of_the_key(
    api: FakeAPI, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client.get("v1/account/queue")
    assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_no_cookie_is_kept(api: FakeAPI, client: Client) -> None:
    api.answers(200, b"{}", Set_Cookie="session=1; Path=/")
    client.get("v1/account/queue")
    client.get("v1/account/queue")
    assert "Cookie" not in api.requests[1].headers


def test_requests_share_a_connection(api: FakeAPI, client: Client) -> None:
    connections = _count_connections(api)
    for _ in range(3):
        client.get("v1/account/queue")
    assert len(api.requests) == 3
    assert len(connections) == 1


def test_closing_ends_the_connections_and_the_client_can_still_be_used(
    api: FakeAPI, client: Client
) -> None:
    connections = _count_connections(api)
    client.get("v1/account/queue")
    client.close()
    client.get("v1/account/queue")
    assert len(connections) == 2


def test_credentials_are_asked_for_anew_with_each_request(api: FakeAPI) -> None:
    keys = iter(["first", "second"])
    client = Client(credentials=lambda: Credentials(next(keys), api.url))
    client.get("v1/account/queue")
    client.get("v1/account/queue")
    assert [r.headers["Authorization"] for r in api.requests] == ["Bearer first", "Bearer second"]


def test_each_request_is_observed_with_its_endpoint_and_its_status(api: FakeAPI) -> None:
    seen: list[tuple[str, str]] = []

    def observe(endpoint: str, code: str, seconds: float) -> None:
        assert 0 < seconds < 10
        seen.append((endpoint, code))

    good = Client(credentials=lambda: Credentials(KEY, api.url))
    path = "v1/applications/x/runs"
    good.get(path, endpoint="v1/applications/{id}/runs", on_request=observe)
    api.answers(404)
    with pytest.raises(StatusError):
        good.get("v1/account/queue", on_request=observe)
    nowhere = Client(credentials=lambda: Credentials(KEY, "http://127.0.0.1:1"))
    with pytest.raises(NextmvError):
        nowhere.get("v1/account/queue", on_request=observe)
    assert seen == [
        ("v1/applications/{id}/runs", "200"),
        ("v1/account/queue", "404"),
        ("v1/account/queue", "error"),
    ]


def test_without_time_left_nothing_is_sent(api: FakeAPI, client: Client) -> None:
    with pytest.raises(DeadlineExceededError, match="timed out before"):
        client.get("v1/account/queue", deadline=Deadline(0))
    assert api.requests == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "auth"),
        (403, "auth"),
        (404, "client_error"),
        (410, "client_error"),
        (418, "client_error"),
        (429, "rate_limited"),
        (500, "server_error"),
        (599, "server_error"),
        (300, "redirect"),
        (304, "redirect"),
        (308, "redirect"),
    ],
)
def test_a_status_that_is_no_success_is_an_http_error_with_its_reason(
    api: FakeAPI, client: Client, status: int, reason: str
) -> None:
    api.answers(status)
    with pytest.raises(requests.HTTPError) as caught:
        client.get("v1/account/queue")
    assert isinstance(caught.value, StatusError)
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert caught.value.response is not None
    assert caught.value.response.status_code == status
    assert str(status) in str(caught.value)


def test_the_message_quotes_a_little_of_the_body_on_one_line_and_never_the_key(
    api: FakeAPI, client: Client
) -> None:
    api.answers(500, f"broken\r\n\tfor {KEY}: ".encode() + b"x" * 10_000)
    with pytest.raises(StatusError) as caught:
        client.get("v1/account/queue")
    message = str(caught.value)
    assert message.startswith("v1/account/queue: the API responded 500")
    assert "broken for " in message
    assert len(message) < 300
    assert message.isprintable()
    assert KEY not in message


def test_the_profile_is_looked_up_in_the_own_configuration(
    api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".nextmv").mkdir()
    (tmp_path / ".nextmv" / "config.yaml").write_text(
        f"staging:\n  apikey: staging-key\n  endpoint: {api.url}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    Client(profile="staging").get("v1/account/queue")
    assert api.requests[0].headers["Authorization"] == "Bearer staging-key"


def _count_connections(api: FakeAPI) -> list[object]:
    """Notes each connection that the API gets from now on."""
    connections: list[object] = []
    server = api._server
    process = server.process_request

    def note(request: object, address: object) -> None:
        connections.append(address)
        process(request, address)  # type: ignore[arg-type]

    assert isinstance(server, socketserver.BaseServer)
    server.process_request = note  # type: ignore[method-assign, assignment]
    return connections
