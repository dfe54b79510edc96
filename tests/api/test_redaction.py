"""Texts of a server, made short, printable and free of secrets."""

import html
import json
import time
from urllib.parse import quote

import pytest

from nextmv_exporter.nextmv import redaction
from nextmv_exporter.nextmv.redaction import REDACTED, Redactor


def test_of_secrets_that_start_alike_the_longest_is_removed() -> None:
    assert Redactor("ab", "abcd").hide("abcd ab abc") == f"{REDACTED} {REDACTED} {REDACTED}c"


def test_a_secret_is_removed_as_json_html_and_urls_write_it() -> None:
    text = r"a\/b a/b a%2Fb a%2fb"
    assert Redactor("a/b").hide(text) == " ".join([REDACTED] * 4)
    assert Redactor("a&b").hide("a&amp;b a&b") == f"{REDACTED} {REDACTED}"
    assert Redactor("Ωω").hide("Ωω %CE%A9%CF%89") == f"{REDACTED} {REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        "a+b/c=", "A+B/C=", "a&#43;b/c=", "a&#x2b;b&#x2F;c=", "a&plus;b&sol;c&equals;",
        r"a\u002Bb\/c=", r"a\u002bb\u002Fc\u003d", r"\u0061\u002b\u0062\u002f\u0063\u003d",
        r"a\x2bb\x2Fc\x3D", "a%2Bb%2fc%3D", "%61%2B%62%2F%63%3D", "a%252Bb/c=",
        "a&amp;#43;b/c=", r"a\u0026#43;b/c=", r"a\\u002Bb/c=", "a%26%2343;b/c=",
    ],
)  # fmt: skip
def test_a_secret_is_removed_whatever_stands_for_its_characters(text: str) -> None:
    assert Redactor("a+b/c=").hide(f"x {text} y") == f"x {REDACTED} y"


@pytest.mark.parametrize("secret", ["a\\u0041b", "a%41b", "a&amp;b", "a\\b&<c", "Ωω😀", "a\"b'"])
def test_a_secret_that_looks_like_an_escape_is_removed_as_it_is_and_escaped(secret: str) -> None:
    forms = [secret, html.escape(secret), json.dumps(secret)[1:-1], quote(secret, safe="")]
    text = " ".join(forms)
    assert Redactor(secret).hide(text) == " ".join([REDACTED] * 4)


def test_the_rest_of_a_text_with_escapes_stays_as_it_is() -> None:
    text = r"&lt;b&gt; \u00e9 \n %20 100% \ & ;"
    assert Redactor("secret").hide(text) == text


def test_only_the_start_of_a_long_text_is_read() -> None:
    began = time.process_time()
    assert Redactor("secret").clean("&#43;" * 10_000_000, 20) == "&#43;&#43;&#43;&#43;"
    assert time.process_time() - began < 5


def test_four_characters_of_base64_are_enough_to_be_removed() -> None:
    assert Redactor("abc").hide("YWJj xYWJj eGFiYw") == f"{REDACTED} x{REDACTED} eGFiYw"


def test_a_line_is_cut_at_its_length() -> None:
    assert Redactor("key").clean("x" * 50, 10) == "x" * 10


def test_the_end_of_a_text_that_was_cut_may_be_a_part_of_a_secret() -> None:
    redactor = Redactor("secret")
    longest = redactor._longest
    assert redactor.clean("x" * 50 + "secre", 100, cut=True) == ("x" * 50 + "secre")[:-longest]
    assert redactor.clean("x" * 50 + "secre", 100) == "x" * 50 + "secre"


def test_the_end_that_is_cut_is_as_long_as_the_longest_secret_may_be() -> None:
    text = "x" * 500 + "a" * 39
    assert Redactor("zz", "a" * 40).clean(text, 1000, cut=True).strip("x") == ""


def test_a_text_is_cut_if_it_is_longer_than_what_is_read() -> None:
    redactor = Redactor("secret")
    read = redaction._LONGEST + redactor._longest
    assert redactor.clean("end".rjust(read), 10) == "end"
    assert redactor.clean("end".rjust(read + 1), 10) == ""


def test_white_space_and_what_can_not_be_printed_is_a_space() -> None:
    assert Redactor("key").clean(" a\r\n\tb\x00c\x1b[31m ", 80) == "a b c [31m"
