from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tscnc_deploy import strict_json

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(DOCUMENTS)
def test_gives_back_what_was_written(document):
    assert strict_json.loads(strict_json.dumps(document)) == document


@given(st.binary(max_size=60) | st.text('[]{}":,0-9.eNaInfity\\ud8 ', max_size=60).map(str.encode))
def test_any_bytes_are_a_document_or_a_value_error(data):
    try:
        document = strict_json.loads(data)
    except ValueError as error:
        assert str(error).isprintable()
    else:
        assert document == json.loads(data)


def test_keys_are_sorted_so_that_equal_documents_have_equal_bytes():
    assert strict_json.dumps({"b": 1, "a": "ä"}) == b'{\n  "a": "\\u00e4",\n  "b": 1\n}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: Expecting value at line 1, column 1"),
        ('{"a": 1', "is not JSON: Expecting ',' delimiter at line 1, column 8"),
        ('{"a": 1}{"a": 2}', "is not JSON: Extra data at line 1, column 9"),
        ('{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice in one object"),
        ('[{"\\u202eexe": 1, "\\u202eexe": 1}]', "has the key '\\u202eexe' twice in one object"),
        ('{"a": NaN}', "holds NaN, which is not a JSON number"),
        ("[-Infinity]", "holds -Infinity, which is not a JSON number"),
        ("[1e999]", "holds the number '1e999', which is too large"),
        ("[" + "9" * 19 + "]", "holds the number '9999999999999999999', which is too large"),
        ("[" + "1" * 5000 + "]", "holds the number '" + "1" * 80 + "...', which is too large"),
        ('["\\ud800"]', "is not text in UTF-8"),
        ("[" * 33 + "]" * 33, "is nested deeper than 32 levels"),
        ('{"a":' * 100_000, "is nested deeper than 32 levels"),
        ("[" * 1_000_000, "is nested deeper than 32 levels"),
    ],
)
def test_refuses_what_has_two_meanings_or_none(text, message):
    with pytest.raises(ValueError) as caught:
        strict_json.loads(text.encode())
    assert str(caught.value) == message


def test_refuses_bytes_that_are_not_utf_8():
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        strict_json.loads(b'{"a": "\xff"}')


def test_takes_as_many_levels_as_it_says():
    assert strict_json.loads(b"[" * 32 + b"]" * 32)


def test_nan_is_not_written():
    with pytest.raises(ValueError):
        strict_json.dumps({"a": float("nan")})
