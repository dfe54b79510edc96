"""The limits that docs/reliability.md and docs/scaling.md promise are those of the code."""

from pathlib import Path

import pytest

from nextmv_exporter import logs
from nextmv_exporter.nextmv import client
from nextmv_exporter.scrape import flow, runs, sources, summary, target, threads
from nextmv_exporter.web import listener, protocol, scrapes, server
from nextmv_exporter.web.toolkit import authentication

MIB = 1024 * 1024
DOCS = Path(__file__).parents[1] / "docs"
PROMISES = (
    f"has not sent a whole request after {protocol.REQUEST_TIMEOUT:.0f} s",
    f"has not read the response after {protocol.WRITE_TIMEOUT:.0f} s",
    f"At most {listener.MAX_CONNECTIONS:,} connections of clients",
    f"At most {scrapes.MAX_SCRAPES} scrapes wait at once.",
    f"wait in a queue of {logs.MAX_WAITING_LINES:,}",
    f"More than {runs.MAX_PIECE // MIB} MiB without the end of a run",
    f"more than {runs._MAX_NESTING:,} lists and objects in a piece",
    f"one for each {runs.BYTES_PER_RUN} bytes ({runs.FEW_RUNS:,} are always accepted)",
    f"one and a half times the limit (at least {summary._FEW_GROUPS_BYTES // MIB} MiB",
    f"over {client._BOMB_RATIO} times its size when decompressed",
    f"is rejected after {client._BOMB_BYTES // MIB} MiB",
    f"Heads over {2 * protocol.MAX_HEAD_BYTES // 1024} KiB get 400.",
    f"accepting is tried again after {listener.RETRY_SECONDS:.0f} s",
)
WORDS = {
    0.25: "a quarter of a second",
    4: "four",
    8: "eight",
    60: "once a minute",
    180: "every three minutes",
    300: "five minutes",
    3600: "once an hour",
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_limit_is_the_documented_one(promise: str) -> None:
    assert promise in (DOCS / "reliability.md").read_text()


def test_limits_that_are_documented_in_words_are_those() -> None:
    reliability, scaling, of_metrics = (
        (DOCS / f"{name}.md").read_text() for name in ("reliability", "scaling", "metrics")
    )
    readme = " ".join((DOCS.parent / "README.md").read_text().split())
    assert f"One longer than {summary.MAX_LABEL_LENGTH} characters is truncated." in readme
    assert f"that arrive within {WORDS[scrapes.SAME_MOMENT]}" in reliability
    assert f"when its reason changes, then {WORDS[target.LOG_INTERVAL]}" in reliability
    assert f"that clients send is logged more than {WORDS[logs.REPEAT_SECONDS]}" in reliability
    assert f"snapshots are more than {WORDS[flow.MAX_GAP]} apart" in of_metrics
    assert f"{WORDS[target.MAX_FETCHES]} fetches of an account hang there at most" in reliability
    assert f"holds across scrapes, for {WORDS[int(target.MAX_BACKOFF)]} at most" in reliability
    assert f"- {WORDS[client.MAX_REQUESTS]} in parallel at most" in scaling
    assert f"list of applications, {WORDS[int(sources.APPLICATIONS_TTL)]}" in scaling
    assert f"retries the endpoint {WORDS[int(sources.RETRY_QUEUE_AFTER)]}" in scaling


def test_the_most_applications_are_those_that_are_documented() -> None:
    scaling = " ".join((DOCS / "scaling.md").read_text().split())
    assert f"an account with more than {sources.MAX_APPLICATIONS:,} applications" in scaling


def test_all_loggers_are_below_that_of_the_package() -> None:
    assert logs.CLIENTS == "nextmv_exporter.clients"


def test_the_pace_of_guessing_is_the_documented_one() -> None:
    text = " ".join((DOCS / "web-configuration.md").read_text().split())
    least, most = authentication.MIN_REFUSAL, authentication.MAX_REFUSAL
    assert f"A wrong password is rejected after {least:.0f} s, later" in text
    assert f"(a second for each of them, {most:.0f} s at most)" in text
    assert authentication._SECONDS_PER_GUESS == 1
    assert f"With {authentication.MAX_GUESSES} pending, further ones" in text


def test_draining_ends_within_the_five_seconds_that_are_documented() -> None:
    assert "SIGTERM ends the program within 5 s" in (DOCS / "reliability.md").read_text()
    assert server.DRAIN_TIMEOUT + server.CLOSE_TIMEOUT == 4


def test_idle_threads_outlive_the_usual_scrape_intervals() -> None:
    assert threads.IDLE_SECONDS == 120
