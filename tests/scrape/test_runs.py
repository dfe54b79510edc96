import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextmv_exporter.nextmv.errors import InvalidResponseError, Reason
from nextmv_exporter.scrape.runs import (
    Application,
    Run,
    parse_applications_page,
    parse_runs_page,
)
from nextmv_exporter.scrape.runs import parse_queue as iterate_queue

GOOD = {
    "status_v2": "queued",
    "execution_class": "8c16gb120m",
    "application_id": "routing",
    "created_at": "2026-11-23T10:00:00Z",
}
texts = st.text(st.characters(exclude_categories=["Cs"]))
anything_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=3,
)


def parse_queue(body: bytes) -> list[Run]:
    return list(iterate_queue(body))


def queue(*runs: Any) -> bytes:
    return json.dumps({"runs": runs}).encode()


def test_a_run_keeps_what_the_metrics_need_and_nothing_else() -> None:
    [run] = parse_queue(queue({**GOOD, "id": "run-1", "options": {"x": [1]}}))
    assert run == Run(**GOOD, id="run-1")


def test_a_queue_may_be_empty() -> None:
    assert parse_queue(b'{"runs": []}') == []


def test_keys_that_are_not_known_are_passed_over() -> None:
    assert parse_queue(b'{"later": {"runs": 1}, "runs": [{"more": null}]}') == [Run()]


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("value", [None, 7, 1.5, True, ["queued"], {"a": 1}], ids=repr)
def test_a_mistyped_field_costs_that_field_alone(field: str, value: object) -> None:
    assert parse_queue(queue({**GOOD, field: value}, GOOD)) == [
        Run(**{**GOOD, field: None}),
        Run(**GOOD),
    ]


@pytest.mark.parametrize("entry", [None, 1, "queued", [GOOD], True], ids=repr)
def test_an_entry_that_is_no_object_is_a_run_of_which_nothing_is_known(entry: object) -> None:
    assert parse_queue(queue(GOOD, entry, GOOD)) == [Run(**GOOD), Run(), Run(**GOOD)]


def test_white_space_around_entries_is_passed_over() -> None:
    body = json.dumps({"runs": [GOOD, 1, GOOD | {"status_v2": 1}]}, indent=8).encode()

    parsed = parse_queue(body.replace(b",", b" \t\r\n , \t\r\n "))

    assert parsed[:2] == [Run(**GOOD), Run()]
    assert parsed[2] == Run(**GOOD | {"status_v2": None})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b'{"runs": [',
        b'{"runs": []} and more',
        b"\xff\xfe\x00",
        b'{"runs": [{"application_id": "\xff"}]}',
        b"[]",
        b"null",
        b'"runs"',
        b"{}",
        b'{"runs": null}',
        b'{"runs": {}}',
        b'{"runs": "none"}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_queue_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(InvalidResponseError) as caught:
        parse_queue(body)
    assert caught.value.reason is Reason.INVALID_RESPONSE
    assert "\n" not in str(caught.value)


def test_a_run_that_nests_too_deeply_is_refused_rather_than_crash() -> None:
    deep = b'{"runs": [{"status_v2": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    with pytest.raises(InvalidResponseError, match="nests too deeply"):
        parse_queue(deep)


@pytest.mark.parametrize(
    "run", [b'{"application_id": "\\ud800"}', b'{"created_at": NaN}', b'{"x": [Infinity]}']
)
def test_what_only_lenient_parsers_take_for_json_is_an_invalid_response(run: bytes) -> None:
    with pytest.raises(InvalidResponseError, match="not valid JSON"):
        parse_queue(b'{"runs": [%s]}' % run)


@given(st.lists(anything_json, max_size=8))
def test_any_list_of_runs_gives_as_many_runs(entries: list[Any]) -> None:
    assert len(parse_queue(queue(*entries))) == len(entries)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, anything_json)))
def test_each_field_is_its_text_or_none(entry: dict[str, Any]) -> None:
    [run] = parse_queue(queue(entry))
    for field in GOOD:
        value = entry.get(field)
        assert getattr(run, field) == (value if isinstance(value, str) else None)


@given(st.binary() | anything_json.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_else(body: bytes) -> None:
    for parse in (parse_queue, parse_runs_page, parse_applications_page):
        with suppress(InvalidResponseError):
            parse(body)


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


def test_a_bad_run_on_a_page_spoils_neither_the_others_nor_the_token() -> None:
    body = (
        b'{"runs": [{"id": 1, "status_v2": "queued"}, 2, {"id": "run-3"}], "next_page_token": "t"}'
    )
    page = parse_runs_page(body)
    assert page.runs == [Run(status_v2="queued"), Run(), Run(id="run-3")]
    assert page.next_page_token == "t"


@pytest.mark.parametrize(
    "body", [b"[]", b"nope", b'{"runs": {"a": 1}}', b'{"runs": [], "next_page_token": 7}']
)
def test_what_is_no_page_of_runs_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        parse_runs_page(body)


def test_a_page_of_applications_gives_their_ids() -> None:
    page = parse_applications_page(b'{"items": [{"id": "a", "name": "A"}], "next_page_token": "t"}')
    assert page.items == [Application("a")]
    assert page.next_page_token == "t"


def test_an_account_may_have_no_applications() -> None:
    assert parse_applications_page(b"{}").items is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"items": {}}', b'{"items": [{"name": "A"}]}'])
def test_an_application_without_an_id_could_hide_runs_so_the_list_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidResponseError, match="applications"):
        parse_applications_page(body)
