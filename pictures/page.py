"""Pictures of the status page, light and dark, taken in Chromium."""

import base64
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.demo import DEMO_KEY, DemoServer
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.settings import from_environment
from nextmv_exporter.web.app import Exporter
from pictures.simulation import MIDNIGHT, simulated_account

START = MIDNIGHT + 9 * 3600
SCRAPES = 20
INTERVAL = 15
WIDTH = 960
COLOURS = 256
"""Fewer than a screen has, since the pictures are kept in the repository."""

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def take(folder: Path) -> None:
    """Write `page-light.png` and `page-dark.png`.

    Args:
        folder: where to.
    """
    with simulated_account(START) as (clock, url):
        accounts = {
            "production": Credentials(DEMO_KEY, url),
            "staging": Credentials("a-key-that-was-revoked", url),
        }
        settings = from_environment()
        with DemoServer(Exporter(settings, Accounts(settings, accounts)).app()) as server:
            for number in range(SCRAPES):
                clock.now = START + number * INTERVAL
                requests.get(f"{server.url}/metrics", timeout=30).raise_for_status()
            clock.now += 4
            with TemporaryDirectory() as profile:
                _take(f"{server.url}/", folder, profile)


def _take(url: str, folder: Path, profile: str) -> None:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        for scheme in ("light", "dark"):
            prefers = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": prefers})
            screen = {"width": WIDTH, "height": 600, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            driver.get(url)
            picture = driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"}
            )
            image = Image.open(BytesIO(base64.b64decode(picture["data"]))).convert("RGB")
            small = image.quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(folder / f"page-{scheme}.png", optimize=True)
    finally:
        driver.quit()
