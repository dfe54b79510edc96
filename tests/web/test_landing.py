"""The status page: its text, and in Chromium how it looks."""

import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from support.exporter import settings_of
from support.fake_api import KEY, RUN, FakeAPI

from nextmv_exporter import __version__
from nextmv_exporter.accounts import Accounts
from nextmv_exporter.collector import QueueCollector
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import Reason
from nextmv_exporter.scrape.target import Failure, Scrape
from nextmv_exporter.web.landing import ADVICE, MAX_DETAILED, render

RUNNING = {**RUN, "id": "run-2", "status_v2": "running"}
MARKUP = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def scraped() -> Iterator[Any]:
    """Scrapes an account with runs, as of some seconds ago; with a failure if one is given."""
    with FakeAPI() as api:

        def scrape(*runs: Any, ago: float = 3.0, failure: Failure | None = None) -> Scrape:
            api.serves(*runs)
            accounts = Accounts(settings_of(), {"default": Credentials(KEY, api.url)})
            list(QueueCollector(accounts.targets).collect())
            last = accounts.targets["default"].last
            assert last
            changes: dict[str, Any] = {"summary": None, "failure": failure} if failure else {}
            finished = time.time() - ago
            return Scrape(
                dataclasses.replace(last.outcome, finished=finished, **changes), last.counters
            )

        yield scrape


def page(*chosen: str, **scrapes: Scrape | None) -> str:
    targets: Any = {name: SimpleNamespace(last=scrape) for name, scrape in scrapes.items()}
    return render("/nextmv/metrics", targets, chosen)


def failed(reason: Reason = Reason.AUTH, message: str = "401 Unauthorized") -> Failure:
    return Failure(reason, message)


def rows(text: str, caption: str) -> list[list[str]]:
    """The rows of the table with a caption, as the texts of their cells."""
    table = text.partition(f"<caption>{caption}")[2].partition("</table>")[0]
    cells = re.compile(r"<(th|td)\b[^>]*>(.*?)</\1>", re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for _, cell in cells.findall(row)]
        for row in table.partition("<tbody")[2].split("<tr ")[1:]
    ]


def test_an_account_is_shown_in_numbers(scraped: Any) -> None:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7500))
    large = {**RUN, "execution_class": "large", "created_at": created}
    text = page(default=scraped(large, large, RUN, RUNNING, {"status_v2": "queued"}))
    assert f"version {__version__}" in text
    assert '<a href="./nextmv/metrics">' in text
    assert '<span class="up">Up</span>' in text
    assert '<dd data-status="queued">4</dd>' in text
    assert "<dt>Malformed runs</dt><dd>1</dd>" in text
    assert "What to do" not in text
    classes = rows(text, "Queue by execution class; arrived and started in the 5 minutes")
    assert [row[:3] for row in classes] == [
        ["large", "2", "0"],
        [RUN["execution_class"], "1", "1"],
        ["unknown", "1", "0"],
    ]
    assert classes[0][3].startswith("2 h 5 min")
    assert classes[2][3:5] == ["unknown", "none"]
    assert rows(text, "Longest groups")[0] == [RUN["application_id"], "large", "queued", "2"]
    assert re.findall(r'class="bar" style="width:(\d+)%"', text)[0] == "100"
    assert "<table" not in page(default=scraped())


def test_of_many_classes_and_groups_the_longest_are_shown(scraped: Any) -> None:
    runs = [{**RUN, "execution_class": f"class-{n}"} for n in range(30) for _ in range(n + 1)]
    text = page(default=scraped(*runs))
    classes = rows(text, "Queue by execution class, the longest 20 of 30")
    assert [row[0] for row in classes] == [f"class-{n}" for n in range(29, 9, -1)]
    assert len(rows(text, "Longest groups, 10 of 30")) == 10


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_shows_what_to_do_and_no_numbers(scraped: Any, reason: Reason) -> None:
    text = page(default=scraped(RUN, failure=failed(reason)))
    assert '<span class="down">Down</span>' in text
    assert f"<dt>Reason</dt><dd>{reason.value}</dd>" in text
    assert "<dt>Error</dt><dd>401 Unauthorized</dd>" in text
    assert f"<dt>What to do</dt><dd>{ADVICE[reason]}</dd>" in text.replace("&#39;", "'")
    assert "data-status" not in text


