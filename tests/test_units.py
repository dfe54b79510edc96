import math
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter import units
from nextmv_exporter.units import Address, duration_or_zero


def refusal(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1ms", 0.001),
        ("500ms", 0.5),
        ("0.5s", 0.5),
        ("10s", 10),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d", 86_400),
        ("1w", 604_800),
        ("1y", 31_536_000),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 2 * 604_800 + 3 * 86_400 + 4 * 3600 + 306.007),
        ("90m", 5400),
    ],
)
def test_durations_are_read_as_prometheus_writes_them(text: str, seconds: float) -> None:
    assert duration_or_zero(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "00", "s", "-5s", "1m1h", "1h 30m", " 10s", "10s ", "10S", "10 s", "1h1h", "1e3s",
     "inf", "nan", "1,5s", ".5s", "5.s", "10sec", "10s\n", "\u0661s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 500ms, 10s, 5m or 1h30m"):
        duration_or_zero(text)


@given(st.integers(0, 100), st.sampled_from(["ms", "s", "m", "h", "d", "w", "y"]))
def test_every_whole_number_of_a_unit_is_a_duration(amount: int, unit: str) -> None:
    seconds = duration_or_zero(f"{amount}{unit}")
    assert math.isclose(seconds, amount * duration_or_zero(f"1{unit}"))


@pytest.mark.parametrize("text", ["100y1ms", "1000y", "99999999999999y", "9" * 400 + "ms"])
@pytest.mark.parametrize("parse", [duration_or_zero, units.duration, units.buckets])
def test_a_duration_over_100_years_is_refused(parse: Callable[[str], object], text: str) -> None:
    assert f"{text!r} is longer than 100y, the longest duration allowed" == refusal(parse, text)


def test_the_longest_duration_is_a_timeout_that_python_accepts() -> None:
    assert duration_or_zero("100y") < threading.TIMEOUT_MAX
    assert timedelta(seconds=duration_or_zero("100y"))


def test_a_duration_of_0_must_be_allowed() -> None:
    assert units.duration_or_zero("0") == 0
    assert units.duration_or_zero("0s") == 0
    for text in ("0", "0s", "0h0m"):
        assert refusal(units.duration, text) == f"{text!r} must be longer than 0"


def test_a_name_must_be_printable_and_that_of_an_account_not_empty() -> None:
    assert refusal(units.name_or_empty, "a\0b") == r"'a\x00b' has characters that can't be printed"
    assert refusal(units.name, " ") == "it is empty"
    assert units.name(" a ") == units.name_or_empty(" a ") == "a"
    assert units.name_or_empty(" ") == ""


def test_buckets_are_durations_in_ascending_order() -> None:
    assert units.buckets("5s, 1m,1h") == (5, 60, 3600)
    assert units.buckets("1s") == (1,)


@pytest.mark.parametrize("text", ["1m,5s", "5s,5s", "60s,1m"])
def test_buckets_in_another_order_are_refused(text: str) -> None:
    assert "ascending order" in refusal(units.buckets, text)


@pytest.mark.parametrize("text", ["", "5s,", ",5s", "5s;1m", "0s,5s", "+Inf"])
def test_buckets_that_are_no_durations_are_refused(text: str) -> None:
    assert refusal(units.buckets, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1000000", 10**6), ("10B", 10), ("1KB", 1000), ("1KiB", 1024),
     ("1MB", 10**6), ("1MiB", 2**20), ("1GB", 10**9),
     ("64MiB", 64 * 2**20), ("64 MiB", 64 * 2**20), ("2GB", 2 * 10**9), ("1GiB", 2**30)],
)  # fmt: skip
def test_sizes_are_in_bytes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0MiB", "-1", "1.5MiB", "MiB", "64mib", "64M", "1TiB", "\u0661"]
)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    assert "write it like 64MiB or 1000000" in refusal(units.size, text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10057", Address("", 10057)),
        (":0", Address("", 0)),
        ("127.0.0.1:10057", Address("127.0.0.1", 10057)),
        ("localhost:65535", Address("localhost", 65535)),
        ("[::]:10057", Address("::", 10057)),
        ("[::1]:10057", Address("::1", 10057)),
    ],
)
def test_listen_addresses_are_host_and_port(text: str, address: Address) -> None:
    assert units.address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "10057", "localhost", "localhost:", "localhost:http", ":65536", ":-1", "::1:10057",
     "::", "[::1]", "[::1", "[::1:10057", "::1]:10057", ":\uff110057", "\xe9..b:80"],
)  # fmt: skip
def test_what_is_no_listen_address_is_refused_with_examples(text: str) -> None:
    assert "write it like :10057" in refusal(units.address, text)


@pytest.mark.parametrize("text", ["/metrics", "/a/b", "/m-1_2.3~4"])
def test_a_path_is_kept_as_it_is(text: str) -> None:
    assert units.path(text) == text


@pytest.mark.parametrize(
    "text", ["", "/", "metrics", "/metrics/", "//", "/a b", "/a?b", "/sd", "/-/ready", "/é", "/a\n"]
)
def test_a_path_that_is_none_or_taken_is_refused(text: str) -> None:
    assert "write it like /metrics" in refusal(units.path, text)


@pytest.mark.parametrize("text", ["/sdx", "/sd-metrics"])
def test_a_path_that_only_begins_like_a_taken_one_is_free(text: str) -> None:
    assert units.path(text) == text


@pytest.mark.parametrize(
    "text", ["http://a", "https://a.example:10057", "https://a/b/c", "http://[::1]:1"]
)
def test_urls_are_of_http_or_https(text: str) -> None:
    assert units.url(text) == text


@pytest.mark.parametrize(
    "text", ["", "a.example", "ftp://a", "https://", "https://a?b", "https://a b", "https://a/b c"]
)
def test_what_is_no_url_is_refused_with_an_example(text: str) -> None:
    assert refusal(units.url, text) == (
        f"{units.without_secrets(text)!r} is not a URL: "
        "write it like https://exporter.example:10057"
    )


def test_of_a_url_only_the_place_is_shown() -> None:
    for url in ("https://u:p@h/x?q=1#f", "https://u@p@h/x#?", "a\n@h/x?"):
        assert units.without_secrets(url) == "<redacted>h/x<redacted>"
    assert units.without_secrets("https://h/x") == "https://h/x"


def test_a_password_in_a_url_is_not_quoted() -> None:
    assert "SECRET" not in refusal(units.url, "https://me:SECRET@a.example")
