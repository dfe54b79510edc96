"""The text of the landing page; how it looks is for the browser's tests to say."""

from dataclasses import dataclass
from typing import Any

import pytest
from support.outcomes import NOW, failure, success

from nextmv_exporter import __version__
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.outcome import Failure, Outcome
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.web.landing import render


@dataclass
class Scraped:
    """All that the page asks of a target."""

    last: Outcome | None


def page(**accounts: Outcome | None) -> str:
    targets: Any = {name: Scraped(last) for name, last in accounts.items()}
    return render("/nextmv/metrics", targets)


def queued(created_at: str | None) -> Run:
    return Run("queued", "8c16gb120m", "routing", created_at)


def test_it_tells_the_version_and_links_to_the_metrics_where_they_are() -> None:
    text = page(default=None)
    assert f"version {__version__}" in text
    assert '<a href="./nextmv/metrics">' in text
    assert '<a href="./nextmv/metrics?account=default">' in text


def test_an_account_that_was_not_scraped_yet_says_so() -> None:
    assert "Not scraped yet" in page(default=None)


def test_the_last_outcome_is_told_in_numbers_and_with_its_time() -> None:
    text = page(default=success())
    assert '<dd data-status="queued">1</dd>' in text
    assert '<dd data-status="running">1</dd>' in text
    assert "<dd>1 min 0 s</dd>" in text
    assert 'datetime="2026-11-23T12:00:00+00:00"' in text
    assert "250 ms" in text
    assert "Malformed" not in text
    assert "Folded" not in text


@pytest.mark.parametrize(
    ("created_at", "age"),
    [
        ("2026-11-23T11:59:15Z", "45 s"),
        ("2026-11-23T11:50:30Z", "9 min 30 s"),
        ("2026-11-23T06:55:00Z", "5 h 5 min"),
        ("2026-11-21T12:00:00Z", "48 h 0 min"),
        ("2026-11-23T13:00:00Z", "0 s"),
    ],
)
def test_the_oldest_queued_run_is_told_as_people_say_it(created_at: str, age: str) -> None:
    assert f"<dd>{age}</dd>" in page(default=success("default", queued(created_at)))


def test_the_oldest_of_several_groups_is_told() -> None:
    runs = [queued("2026-11-23T11:59:00Z"), Run("queued", "x", "y", "2026-11-23T11:00:00Z")]
    assert "<dd>1 h 0 min</dd>" in page(default=success("default", *runs))


def test_what_is_odd_about_a_queue_is_told() -> None:
    runs = [queued(None), queued("2026-11-23T11:59:00Z"), Run("queued", "x", "y"), Run("running")]
    text = page(default=success("default", *runs, max_groups=1))
    assert "<dt>Malformed runs</dt><dd>3</dd>" in text
    assert "<dt>Folded groups</dt><dd>3</dd>" in text


def test_a_failure_shows_its_reason_and_message_and_no_number() -> None:
    text = page(default=failure())
    assert "Down" in text
    assert "<dt>Reason</dt><dd>auth</dd>" in text
    assert "401 Unauthorized" in text
    assert "data-status" not in text


def test_each_account_has_its_own_section() -> None:
    text = page(one=success("one"), two=failure("two"), three=None)
    assert text.count("<section") == 3
    assert text.count('class="up"') == 1
    assert text.count('class="down"') == 1


def test_what_strangers_wrote_is_text_and_no_markup() -> None:
    script = "<script>alert(1)</script>"
    refused = Failure(Reason.SERVER_ERROR, f"500: {script}")
    named = success("a", Run(script, "c", "a", "2026-11-23T11:59:00Z"))
    down = Outcome("b", "account-queue", 0.1, NOW, failure=refused)
    text = page(**{script: named, "b": down})
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3
