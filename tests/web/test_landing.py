"""The text of the landing page; how it looks is for the browser's tests to say."""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.outcomes import NOW, QUEUE, counters, failure, flowing, run, scrapes, success

from nextmv_exporter import __version__
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.flow import compare
from nextmv_exporter.scrape.outcome import Failure, Outcome, Scrape
from nextmv_exporter.scrape.runs import Run
from nextmv_exporter.scrape.summary import summarise, take_snapshot
from nextmv_exporter.web.landing import MAX_DETAILED, render

README = Path(__file__).parents[2] / "README.md"


@dataclass
class Scraped:
    """All that the page asks of a target."""

    last: Scrape | None


def page(*chosen: str, **accounts: Outcome | Scrape | None) -> str:
    """The page of accounts with these last scrapes."""
    targets: Any = {
        name: Scraped(scrapes(last)[0] if isinstance(last, Outcome) else last)
        for name, last in accounts.items()
    }
    return render("/nextmv/metrics", targets, chosen)


def queued(created_at: str | None) -> Run:
    return run("queued", "8c16gb120m", "routing", created_at)


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
    assert "What to do" not in text
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
    runs = [queued("2026-11-23T11:59:00Z"), run("queued", "x", "y", "2026-11-23T11:00:00Z")]
    assert "<dd>1 h 0 min</dd>" in page(default=success("default", *runs))


def test_what_is_odd_about_a_queue_is_told() -> None:
    runs = [queued(None), queued("2026-11-23T11:59:00Z"), run("queued", "x", "y"), run("running")]
    text = page(default=success("default", *runs, max_groups=1))
    assert "<dt>Malformed runs</dt><dd>3</dd>" in text
    assert "<dt>Folded groups</dt><dd>3</dd>" in text


def rows(text: str, caption: str) -> list[list[str]]:
    """The rows of the table with a caption, as the texts of their cells."""
    table = text.partition(f"<caption>{caption}")[2].partition("</table>")[0]
    body = table.partition("<tbody")[2]
    cells = re.compile(r"<(th|td)\b[^>]*>(.*?)</\1>", re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for _, cell in cells.findall(row)]
        for row in body.split("<tr ")[1:]
    ]


def test_the_execution_classes_are_told_with_the_longest_queue_first() -> None:
    runs = [
        run("queued", "small", "routing", "2026-11-23T11:59:00Z"),
        run("running", "small", "routing", "2026-11-23T11:00:00Z"),
        run("running", "small", "packing", "2026-11-23T11:00:00Z"),
        run("queued", "large", "routing", "2026-11-23T11:30:00Z"),
        run("queued", "large", "packing", "2026-11-23T11:55:00Z"),
        run("queued", "ageless", "packing"),
    ]
    assert rows(page(default=success("default", *runs)), "Queue by execution class") == [
        ["large", "2", "0", "30 min 0 s", "none", "0", "0"],
        ["small", "1", "2", "1 min 0 s", "1 h 0 min", "0", "0"],
        ["ageless", "1", "0", "unknown", "none", "0", "0"],
    ]


def test_the_arrivals_and_starts_of_the_last_minutes_are_told() -> None:
    text = page(default=flowing())
    assert "arrived and started in the 5 minutes before this scrape" in text
    assert [row[:1] + row[5:] for row in rows(text, "Queue by execution class")] == [
        ["8c16gb120m", "0", "1"]
    ]


def test_a_class_whose_runs_have_all_left_still_tells_its_arrivals() -> None:
    arrived = [replace(each, id=f"new {each.id}", execution_class="gone") for each in QUEUE]
    metrics = counters()
    baseline, _ = compare(None, take_snapshot(QUEUE, NOW - 30))
    baseline, change = compare(baseline, take_snapshot([*QUEUE, *arrived], NOW - 15))
    metrics.add_flow(change)
    metrics.add_flow(compare(baseline, take_snapshot(QUEUE, NOW))[1])
    text = page(default=Scrape(success(), metrics.copy()))
    assert rows(text, "Queue by execution class")[1] == ["gone", "0", "0", "none", "none", "2", "1"]


def test_a_bar_is_as_long_as_its_part_of_the_longest() -> None:
    runs = [run("queued", "a", "x")] * 4 + [run("running", "a", "x")] + [run("queued", "b", "x")]
    text = page(default=success("default", *runs)).partition("Longest groups")[0]
    assert re.findall(r'class="bar" style="width:(\d+)%"', text) == ["100", "25", "25"]


