import math
from collections.abc import Callable
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter import units
from nextmv_exporter.units import Address, parse_duration


def refusal(convert: Callable[..., Any], text: str) -> str:
    with pytest.raises(click.BadParameter) as caught:
        convert(text, None, None)
    return caught.value.message


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
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "-5s", "1m1h", "1h 30m", " 10s", "10s ", "10S", "10 s", "1h1h", "1e3s", "inf",
     "nan", "1,5s", ".5s", "5.s", "10sec", "10s\n", "\u0661s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 500ms, 10s, 5m or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d", "w", "y"]))
def test_every_whole_number_of_a_unit_is_a_duration(amount: int, unit: str) -> None:
    seconds = parse_duration(f"{amount}{unit}")
    assert math.isclose(seconds, amount * parse_duration(f"1{unit}"))


def test_a_duration_of_0_must_be_allowed() -> None:
    assert units.Duration(zero=True).convert("0", None, None) == 0
    assert units.Duration(zero=True).convert("0s", None, None) == 0
    for text in ("0", "0s", "0h0m"):
        assert "must be longer than 0" in refusal(units.Duration().convert, text)


def test_buckets_are_durations_in_ascending_order() -> None:
    assert units.Buckets().convert("5s, 1m,1h", None, None) == (5, 60, 3600)
    assert units.Buckets().convert("1s", None, None) == (1,)


@pytest.mark.parametrize("text", ["1m,5s", "5s,5s", "60s,1m"])
def test_buckets_in_another_order_are_refused(text: str) -> None:
    assert "ascending order" in refusal(units.Buckets().convert, text)


@pytest.mark.parametrize("text", ["", "5s,", ",5s", "5s;1m", "0s,5s", "+Inf"])
def test_buckets_that_are_no_durations_are_refused(text: str) -> None:
    assert refusal(units.Buckets().convert, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1000000", 10**6), ("10B", 10), ("1KB", 1000), ("1KiB", 1024),
     ("64MiB", 64 * 2**20), ("64 MiB", 64 * 2**20), ("2GB", 2 * 10**9), ("1GiB", 2**30)],
)  # fmt: skip
def test_sizes_are_in_bytes(text: str, size: int) -> None:
    assert units.Bytes().convert(text, None, None) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0MiB", "-1", "1.5MiB", "MiB", "64mib", "64M", "1TiB", "\u0661"]
)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    assert "write it like 64MiB or 1000000" in refusal(units.Bytes().convert, text)


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
    assert units.ListenAddress().convert(text, None, None) == address


@pytest.mark.parametrize(
    "text",
    ["", "10057", "localhost", "localhost:", "localhost:http", ":65536", ":-1", "::1:10057",
     "::", "[::1]", "[::1", "[::1:10057", "::1]:10057", ":\uff110057"],
)  # fmt: skip
def test_what_is_no_listen_address_is_refused_with_examples(text: str) -> None:
    assert "write it like :10057" in refusal(units.ListenAddress().convert, text)


@pytest.mark.parametrize("text", ["/metrics", "/a/b", "/m-1_2.3~4"])
def test_a_path_is_kept_as_it_is(text: str) -> None:
    assert units.UrlPath().convert(text, None, None) == text


@pytest.mark.parametrize(
    "text", ["", "/", "metrics", "/metrics/", "//", "/a b", "/a?b", "/sd", "/-/ready", "/é", "/a\n"]
)
def test_a_path_that_is_none_or_taken_is_refused(text: str) -> None:
    assert "write it like /metrics" in refusal(units.UrlPath().convert, text)


@pytest.mark.parametrize("text", ["/sdx", "/sd-metrics"])
def test_a_path_that_only_begins_like_a_taken_one_is_free(text: str) -> None:
    assert units.UrlPath().convert(text, None, None) == text


@pytest.mark.parametrize(
    "text", ["http://a", "https://a.example:10057", "https://a/b/c", "http://[::1]:1"]
)
def test_urls_are_of_http_or_https(text: str) -> None:
    assert units.Url().convert(text, None, None) == text


@pytest.mark.parametrize(
    "text", ["", "a.example", "ftp://a", "https://", "https://a?b", "https://a b", "https://a/b c"]
)
def test_what_is_no_url_is_refused_with_an_example(text: str) -> None:
    assert "write it like https://" in refusal(units.Url().convert, text)


def test_a_password_in_a_url_is_not_quoted() -> None:
    assert "SECRET" not in refusal(units.Url().convert, "https://me:SECRET@a.example")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (units.Duration(), 1.5),
        (units.Buckets(), (1.0, 2.0)),
        (units.Bytes(), 7),
        (units.ListenAddress(), Address("", 1)),
    ],
)
def test_what_is_converted_already_stays(kind: click.ParamType[Any], value: object) -> None:
    assert kind.convert(value, None, None) == value
