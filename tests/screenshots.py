"""Take the README's pictures of the status page: `.venv/bin/python tests/screenshots.py`.

They show two accounts, one of which can't be read, after five minutes of scrapes.
"""

import base64
import tempfile
import time
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from support.exporter import exporter_process
from support.programs import profile, write_yaml

from nextmv_exporter.demo import simulated_account

FOLDER = Path(__file__).parents[1] / "docs" / "images"
SCRAPES, INTERVAL = 20, 15
SCREEN = {"width": 960, "height": 600, "deviceScaleFactor": 1, "mobile": False}


def take(url: str, browser_profile: str) -> None:
    """Take a picture of a whole page in both colour schemes."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    flags = ("headless=new", "no-sandbox", "hide-scrollbars", f"user-data-dir={browser_profile}")
    for flag in flags:
        options.add_argument(f"--{flag}")
    driver = Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            driver.get(url)
            picture = driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"}
            )
            (FOLDER / f"page-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))
    finally:
        driver.quit()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, simulated_account() as account:
        accounts = {
            "production": profile(account.url, account.api_key),
            "staging": profile(account.url, "a-key-that-was-revoked"),
        }
        file = write_yaml(Path(folder) / "config.yaml", accounts)
        with exporter_process("--nextmv.profile=*", f"--nextmv.config-file={file}") as exporter:
            for _ in range(SCRAPES):
                time.sleep(INTERVAL)
                exporter.scrape()
            take(f"{exporter.url}/", folder)


if __name__ == "__main__":
    main()
