"""The Python programs of the README run, and its pictures are there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests
from support.fake_api import KEY, RUN, FakeAPI
from support.programs import free_port
from support.waiting import until

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
EMBEDDING, LIBRARY = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
PICTURES = re.findall(r'(?:src|srcset)="(docs/images/[^"]+)"', TEXT)
MOST_BYTES = 400_000


def environment(api: FakeAPI) -> dict[str, str]:
    return {**os.environ, "NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url}


def test_the_collector_is_scraped_from_a_program_of_its_own(api: FakeAPI) -> None:
    api.serves(RUN, RUN)
    assert "start_http_server(9000)" in EMBEDDING
    port = free_port()
    program = EMBEDDING.replace("9000", str(port)) + "\nimport time\ntime.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", program], env=environment(api)) as process:
        try:
            url = f"http://127.0.0.1:{port}/metrics"
            metrics = until(lambda: requests.get(url, timeout=30).text, what="the server")
        finally:
            process.kill()
    assert 'nextmv_account_queue_runs{account="default",status_v2="queued"} 2.0' in metrics


def test_the_account_prints_its_runs(api: FakeAPI) -> None:
    api.serves(RUN)
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY],
        env=environment(api),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "run-1 queued 2026-11-23 10:00:00+00:00\n"


@pytest.mark.parametrize("path", PICTURES)
def test_a_picture_is_there(path: str) -> None:
    picture = (README.parent / path).read_bytes()
    if path.endswith(".svg"):
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        assert picture.startswith(b"\x89PNG")


def test_each_picture_has_a_light_and_a_dark_one_and_a_text() -> None:
    assert sorted(PICTURES) == sorted(
        f"docs/images/{name}"
        for name in ("day-dark.svg", "day-light.svg", "page-dark.png", "page-light.png")
    )
    texts = re.findall(r'<img [^>]*alt="([^"]+)"', TEXT)
    assert len(texts) == 2
    assert all(len(text) > 100 for text in texts)
    assert sum((README.parent / path).stat().st_size for path in PICTURES) < MOST_BYTES
