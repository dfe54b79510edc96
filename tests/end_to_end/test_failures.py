"""Every way in which the Nextmv API can fail at once, as Prometheus and the log see it."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
import yaml
from faults.fault_server import FaultServer, answer, answers, drips_the_body, queue
from support.exporter import Process, exporter_process
from support.fake_api import KEY, RUN
from support.metrics import parse, value

from nextmv_exporter.nextmv.errors import Reason

RESPONSES = {
    "auth": answer(f'{{"error": "unknown key {KEY}"}}'.encode(), "401 No"),
    "rate_limited": answer(b"", "429 Slow"),
    "client_error": answer(b"", "400 Bad"),
    "server_error": answer(b"oops\nand more", "500 Oops"),
    "redirect": answer(b"", "302 Found", Location="https://login.example/"),
    "response_too_large": answer(b" " * (2 << 20)),
    "invalid_response": answer(b'{"runs": [{"id": "ru'),
    "invalid_response-null": answer(b'{"runs": null}'),
    "invalid_response-page": answer(b"<html>Log in</html>", Content_Type="text/html"),
}


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Process]:
    """One that watches an account for each failure, named for its reason, and two that work."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with ExitStack() as stack:
        servers = {name: FaultServer(answers(said)) for name, said in RESPONSES.items()}
        servers["tls"] = FaultServer(answers(queue()), tls)
        servers["timeout"] = FaultServer(drips_the_body)
        servers["good"] = FaultServer(answers(queue(RUN)))
        servers["empty"] = FaultServer(answers(queue()))
        urls = {name: stack.enter_context(server).url for name, server in servers.items()}
        urls |= {"connection": "http://127.0.0.1:9", "connection-name": "http://nowhere.invalid"}
        config = tmp_path / "config.yaml"
        config.write_text(
            yaml.safe_dump({name: {"apikey": KEY, "endpoint": url} for name, url in urls.items()})
        )
        flags = ("--nextmv.profile=*", "--nextmv.timeout=3s", "--nextmv.max-response-bytes=1MiB")
        environment = {"NEXTMV_CONFIG_FILE": str(config), "NEXTMV_API_KEY": ""}
        yield stack.enter_context(
            exporter_process(*flags, environment=environment | {"NEXTMV_ENDPOINT": ""}, endpoint="")
        )


def test_each_failure_shows_its_reason_and_no_queue_and_affects_no_other_account(
    exporter: Process,
) -> None:
    text = exporter.scrape()
    exporter.scrape()
    samples = list(parse(text))
    accounts = {dict(labels)["account"] for name, labels in samples if name == "nextmv_up"}
    assert {account.partition("-")[0] for account in accounts} == {*Reason, "good", "empty"}
    for account in accounts:
        reason = account.partition("-")[0]
        works = reason not in list(Reason)
        assert value(text, "nextmv_up", account=account) == works
        for each in Reason:
            count = value(text, "nextmv_scrape_errors_total", account=account, reason=each)
            assert count == (each == reason), (account, each)
        shown = [
            name
            for name, labels in samples
            if ("account", account) in labels and name.startswith("nextmv_account_queue_")
            if not name.endswith("_total") and "start_wait" not in name
        ]
        assert bool(shown) == works
        warned = [
            line
            for line in exporter.log.splitlines()
            if "level=warn" in line and f"account={account} " in line
        ]
        assert len(warned) == (not works), "logged once, though it was scraped twice"
        assert all(f"reason={reason} " in line for line in warned)
    assert value(text, "nextmv_account_queue_runs", account="empty", status_v2="queued") == 0
    assert value(text, "nextmv_account_queue_runs", account="good", status_v2="queued") == 1
    assert KEY not in text + exporter.log + exporter.get("/").body