def test_an_old_scrape_is_told_to_be_old(scraped: Any) -> None:
    assert "when last scraped" not in page(default=scraped(RUN, ago=290))
    text = page(default=scraped(RUN, ago=730))
    assert '<span class="old">Up when last scraped 12 min 1' in text
    assert 'class="up"' not in text
    down = page(default=scraped(RUN, ago=730, failure=failed()))
    assert '<span class="down">Down when last scraped 12 min 1' in down
    assert "Not scraped yet" in page(default=None)


def test_failed_and_old_accounts_come_first_and_are_shown_in_full(scraped: Any) -> None:
    up, long = scraped(RUN), scraped(RUN, RUN)
    accounts = {f"account-{n}": up for n in range(1000)}
    accounts["account-700"] = long
    accounts["account-7"] = None
    accounts["account-500"] = scraped(RUN, ago=500)
    accounts["account-999"] = scraped(failure=failed())
    text = page(**accounts)
    overview = rows(text, f"1000 accounts, {MAX_DETAILED} of them in detail below")
    assert [row[0] for row in overview[:4]] == [
        *("account-999", "account-500", "account-0", "account-1")
    ]
    assert overview[0] == ["account-999", "Down", "auth"]
    assert overview[9] == ["account-7", "not scraped yet", ""]
    detailed = re.findall(r'aria-label="Account ([\w-]+)"', text)
    assert detailed[:2] == ["account-999", "account-500"]
    assert "account-700" in detailed
    assert len(detailed) == MAX_DETAILED
    assert len(text) < 500_000
    chosen = page("account-3", **accounts)
    assert re.findall(r'aria-label="Account ([\w-]+)"', chosen) == ["account-3"]


def test_what_strangers_wrote_is_text_and_no_markup(scraped: Any) -> None:
    refused = scraped(failure=failed(message=MARKUP))
    text = page(**{MARKUP: scraped({**RUN, "status_v2": MARKUP}), "b": refused})
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts a browser with a default size of text."""
    started: list[Chrome] = []

    def start(text: int) -> Chrome:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        profile = tmp_path_factory.mktemp("chromium")
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={profile}")
        options.add_argument(f"--blink-settings=defaultFontSize={text}")
        started.append(Chrome(options, Service("/usr/bin/chromedriver")))
        return started[-1]

    yield start
    for browser in started:
        browser.quit()


# Texts that take more lines than they have words, and more than one.
BROKEN = r"""
    return [...document.querySelectorAll("td > span, td, th, dt, dd, p, caption")]
        .filter(e => getComputedStyle(e.closest("thead") ?? e).position !== "absolute")
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => {
            const range = document.createRange();
            range.selectNodeContents(e);
            const tops = [...range.getClientRects()].map(each => Math.round(each.top));
            const text = e.textContent.trim();
            return [text, new Set(tops).size, text.split(/[\s-]+/).length];
        })
        .filter(([text, lines, words]) => lines > words + 1);
"""
# Elements whose colour does not stand out, with their contrast.
CONTRAST = r"""
    const lit = c => c.match(/[\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const behind = lit(getComputedStyle(document.documentElement).backgroundColor);
    return [...document.body.querySelectorAll("*")]
        .map(e => [e.className, lit(getComputedStyle(e).color)])
        .map(([name, l]) => [name, (Math.max(l, behind) + .05) / (Math.min(l, behind) + .05)])
        .filter(([name, contrast]) => contrast < 4.5);
"""


@pytest.mark.system
@pytest.mark.parametrize("text_size", [16, 32])
def test_it_can_be_read_on_any_screen(
    scraped: Any, chromium: Any, text_size: int, tmp_path: Path
) -> None:
    runs = [
        {**RUN, "application_id": "vehicle-routing-optimisation", "execution_class": "16c60gb12h"},
        {**RUNNING, "application_id": "a" * 60},
    ]
    file = tmp_path / "page.html"
    text = page(
        **{
            "production": scraped(*runs),
            "staging-environment": scraped(*runs, ago=730),
            "revoked": scraped(failure=failed()),
            "never": None,
        }
    )
    file.write_text(text)
    browser = chromium(text_size)
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for width in (320, 390, 768, 1920):
            screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            browser.get(file.as_uri())
            wider = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
            assert browser.execute_script(wider) == 0, width
            broken = browser.execute_script(BROKEN)
            assert [each for each in broken if "aaaa" not in each[0]] == [], width
            assert browser.execute_script(CONTRAST) == []
    assert browser.execute("getLog", {"type": "browser"})["value"] == []
