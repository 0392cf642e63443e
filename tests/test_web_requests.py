"""Headers and bodies: what is understood, and what is refused before anything is done."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from ledger.errors import InvalidInput
from ledger.web import headers
from ledger.web.bodies import DEEPEST_BODY, parse_json, request_hash


def request(*named: tuple[str, str | bytes]) -> Request:
    """A request with these headers, as an ASGI server hands it over."""
    raw = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in named
    ]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw})


@pytest.mark.parametrize(
    ("value", "versions"),
    [
        (None, None),
        ("*", None),
        (" * ", None),
        ('"12"', [12]),
        ('"0"', [0]),
        ('"1", "2" ,"3"', [1, 2, 3]),
        ('"1",,"2",', [1, 2]),
        ('W/"12"', []),
        ('W/"12", "13"', [13]),
        ('"012"', []),
        ('"abc"', []),
        ('"1,2"', []),
        ('""', []),
        ('"99999999999999999999999"', []),
        ('"１"'.encode(), []),
    ],
)
def test_if_match_names_versions(value, versions):
    """Tags compare strongly and by their octets; what is no version of ours matches nothing."""
    given_headers = () if value is None else (("If-Match", value),)
    assert headers.if_match(request(*given_headers)) == versions


def test_if_match_may_come_in_several_lines():
    """RFC 9110: lines of a list header are one list."""
    assert headers.if_match(request(("If-Match", '"1"'), ("If-Match", '"2"'))) == [1, 2]


@pytest.mark.parametrize(
    "value", ["", " ", ",", "12", '"12', '12"', '"1""2"', '"1" "2"', "*, *", 'w/"1"', "W/1"]
)
def test_a_malformed_if_match_is_refused(value):
    """A precondition that is not understood must not be taken for fulfilled."""
    with pytest.raises(InvalidInput, match="If-Match"):
        headers.if_match(request(("If-Match", value)))


@pytest.mark.parametrize(
    ("value", "unchanged"),
    [('"7"', True), ('W/"7"', True), ('"6", "7"', True), ("*", True), ('"6"', False)],
)
def test_if_none_match_compares_weakly(value, unchanged):
    """A cache may hold the weak form of what we sent."""
    assert headers.unchanged(request(("If-None-Match", value)), 7) is unchanged


def test_without_if_none_match_nothing_is_unchanged():
    """A plain GET gets a body."""
    assert headers.unchanged(request(), 7) is False


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é", "a\tb", "\x7f"])
def test_an_unusable_idempotency_key_is_refused(key):
    """1 to 255 visible ASCII characters, so that what is compared is what was meant."""
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        headers.idempotency_key(request(("Idempotency-Key", key)))


@pytest.mark.parametrize("key", ["a", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_an_idempotency_key_is_taken_as_it_is(key):
    """The header draft's quoted strings are keys like any other."""
    assert headers.idempotency_key(request(("Idempotency-Key", key))) == key


def test_two_idempotency_keys_are_refused():
    """Nobody can say which one is meant."""
    with pytest.raises(InvalidInput, match="at most once"):
        headers.idempotency_key(request(("Idempotency-Key", "a"), ("Idempotency-Key", "b")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("New law from July", "New law from July"),
        ("New%20law", "New law"),
        ("100%25 sure", "100% sure"),
        ("100% sure", "100% sure"),
        ("%E2%82%AC", "€"),
        ("Größe €".encode(), "Größe €"),
        ("Größe %E2%82%AC".encode(), "Größe €"),
        ("x" * 1000, "x" * 1000),
        ("", None),
        ("  ", None),
        ("%20", None),
    ],
)
def test_a_reason_is_utf_8_percent_encoded_or_raw(value, text):
    """Browsers must encode, curl sends bytes: both say the same."""
    assert headers.reason(request(("X-Ledger-Reason", value))) == text


@pytest.mark.parametrize("value", [b"\xff", "%FF", "%ED%A0%80", "%00", "a%0Ab", "x" * 1001])
def test_an_unusable_reason_is_refused(value):
    """Other encodings, control characters and overlong texts are refused by the header's name."""
    with pytest.raises(InvalidInput, match="X-Ledger-Reason"):
        headers.reason(request(("X-Ledger-Reason", value)))


def nested(levels: int) -> bytes:
    """Lists within lists."""
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "line 1"),
        (b"{", "line 1"),
        (b'{"a":1,}', "line 1"),
        (b"{'a':1}", "line 1"),
        (b'{"a":1} x', "line 1"),
        (b"\xff", "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "line 1"),
        (b"NaN", "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":-Infinity}', "Infinity"),
        (b"1e999", "out of range"),
        (b"1" * 5000, "out of range"),
        (b'{"a":1,"a":1}', "'a'"),
        (b'{"x":{"a":1,"b":2,"a":3}}', "'a'"),
        (b'{"\\ud800":1,"\\ud800":2}', "more than once"),
        (nested(DEEPEST_BODY + 1), "nested deeper"),
        (nested(30_000), "nested deeper"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "nested deeper"),
    ],
)
def test_what_parsers_disagree_about_is_refused(body, problem):
    """Nothing is guessed: whatever is not plain JSON is refused, saying why."""
    with pytest.raises(InvalidInput, match=problem):
        parse_json(body)


def test_nesting_up_to_the_limit_is_read():
    """The limit itself is allowed."""
    assert json.dumps(parse_json(nested(DEEPEST_BODY))).count("[") == DEEPEST_BODY


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(plain_json)
def test_plain_json_is_read_as_it_is(value):
    """Whatever another program writes as JSON comes out the same."""
    assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) is not ...
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    """No bytes at all bring the reader down."""
    try:
        parse_json(body)
    except InvalidInput as refusal:
        assert refusal.name == "body"  # noqa: PT017 - both ways are fine, a third is not


def test_the_same_request_has_the_same_hash():
    """Spaces and order make no difference; method, path, precondition and content do."""
    base = request_hash("PATCH", "/a", None, {"x": 1, "y": [True, None]})
    assert base == request_hash("PATCH", "/a", None, {"y": [True, None], "x": 1})
    others = {
        request_hash("PUT", "/a", None, {"x": 1, "y": [True, None]}),
        request_hash("PATCH", "/b", None, {"x": 1, "y": [True, None]}),
        request_hash("PATCH", "/a", [], {"x": 1, "y": [True, None]}),
        request_hash("PATCH", "/a", [1], {"x": 1, "y": [True, None]}),
        request_hash("PATCH", "/a", None, {"x": True, "y": [True, None]}),
        request_hash("PATCH", "/a", None, {"x": "\ud800", "y": [True, None]}),
    }
    assert len(others | {base}) == 7
