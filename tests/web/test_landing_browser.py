"""The landing page in a real browser: Chromium without a window."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import requests
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from support.exporter import Served, exporter_here

from nextmv_exporter import __version__
from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount
from nextmv_exporter.nextmv.credentials import Credentials

OTHER_KEY = DEMO_KEY + "2"
MARKUP = "<b id=markup onclick=alert(1)>\"staging\" & 'test'</b><script>alert(2)</script>"
LONG = "a" * 200
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LEAST_CONTRAST = 4.5
"""What WCAG 2.2 asks of text at level AA."""

# Each element that has text of its own, with its colour and the one behind it, each as
# [red, green, blue]. Where nothing is painted, the browser's own canvas is behind.
COLOURS = """
    const canvas = document.createElement("div");
    canvas.style.backgroundColor = "Canvas";
    document.body.append(canvas);
    const painted = getComputedStyle(canvas).backgroundColor;
    canvas.remove();
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)") return colour;
        }
        return painted;
    };
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    return [...document.body.querySelectorAll("*")]
        .filter(each => [...each.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(each => [each.textContent.trim(), numbers(getComputedStyle(each).color),
                      numbers(behind(each))]);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    now = time.time()
    accounts = {
        DEMO_KEY: StandingAccount(4321, at=now),
        OTHER_KEY: StandingAccount(0, at=now),
    }
    with DemoServer(DemoAPI(accounts)) as server:
        yield server.url


@pytest.fixture(scope="module")
def served(api: str) -> Iterator[Served]:
    """Accounts that are full, empty, unreadable and not scraped yet, some with odd names."""
    credentials = {
        "production": Credentials(DEMO_KEY, api),
        MARKUP: Credentials(OTHER_KEY, api),
        "revoked": Credentials("a-key-that-was-revoked", api),
        LONG: Credentials(DEMO_KEY, api),
    }
    with exporter_here(accounts=credentials) as made:
        for account in ("production", MARKUP, "revoked"):
            assert made.get(f"/metrics?account={quote(account)}").status == 200
        yield made


@pytest.fixture
def page(browser: Chrome, served: Served) -> Iterator[Chrome]:
    """The landing page, loaded; after the test, the browser must have nothing to complain of."""
    complaints(browser)  # of earlier pages
    browser.get(f"http://127.0.0.1:{served.port}/")
    yield browser
    assert complaints(browser) == []


def complaints(browser: Chrome) -> list[dict[str, Any]]:
    """What the browser's console said since it was asked last."""
    said: list[dict[str, Any]] = browser.execute("getLog", {"type": "browser"})["value"]
    return said


@contextmanager
def appearing(page: Chrome, scheme: str = "light", width: int = 1000) -> Iterator[None]:
    """Set what the user prefers, and the width of the screen."""
    prefers = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": prefers})
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.refresh()
    yield
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def shown(page: Chrome, account: str) -> tuple[str, dict[str, str]]:
    """What the page says of an account: its first line, and the values by their names."""
    for section in page.find_elements(By.TAG_NAME, "section"):
        if section.find_element(By.TAG_NAME, "h2").text == account:
            names = [each.text for each in section.find_elements(By.TAG_NAME, "dt")]
            values = [each.text for each in section.find_elements(By.TAG_NAME, "dd")]
            line = section.find_element(By.TAG_NAME, "p").text
            return line, dict(zip(names, values, strict=True))
    raise AssertionError(f"{account} is not on the page")


def section(page: Chrome, account: str) -> WebElement:
    """The section of an account."""
    label = f"Account {account}"
    found = page.find_elements(By.TAG_NAME, "section")
    return next(each for each in found if each.accessible_name == label)


def table(within: Chrome | WebElement, caption: str) -> list[list[str]]:
    """The rows of the table whose caption starts so, as the texts of their cells."""
    for each in within.find_elements(By.TAG_NAME, "table"):
        if each.find_element(By.TAG_NAME, "caption").text.startswith(caption):
            rows = each.find_elements(By.CSS_SELECTOR, "tbody tr")
            return [[c.text for c in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows]
    raise AssertionError(f"no table {caption!r}")


def heard(page: Chrome) -> Counter[str]:
    """How many parts of each role a screen reader is told of."""
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return Counter(node["role"]["value"] for node in nodes if not node["ignored"])


def runs(api: str) -> list[dict[str, str]]:
    headers = {"Authorization": f"Bearer {DEMO_KEY}"}
    answer = requests.get(f"{api}/v1/account/queue", headers=headers, timeout=30)
    found: list[dict[str, str]] = msgspec.json.decode(answer.content)["runs"]
    return found


def seconds(text: str) -> int:
    """The duration that is written like 1 h 5 min."""
    units = {"h": 3600, "min": 60, "s": 1}
    words = text.split()
    return sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))


def luminance(colour: list[float]) -> float:
    """As WCAG defines it."""
    parts = [part / 255 for part in colour[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def colours(page: Chrome) -> list[tuple[str, list[float], list[float]]]:
    found: list[tuple[str, list[float], list[float]]] = page.execute_script(COLOURS)
    return found


def overflow(page: Chrome) -> int:
    """Pixels by which the page is wider than the screen."""
    wider: int = page.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wider


def test_an_account_shows_the_values_that_the_api_has(page: Chrome, api: str) -> None:
    line, values = shown(page, "production")
    assert line.startswith("Up at 20")
    assert line.endswith("from account-queue")
    by_status = Counter(run["status_v2"] for run in runs(api))
    assert {status: int(values.pop(status)) for status in by_status} == by_status
    queued = [run["created_at"] for run in runs(api) if run["status_v2"] == "queued"]
    age = time.time() - datetime.fromisoformat(min(queued)).timestamp()
    assert seconds(values.pop("Oldest queued run")) == pytest.approx(age, abs=120)
    assert values == {}


def test_the_execution_classes_are_shown_with_the_numbers_that_the_api_has(
    page: Chrome, api: str
) -> None:
    rows = table(section(page, "production"), "Queue by execution class")
    queued, running = (
        Counter(run["execution_class"] for run in runs(api) if run["status_v2"] == status)
        for status in ("queued", "running")
    )
    assert {row[0]: row[1:3] for row in rows} == {
        name: [str(queued[name]), str(running[name])] for name in queued | running
    }


def test_the_longest_groups_are_shown(page: Chrome, api: str) -> None:
    rows = table(section(page, "production"), "Longest groups")
    fields = ("application_id", "execution_class", "status_v2")
    groups = Counter(tuple(run[field] for field in fields) for run in runs(api))
    lengths = [int(row.pop()) for row in rows]
    assert lengths == [length for _, length in groups.most_common(10)]
    assert [groups[tuple(row)] for row in rows] == lengths


def test_a_bar_shows_each_number_by_its_length(page: Chrome) -> None:
    cells = section(page, "production").find_elements(By.CSS_SELECTOR, "td:has(.bar)")
    assert len(cells) > 10
    runs_of_groups = [cell for cell in cells if cell.get_attribute("data-label") == "Runs"]
    bars = [cell.find_element(By.CLASS_NAME, "bar").size["width"] for cell in runs_of_groups]
    numbers = [int(cell.text) for cell in runs_of_groups]
    for bar, number in zip(bars, numbers, strict=True):
        assert bar / bars[0] == pytest.approx(number / numbers[0], abs=0.03)


def test_all_accounts_are_in_the_overview_with_a_link_to_each(page: Chrome) -> None:
    rows = table(page, "4 accounts")
    states = [("production", "Up"), (MARKUP, "Up"), ("revoked", "Down")]
    assert [(row[0], row[1]) for row in rows[:3]] == states
    assert rows[3][0] == LONG
    page.find_element(By.LINK_TEXT, MARKUP).click()
    assert [s.accessible_name for s in page.find_elements(By.TAG_NAME, "section")] == [
        f"Account {MARKUP}"
    ]


def test_an_empty_queue_shows_zeros(page: Chrome) -> None:
    line, values = shown(page, MARKUP)
    assert line.startswith("Up")
    assert values == {"queued": "0", "running": "0", "Oldest queued run": "none"}


def test_a_failed_account_shows_why_and_no_numbers(page: Chrome) -> None:
    line, values = shown(page, "revoked")
    assert line.startswith("Down")
    assert values.keys() == {"Reason", "Error", "What to do"}
    assert values["Reason"] == "auth"
    assert "401 Unauthorized" in values["Error"]
    assert values["What to do"].startswith("Create a new API key in the Nextmv console")
    assert "a-key-that-was-revoked" not in page.page_source


def test_an_account_that_was_not_scraped_yet_offers_to_be(browser: Chrome, api: str) -> None:
    with exporter_here(accounts={MARKUP: Credentials(OTHER_KEY, api)}) as served:
        browser.get(f"http://127.0.0.1:{served.port}/")
        assert shown(browser, MARKUP) == ("Not scraped yet. Scrape it now", {})
        link = browser.find_element(By.LINK_TEXT, "Scrape it now").get_attribute("href")
        assert link
        assert "nextmv_up{" in requests.get(link, timeout=30).text
        browser.refresh()
        assert shown(browser, MARKUP)[0].startswith("Up")


def test_a_name_with_markup_is_text(page: Chrome) -> None:
    shown(page, MARKUP)
    assert page.find_elements(By.ID, "markup") == []
    assert page.find_elements(By.TAG_NAME, "script") == []


def test_the_version_is_shown_and_every_link_leads_somewhere(page: Chrome) -> None:
    assert f"version {__version__}" in page.find_element(By.TAG_NAME, "header").text
    links = [link.get_attribute("href") for link in page.find_elements(By.TAG_NAME, "a")]
    assert len(links) >= 4
    for link in links:
        assert link
        assert requests.get(link, timeout=30).status_code == 200


def test_a_reader_that_hears_the_page_is_told_its_parts(page: Chrome) -> None:
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    for part in ("header", "nav", "main", "footer"):
        assert len(page.find_elements(By.TAG_NAME, part)) == 1
    labels = [s.accessible_name for s in page.find_elements(By.TAG_NAME, "section")]
    assert labels == [f"Account {name}" for name in ("production", MARKUP, "revoked", LONG)]


@pytest.mark.parametrize("width", [360, 1000])
def test_a_reader_that_hears_the_page_is_told_of_rows_and_headers_on_any_screen(
    page: Chrome, width: int
) -> None:
    with appearing(page, width=width):
        told = heard(page)
        tables = page.find_elements(By.TAG_NAME, "table")
        assert told["table"] == told["caption"] == len(tables) >= 3
        for role, selector in (
            ("columnheader", "thead th[scope=col]"),
            ("rowheader", "tbody th[scope=row]"),
            ("cell", "td"),
            ("row", "tr"),
        ):
            assert told[role] == len(page.find_elements(By.CSS_SELECTOR, selector)) > 0, role


def test_a_phone_shows_what_each_number_is(page: Chrome) -> None:
    labels = """return [...document.querySelectorAll("td")]
        .map(each => getComputedStyle(each, "::before").content)"""
    with appearing(page, width=360):
        shown_labels = page.execute_script(labels)
        assert not page.find_element(By.TAG_NAME, "thead").rect["height"] > 1
    assert all(label not in ("none", '""') for label in shown_labels)
    with appearing(page, width=1000):
        assert set(page.execute_script(labels)) == {"none"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(page: Chrome, scheme: str) -> None:
    with appearing(page, scheme):
        texts = colours(page)
    assert len(texts) > 15
    for text, colour, behind in texts:
        assert contrast(colour, behind) >= LEAST_CONTRAST, text


def test_a_dark_page_is_shown_to_those_who_prefer_it(page: Chrome) -> None:
    with appearing(page, "light"):
        light = colours(page)
    with appearing(page, "dark"):
        dark = colours(page)
    for (text, colour, behind), (same, dark_colour, dark_behind) in zip(light, dark, strict=True):
        assert re.sub(r"\d+", "", text) == re.sub(r"\d+", "", same)  # time passes between them
        assert luminance(behind) > 0.8
        assert luminance(dark_behind) < 0.2
        assert luminance(colour) < luminance(dark_colour)


@pytest.mark.parametrize("width", [320, 390, 768, 1920])
def test_nothing_has_to_be_scrolled_sideways(page: Chrome, width: int) -> None:
    with appearing(page, width=width):
        assert overflow(page) == 0


def test_a_status_of_any_length_fits_a_phone(browser: Chrome) -> None:
    run = {"id": "1", "application_id": "a", "execution_class": "b", "status_v2": "x" * 500}

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": msgspec.json.encode({"runs": [run]})})

    with (
        DemoServer(app) as server,
        exporter_here(accounts={"a": Credentials("k", server.url)}) as served,
    ):
        served.get("/metrics")
        browser.get(f"http://127.0.0.1:{served.port}/")
        with appearing(browser, width=320):
            _, values = shown(browser, "a")
            assert next(value for status, value in values.items() if "xxx" in status) == "1"
            assert overflow(browser) == 0