def test_the_longest_groups_are_told() -> None:
    runs = [run("queued", "c", f"app-{n}") for n in range(12) for _ in range(n)]
    text = page(default=success("default", *runs))
    told = rows(text, "Longest groups, 10 of 11")
    assert told[0] == ["app-11", "c", "queued", "11"]
    assert [row[0] for row in told] == [f"app-{n}" for n in range(11, 1, -1)]


def test_only_the_longest_of_many_classes_are_told() -> None:
    runs = [run("queued", f"class-{n}", "x") for n in range(30) for _ in range(n + 1)]
    told = rows(page(default=success("default", *runs)), "Queue by execution class, the longest 20")
    assert [row[0] for row in told] == [f"class-{n}" for n in range(29, 9, -1)]


def test_an_empty_queue_has_no_tables() -> None:
    summary = summarise(take_snapshot([], NOW), wait_buckets=(5.0,), max_groups=2000)
    text = page(default=Outcome("default", "account-queue", 0.1, NOW, summary))
    assert "<table" not in text
    assert "<dd>none</dd>" in text


def test_a_failure_shows_its_reason_and_message_and_no_number() -> None:
    text = page(default=failure())
    assert "Down" in text
    assert "<dt>Reason</dt><dd>auth</dd>" in text
    assert "401 Unauthorized" in text
    assert "<dt>What to do</dt><dd>Create a new API key" in text
    assert "data-status" not in text


@pytest.mark.parametrize("reason", Reason)
def test_what_to_do_about_a_failure_is_told_as_in_the_readme(reason: Reason) -> None:
    down = Outcome("a", "account-queue", 0.1, NOW, failure=Failure(reason, "message"))
    advice = rows_of_readme()[reason.value]
    sentence = f"{advice[0].upper()}{advice[1:]}."
    assert f"<dt>What to do</dt><dd>{sentence}</dd>" in html.unescape(page(a=down))


def rows_of_readme() -> dict[str, str]:
    """What the README says to do, by reason."""
    lines = README.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r'\|.*`reason="(\w+)"`.*\| ([^|]+) \|', line) for line in lines)
    return {match[1]: match[2].replace("`", "") for match in found if match}


def test_several_accounts_have_an_overview() -> None:
    text = page(one=success("one"), two=failure("two"), three=None)
    assert rows(text, "3 accounts") == [
        ["one", "Up", "1", "1", "1 min 0 s"],
        ["two", "Down", "auth"],
        ["three", "not scraped yet", ""],
    ]
    assert "accounts</caption>" not in page(one=success("one"))


def many() -> dict[str, Outcome | Scrape | None]:
    """A thousand accounts; two failed, some were not scraped, and one queue is the longest."""
    accounts: dict[str, Outcome | Scrape | None] = {f"account-{n}": success() for n in range(1000)}
    accounts["account-500"] = failure()
    accounts["account-999"] = failure()
    accounts["account-7"] = None
    accounts["account-700"] = success("account-700", *QUEUE, *QUEUE)
    return accounts


def test_of_a_thousand_accounts_those_that_need_a_look_are_shown_in_full() -> None:
    text = page(**many())
    shown = re.findall(r'aria-label="Account ([\w-]+)"', text)
    assert len(shown) == MAX_DETAILED
    assert {"account-500", "account-999", "account-700"} < set(shown)
    assert len(rows(text, "1000 accounts, 20 of them in detail below")) == 1000
    assert len(text.encode()) < 500_000


def test_an_account_that_is_chosen_is_shown_in_full() -> None:
    text = page("account-3", **many())
    assert re.findall(r'aria-label="Account ([\w-]+)"', text) == ["account-3"]


def test_each_account_has_its_own_section() -> None:
    text = page(one=success("one"), two=failure("two"), three=None)
    assert text.count("<section") == 3
    sections = text.split("<section")[1:]
    assert ['class="up"' in each for each in sections] == [True, False, False]
    assert ['class="down"' in each for each in sections] == [False, True, False]


def test_what_strangers_wrote_is_text_and_no_markup() -> None:
    script = "<script>alert(1)</script>"
    refused = Failure(Reason.SERVER_ERROR, f"500: {script}")
    named = success("a", run(script, "c", "a", "2026-11-23T11:59:00Z"))
    down = Outcome("b", "account-queue", 0.1, NOW, failure=refused)
    text = page(**{script: named, "b": down})
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3
