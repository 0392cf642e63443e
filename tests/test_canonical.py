"""The canonical bytes and leaf hashes: what is stored for ever has exactly one form."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import LARGEST_INTEGER, canonical_bytes, leaf_hash, printable

# All that may be stored: ASCII keys, text that UTF-8 holds without NUL, integers below 2**53.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
keys = st.text(st.characters(codec="ascii", exclude_characters="\x00"), max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(keys, values, max_size=5)


@given(documents)
def test_the_bytes_are_those_of_rfc_8785(document: dict[str, Any]) -> None:
    """On the restricted domain the encoding is exactly RFC 8785's, as another library has it."""
    assert canonical_bytes(document) == rfc8785.dumps(document)


@given(documents)
def test_reading_the_bytes_gives_the_value_back(document: dict[str, Any]) -> None:
    """Nothing is lost, and encoding again gives the same bytes."""
    encoded = canonical_bytes(document)
    assert json.loads(encoded) == document
    assert canonical_bytes(json.loads(encoded)) == encoded


@given(documents, st.randoms())
def test_the_order_of_keys_does_not_matter(document: dict[str, Any], chance: Any) -> None:
    """Equal values have equal bytes, in whatever order their keys were put in."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(name, shuffled(item)) for name, item in value.items()]
            chance.shuffle(items)
            return dict(items)
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert canonical_bytes(shuffled(document)) == canonical_bytes(document)


@given(documents, documents)
def test_different_values_have_different_bytes(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Bytes are equal only where the values are."""
    if canonical_bytes(a) == canonical_bytes(b):
        assert json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    else:
        assert json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True)


def test_one_document_is_pinned() -> None:
    """Sorted keys, no spaces, UTF-8 as it is, the short escapes of JSON, no others."""
    document = {"é".encode().hex(): "é€😀", "b": [True, None, -0, 2**53 - 1], "a": '"\\/\n\x1f\x7f'}
    assert canonical_bytes(document) == (
        b'{"a":"\\"\\\\/\\n\\u001f\x7f","b":[true,null,0,9007199254740991],'
        b'"c3a9":"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"}'
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0.5, "float has no canonical form"),
        (1.0, "float has no canonical form"),
        (float("nan"), "float has no canonical form"),
        (2**53, "an integer must be below 2\\*\\*53"),
        (-(2**53), "an integer must be below 2\\*\\*53"),
        ("a\x00b", "text must not contain the character NUL"),
        ("\ud800", "text must not contain a lone surrogate"),
        ("\udc00\ud800", "text must not contain a lone surrogate"),
        (b"bytes", "bytes has no canonical form"),
        ({1, 2}, "set has no canonical form"),
        ({"é": 1}, "a key must be ASCII text"),
        ({"\ud800": 1}, "a key must be ASCII text"),
        ({"a\x00": 1}, "a key must be ASCII text without NUL"),
        ({1: 1}, "a key must be ASCII text"),
        ({None: 1}, "a key must be ASCII text"),
    ],
)
def test_whatever_has_no_canonical_form_is_rejected(value: object, why: str) -> None:
    """A value outside the restricted domain is an error wherever it stands, never a guess."""
    for document in ({"a": value}, {"a": [{"b": [value]}]}):
        with pytest.raises(ValueError, match=why):
            canonical_bytes(document)


def test_the_largest_integers_are_kept() -> None:
    """2**53 - 1 and its negative are the last that every JSON reader has exactly."""
    assert canonical_bytes({"a": 2**53 - 1, "b": 1 - 2**53}) == (
        b'{"a":9007199254740991,"b":-9007199254740991}'
    )


@given(st.text())
def test_what_is_printable_can_be_encoded(text: str) -> None:
    """Any text can be shown in a message; text that is in order is shown unchanged."""
    shown = printable(text)
    shown.encode("utf-8")
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert shown == text


# --- leaf hashes -----------------------------------------------------------------------------

SITE = UUID("11111111-2222-4333-8444-555555555555")


def frozen_leaf(originator: UUID, version: int, previous: bytes, topic: str, state: bytes) -> bytes:
    """The leaf as the design's "Frozen" spells it, written apart from the code."""
    digest = hashlib.sha256()
    digest.update(b"\x00")
    digest.update(b"settings-ledger/1")
    digest.update(originator.bytes)
    digest.update(bytes([*[0] * 7, version]))
    digest.update(previous)
    digest.update(hashlib.sha256(topic.encode()).digest())
    digest.update(hashlib.sha256(state).digest())
    return digest.digest()


def test_the_first_leaf_follows_thirty_two_zero_bytes() -> None:
    """Version 1 is chained to zeros, and later versions to the leaf before."""
    first = leaf_hash(SITE, 1, None, "ledger:T", b"{}")
    assert first == frozen_leaf(SITE, 1, bytes(32), "ledger:T", b"{}")
    second = leaf_hash(SITE, 2, first, "ledger:T", b"{}")
    assert second == frozen_leaf(SITE, 2, first, "ledger:T", b"{}")
    assert first.hex() == "c38ce083cb780b29c1e4ef2c73c59af7520bf395856169474242e61f29c51e40"
    assert second.hex() == "82c34b52a2ded08a89bcf58ee03ba7dc4c43322a7aef1aa993d12f132d77a9c4"


def test_a_leaf_binds_everything_that_it_names() -> None:
    """Another site, version, predecessor, topic or state gives another leaf."""
    other_site = UUID(int=SITE.int + 1)
    leaves = {
        leaf_hash(SITE, 2, bytes(32), "a", b"b"),
        leaf_hash(other_site, 2, bytes(32), "a", b"b"),
        leaf_hash(SITE, 3, bytes(32), "a", b"b"),
        leaf_hash(SITE, 2, bytes([1] * 32), "a", b"b"),
        leaf_hash(SITE, 2, bytes(32), "ab", b""),
        leaf_hash(SITE, 2, bytes(32), "", b"ab"),
        leaf_hash(SITE, 2, bytes(32), "a", b"c"),
    }
    assert len(leaves) == 7
