"""From the response's bytes to runs."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.outcomes import moment

from nextmv_exporter.nextmv.errors import InvalidResponseError, Reason
from nextmv_exporter.scrape import runs as parsing
from nextmv_exporter.scrape.runs import (
    BYTES_PER_RUN,
    FEW_RUNS,
    MAX_PIECE,
    Application,
    Run,
    parse_applications_page,
    parse_runs_page,
)

GOOD = {
    "status_v2": "queued",
    "execution_class": "8c16gb120m",
    "application_id": "routing",
    "created_at": "2026-11-23T10:00:00Z",
    "id": "run-1",
}
RUN = Run("queued", "8c16gb120m", "routing", datetime(2026, 11, 23, 10, tzinfo=UTC), "run-1")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["},{", '"}, {"', '"runs":[', "]}", "\\", '\\"},{"id":"']
)
anything_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
entries = (
    st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, anything_json | texts)) | anything_json
)
spaces = st.sampled_from(["", " ", "\n", "\t\r\n  "])


def parse_queue(body: bytes) -> list[Run]:
    return list(parsing.parse_queue(body))


def queue(*entries: Any) -> bytes:
    return json.dumps({"runs": entries}).encode()


def without(run: Run, field: str) -> Run:
    return Run(**{name: getattr(run, name) for name in GOOD if name != field})


def test_a_run_keeps_what_the_metrics_need_and_nothing_else() -> None:
    assert parse_queue(queue({**GOOD, "name": "Daily", "options": {"x": [1]}})) == [RUN]


def test_a_queue_may_be_empty() -> None:
    assert parse_queue(b'{"runs": []}') == []


def test_unknown_keys_are_ignored() -> None:
    assert parse_queue(b'{"later": {"runs": 1}, "runs": [{"more": null}]}') == [Run()]


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("value", [None, 7, 1.5, True, ["queued"], {"a": 1}], ids=repr)
def test_a_mistyped_field_affects_that_field_alone(field: str, value: object) -> None:
    assert parse_queue(queue({**GOOD, field: value}, GOOD)) == [without(RUN, field), RUN]


@pytest.mark.parametrize("value", ["", "yesterday", "2026-02-30T00:00:00Z", "1764892800"])
def test_a_created_at_that_is_no_moment_affects_that_field_alone(value: str) -> None:
    assert parse_queue(queue({**GOOD, "created_at": value}, GOOD)) == [
        without(RUN, "created_at"),
        RUN,
    ]


@pytest.mark.parametrize("entry", [None, 1, "queued", [GOOD], True], ids=repr)
def test_an_entry_that_is_not_an_object_is_a_run_of_which_nothing_is_known(entry: object) -> None:
    assert parse_queue(queue(GOOD, entry, GOOD)) == [RUN, Run(), RUN]


def test_white_space_around_entries_is_ignored() -> None:
    body = json.dumps({"runs": [GOOD, 1, GOOD | {"status_v2": 1}]}, indent=8).encode()
    assert parse_queue(body.replace(b",", b" \t\r\n , \t\r\n ")) == [
        RUN,
        Run(),
        without(RUN, "status_v2"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b'{"runs": [',
        b'{"runs": []} and more',
        b"\xff\xfe\x00",
        b'{"runs": [{"application_id": "\xff"}]}',
        b'{"runs": [{"application_id": 1}, {"application_id": "\xff"}]}',
        b"[]",
        b"null",
        b'"runs"',
        b"{}",
        b'{"runs": null}',
        b'{"runs": {}}',
        b'{"runs": "none"}',
        b"[" * 100_000,
        b'{"runs": [{"application_id": "\\ud800"}]}',
        b'{"runs": [{"created_at": NaN}]}',
        b'{"runs": [{"x": [Infinity]}]}',
        b'\xef\xbb\xbf{"runs": []}',
    ],
    ids=lambda body: repr(body[:45]),
)
def test_what_is_not_a_queue_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(InvalidResponseError) as caught:
        parse_queue(body)
    assert caught.value.reason is Reason.INVALID_RESPONSE
    assert re.match(
        r'the response is not a list of runs: |the response has no list of "runs"$'
        r"|an entry of more than \d+ lists and objects$",
        str(caught.value),
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"x":', b"}")])
def test_a_run_that_nests_too_deeply_is_refused(opening: bytes, closing: bytes) -> None:
    deep = opening * 100_000 + b"1" + closing * 100_000
    with pytest.raises(InvalidResponseError):
        parse_queue(b'{"runs": [{"status_v2": %s}]}' % deep)


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 6000 + b"]" * 6000,
        b"[" + b"{}," * 6000 + b"{}]",
        b'{"":' * 5000 + b"1" + b"}" * 5000,
        b'{"":' * 5000,
    ],
    ids=["nested lists", "listed objects", "nested objects", "objects that do not end"],
)
def test_a_run_of_too_many_lists_and_objects_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidResponseError, match="more than 5000 lists and objects"):
        parse_queue(b'{"runs": [{"x": %s}]}' % value)


def test_a_run_may_have_any_number_of_strings_and_of_brackets_in_them() -> None:
    text = "[{" * 6000
    run = {"id": text, "x": ["y"] * 6000}
    assert parse_queue(json.dumps({"runs": [run]}).encode()) == [Run(id=text)]


# Pieces


@pytest.mark.parametrize(
    "second",
    [
        b"[]",
        b"null",
        b'[{"id":""}]',
        b'[{"id":"x"}, {"id":"y"}]',
        b"[%s{}]" % (b'{"id":""},' * 900),
    ],
    ids=lambda second: second[:30].decode(),
)
@pytest.mark.parametrize("key", [b"runs", rb"\u0072uns"])
@pytest.mark.parametrize("number", [10, 1000, 5000])
def test_a_second_list_of_runs_replaces_the_first_or_the_response_is_invalid(
    number: int, key: bytes, second: bytes
) -> None:
    runs = b",".join(b'{"id":"run-%d","status_v2":"queued","name":"x"}' % n for n in range(number))
    body = b'{"runs":[%s],"%s":%s}' % (runs, key, second)
    last = json.loads(second)
    if number == 10 and last is not None:  # as every parser of JSON has it
        assert [run.id for run in parse_queue(body)] == [run.get("id") for run in last]
    else:
        with pytest.raises(
            InvalidResponseError, match=r"^the response has (two lists of the same name|no list of)"
        ):
            list(parse_queue(body))


def in_pieces(size: int) -> Any:
    """Decode in pieces of that many bytes, so that short responses have many."""
    return mock.patch.object(parsing, "_PIECE", size)


def expected(entry: Any) -> Run:
    """What is known of an entry, by the standard library."""
    known = entry if isinstance(entry, dict) else {}
    run = Run()
    for name in GOOD:
        if isinstance(text := known.get(name), str):
            setattr(run, name, text if name != "created_at" else moment(text))
    return run


@given(st.lists(entries, max_size=8), st.integers(0, 60), spaces, st.booleans())
@example([{"x": [{}, {}, {}]}, {"name": "},{"}, {}], 0, "", False)
def test_a_response_gives_the_same_runs_in_pieces_of_any_size(
    listed: list[Any], size: int, space: str, ascii_only: bool
) -> None:
    separators = (f"{space},{space}", f"{space}:{space}")
    body = json.dumps({"runs": listed}, separators=separators, ensure_ascii=ascii_only).encode()
    with in_pieces(size):
        assert parse_queue(body) == [expected(entry) for entry in listed]
        assert (parse_runs_page(body).runs or []) == [expected(entry) for entry in listed]


def test_ordinary_runs_are_divided_at_their_gaps_without_looking_at_each_token() -> None:
    runs = [{"id": f"run-{number}", "status_v2": "queued"} for number in range(5000)]
    body = json.dumps({"runs": runs}).encode()
    assert len(body) > 10 * parsing._PIECE
    with mock.patch.object(parsing, "_end_of_entry", side_effect=AssertionError):
        assert len(parse_queue(body)) == len(runs)


@pytest.mark.parametrize(
    "value",
    [
        "},{" * 8000,
        "]}" * 12000,
        [{"x": [{"y": "}" * 50}]}] * 300,
        {"x": {"y": [[{}, {"z": "]" * 50}], [{}]] * 300}},
    ],
    ids=["gaps in text", "ends in text", "list of objects", "objects of lists"],
)
def test_runs_longer_than_a_piece_are_still_taken_one_by_one_whatever_they_hold(
    value: object,
) -> None:
    size = len(json.dumps(value, separators=(",", ":")))
    assert size > parsing._PIECE
    number_of_runs = parsing.MAX_PIECE // size + 1
    runs = [{"id": f"run-{number}", "name": value} for number in range(number_of_runs)]
    body = json.dumps({"runs": runs}, separators=(",", ":")).encode()
    assert len(body) > parsing.MAX_PIECE
    assert parse_queue(body) == [Run(id=f"run-{number}") for number in range(number_of_runs)]


@given(st.lists(entries, max_size=5), st.dictionaries(texts, anything_json, max_size=3), st.data())
def test_other_lists_of_objects_are_not_taken_for_runs(
    listed: list[Any], others: dict[str, Any], data: st.DataObject
) -> None:
    others = {key: value for key, value in others.items() if key not in {"runs", "next_page_token"}}
    others |= {"before": [{"id": "x"}, {"id": "y"}], "after": {"runs": [{}, {}]}, "last": [{}] * 9}
    keys = data.draw(st.permutations([*others, "runs", "next_page_token"]))
    response = others | {"runs": listed, "next_page_token": "t"}
    body = json.dumps({key: response[key] for key in keys}).encode()
    with in_pieces(data.draw(st.integers(0, 30))):
        page = parse_runs_page(body)
    assert (page.runs or []) == [expected(entry) for entry in listed]
    assert page.next_page_token == "t"


@given(
    st.integers(0, 40), st.integers(0, 200), st.sampled_from([b"", b"]", b"}", b'"', b"{", b"["])
)
def test_a_response_that_is_cut_or_changed_is_not_read_in_part(
    size: int, position: int, change: bytes
) -> None:
    body = queue(GOOD, {"x": [{}, {}]}, GOOD)
    position %= len(body)
    changed = body[:position] + change + body[position + 1 :]
    try:
        json.loads(changed)
    except ValueError:
        with in_pieces(size), pytest.raises(InvalidResponseError):
            parse_queue(changed)


@given(st.lists(entries, max_size=8))
def test_each_entry_gives_a_run(listed: list[Any]) -> None:
    assert len(parse_queue(queue(*listed))) == len(listed)


@given(
    st.binary() | anything_json.map(lambda value: json.dumps(value).encode()), st.integers(0, 30)
)
def test_no_body_raises_anything_else(body: bytes, size: int) -> None:
    for parse in (parse_queue, parse_runs_page, parse_applications_page):
        with in_pieces(size), suppress(InvalidResponseError):
            parse(body)


LONG = b'{"name":"' + b"x" * 20_000 + b'},{"}'  # no gap shows where it ends


@pytest.mark.parametrize("parse", [parse_queue, parse_runs_page])
@pytest.mark.parametrize(
    "listed", [LONG + b" " + LONG, LONG + b",", LONG + b",,{}", LONG + b",{},", b"," + LONG]
)
def test_a_comma_too_few_or_too_many_is_invalid_between_pieces_too(
    parse: Callable[[bytes], object], listed: bytes
) -> None:
    assert len(parse_queue(b'{"runs":[' + LONG + b" , " + LONG + b"]}")) == 2
    with pytest.raises(InvalidResponseError):
        parse(b'{"runs":[' + listed + b"]}")


def test_a_run_of_a_megabyte_is_read() -> None:
    long = {**GOOD, "name": '},{"' * 250_000}
    assert parse_queue(queue(*[GOOD] * 100, long, GOOD)) == [RUN] * 102


def test_a_run_that_is_longer_than_a_piece_may_be_is_refused() -> None:
    with pytest.raises(InvalidResponseError, match=f"more than {MAX_PIECE} bytes"):
        parse_queue(queue(*[GOOD] * 100, {"name": "x" * MAX_PIECE}, GOOD))


def test_a_response_without_gaps_may_be_as_long_as_a_piece_and_no_longer() -> None:
    assert parse_queue(b'{"runs":[]}'.ljust(MAX_PIECE)) == []
    with pytest.raises(
        InvalidResponseError, match=f"^more than {MAX_PIECE} bytes without the end of an entry$"
    ):
        parse_queue(b'{"runs":[]}'.ljust(MAX_PIECE + 1))


def test_few_runs_may_be_of_any_size_but_many_may_not_be_tiny() -> None:
    assert len(parse_queue(queue(*[{}] * FEW_RUNS))) == FEW_RUNS
    body = queue(*[{}] * (FEW_RUNS + 1))
    with pytest.raises(InvalidResponseError, match=f"^too many entries for {len(body)} bytes$"):
        parse_queue(body)
    padded = b'{"runs":[' + b",".join([b"{}".ljust(BYTES_PER_RUN)] * (FEW_RUNS + 1)) + b"]}"
    assert len(parse_queue(padded)) == FEW_RUNS + 1


# Pages


def test_a_list_of_values_that_are_not_runs_is_refused_before_they_are_decoded() -> None:
    with pytest.raises(InvalidResponseError) as caught:
        parse_queue(b'{"runs": [' + b"1," * 100_001 + b"1]}")
    assert str(caught.value) == "too many values that are not runs"


def test_a_page_of_runs_names_the_next() -> None:
    page = parse_runs_page(
        b'{"runs": [{"id": "run-1", "status_v2": "queued"}], "next_page_token": "t"}'
    )
    assert page.runs == [Run(id="run-1", status_v2="queued")]
    assert page.next_page_token == "t"


@pytest.mark.parametrize("body", [b"{}", b'{"runs": null, "next_page_token": null}'])
def test_an_application_may_have_no_runs(body: bytes) -> None:
    page = parse_runs_page(body)
    assert not page.runs
    assert page.next_page_token is None


def test_a_bad_run_on_a_page_affects_neither_the_others_nor_the_token() -> None:
    body = (
        b'{"runs": [{"id": 1, "status_v2": "queued"}, 2, {"id": "run-3"}], "next_page_token": "t"}'
    )
    page = parse_runs_page(body)
    assert page.runs == [Run(status_v2="queued"), Run(), Run(id="run-3")]
    assert page.next_page_token == "t"


@pytest.mark.parametrize(
    "body", [b"[]", b"nope", b'{"runs": {"a": 1}}', b'{"runs": [], "next_page_token": 7}']
)
def test_what_is_not_a_page_of_runs_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        parse_runs_page(body)


def test_a_page_of_runs_may_be_longer_than_a_piece() -> None:
    long = {**GOOD, "name": "x" * (MAX_PIECE // 10)}
    page = parse_runs_page(json.dumps({"runs": [long] * 15, "next_page_token": "t"}).encode())
    assert page.runs == [RUN] * 15
    assert page.next_page_token == "t"


def test_a_page_of_applications_gives_their_ids() -> None:
    page = parse_applications_page(b'{"items": [{"id": "a", "name": "A"}], "next_page_token": "t"}')
    assert page.items == [Application("a")]
    assert page.next_page_token == "t"


def test_a_long_page_of_applications_gives_them_all() -> None:
    items = [{"id": f"app-{number}", "name": "},{" * 10} for number in range(3000)]
    page = parse_applications_page(json.dumps({"items": items, "next_page_token": "t"}).encode())
    assert page.items == [Application(item["id"]) for item in items]
    assert page.next_page_token == "t"


def test_a_page_of_applications_may_be_longer_than_a_piece() -> None:
    items = [{"id": f"app-{number}", "name": "x" * (MAX_PIECE // 10)} for number in range(15)]
    page = parse_applications_page(json.dumps({"items": items}).encode())
    assert page.items == [Application(item["id"]) for item in items]


def test_an_account_may_have_no_applications() -> None:
    assert parse_applications_page(b"{}").items is None


def test_an_application_that_nests_too_deeply_is_refused() -> None:
    deep = b"[" * 6000 + b"]" * 6000
    with pytest.raises(InvalidResponseError, match="more than 5000 lists and objects"):
        parse_applications_page(b'{"items": [{"id": "a", "x": %s}]}' % deep)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"items": {}}', b'{"items": [{"name": "A"}]}'])
def test_an_application_without_an_id_could_hide_runs_so_the_list_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidResponseError, match=r"^invalid list of applications: "):
        parse_applications_page(body)
