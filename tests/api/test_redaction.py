"""Texts of a server, made short, printable and free of secrets."""

from nextmv_exporter.nextmv.redaction import REDACTED, Redactor


def test_of_secrets_that_start_alike_the_longest_is_removed() -> None:
    assert Redactor("ab", "abcd").hide("abcd ab abc") == f"{REDACTED} {REDACTED} {REDACTED}c"


def test_a_secret_is_removed_as_json_html_and_urls_write_it() -> None:
    text = r"a\/b a/b a%2Fb a%2fb"
    assert Redactor("a/b").hide(text) == " ".join([REDACTED] * 4)
    assert Redactor("a&b").hide("a&amp;b a&b") == f"{REDACTED} {REDACTED}"
    assert Redactor("Ωω").hide("Ωω %CE%A9%CF%89") == f"{REDACTED} {REDACTED}"


def test_a_line_is_cut_at_its_length() -> None:
    assert Redactor("key").clean("x" * 50, 10) == "x" * 10


def test_the_end_of_a_text_that_was_cut_may_be_a_part_of_a_secret() -> None:
    redactor = Redactor("secret")
    longest = redactor._longest
    assert redactor.clean("x" * 50 + "secre", 100, cut=True) == ("x" * 50 + "secre")[:-longest]
    assert redactor.clean("x" * 50 + "secre", 100) == "x" * 50 + "secre"


def test_white_space_and_what_can_not_be_printed_is_a_space() -> None:
    assert Redactor("key").clean(" a\r\n\tb\x00c\x1b[31m ", 80) == "a b c [31m"
