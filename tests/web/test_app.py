"""By when a scrape must have answered, from Prometheus's timeout and the settings."""

import threading
import time

import pytest
import requests
from starlette.datastructures import Headers
from support.exporter import exporter_process, settings_of
from support.fake_api import FakeAPI
from support.logs import capture_logs
from support.metrics import value

from nextmv_exporter.web.app import TIMEOUT_HEADER, scrape_timeout


@pytest.mark.parametrize(
    ("header", "flags", "seconds"),
    [
        (None, [], 10),
        (None, ["--nextmv.timeout=3s"], 3),
        ("5", [], 4.5),
        ("5.000", [], 4.5),
        ("60", [], 10),
        ("10", [], 9.5),
        ("10", ["--nextmv.timeout=2s"], 2),
        ("5", ["--web.timeout-offset=0"], 5),
        ("5", ["--web.timeout-offset=2s"], 3),
        ("0.6", [], 0.3),
        ("0.4", [], 0.2),
        ("1", ["--web.timeout-offset=10s"], 0.5),
    ],
)
def test_a_scrape_has_prometheus_time_less_the_offset_or_the_programs_own(
    header: str | None, flags: list[str], seconds: float
) -> None:
    headers = Headers({} if header is None else {TIMEOUT_HEADER: header})
    assert scrape_timeout(headers, settings_of(*flags)) == pytest.approx(seconds)


def test_prometheus_own_header_names_its_timeout() -> None:
    assert TIMEOUT_HEADER == "X-Prometheus-Scrape-Timeout-Seconds"


@pytest.mark.parametrize("header", ["", "soon", "0", "-5", "nan", "inf", "1e400", "5s", "1 s"])
def test_a_timeout_that_is_none_is_ignored_with_a_warning(header: str) -> None:
    with capture_logs() as lines:
        assert scrape_timeout({TIMEOUT_HEADER: header}, settings_of()) == 10
    assert [line["value"] for line in lines] == [header]


def test_a_scrape_of_an_api_that_hangs_answers_within_prometheus_timeout(api: FakeAPI) -> None:
    released = threading.Event()
    with exporter_process(endpoint=api.url) as exporter:
        assert api.requests == []
        api.answer.held_until = released
        start = time.monotonic()
        answer = requests.get(f"{exporter.url}/metrics", headers={TIMEOUT_HEADER: "1"}, timeout=5)
        assert time.monotonic() - start < 1
        released.set()
    assert answer.status_code == 200
    assert value(answer.text, "nextmv_up") == 0
    assert value(answer.text, "nextmv_scrape_errors_total", reason="timeout") == 1
