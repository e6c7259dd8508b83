import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.errors import InvalidInput
from nilometer.query.paging import Cursor, Listing, Page, decode, encode, page

LISTING = Listing("events", 1, {"event": None, "after": 5})
CURSORS = st.builds(Cursor, st.integers(-(2**63), 2**63 - 1), st.text(max_size=36), st.booleans())


def accept(_):
    return True


@given(CURSORS)
def test_a_cursor_survives_its_text(cursor):
    text = encode(cursor, LISTING)
    assert decode(text, LISTING, key_is_valid=accept) == cursor
    assert text.isascii()
    assert not set(text) & set("+/=&?# ")


@pytest.mark.parametrize(
    "other",
    [
        Listing("events", 2, {"event": None, "after": 5}),
        Listing("traces", 1, {"event": None, "after": 5}),
        Listing("events", 1, {"event": "x", "after": 5}),
    ],
    ids=["project", "list", "filters"],
)
def test_a_cursor_of_another_project_list_or_filter_is_refused(other):
    with pytest.raises(InvalidInput, match="another list, project or set of filters") as refused:
        decode(encode(Cursor(1, "k"), other), LISTING, key_is_valid=accept)
    assert (refused.value.code, refused.value.attr) == ("invalid_cursor", "cursor")


def forged(fields):
    return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode()


DIGEST = LISTING.digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "%%%",
        "é",
        "\x00",
        "A" * 10_000,
        forged({}),
        forged([]),
        forged([2, DIGEST, 1, "k", False]),
        forged([1, DIGEST, "1", "k", False]),
        forged([1, DIGEST, True, "k", False]),
        forged([1, DIGEST, 2**63, "k", False]),
        forged([1, DIGEST, 1, None, False]),
        forged([1, DIGEST, 1, "k", 1]),
        forged([1, [DIGEST], 1, "k", False]),
    ],
)
def test_a_text_that_is_no_cursor_is_refused(text):
    with pytest.raises(InvalidInput) as refused:
        decode(text, LISTING, key_is_valid=accept)
    assert refused.value.code == "invalid_cursor"


def test_a_cursor_with_a_key_of_another_kind_is_refused():
    text = encode(Cursor(1, "not a uuid"), LISTING)
    with pytest.raises(InvalidInput):
        decode(text, LISTING, key_is_valid=str.isalnum)


@given(st.text(max_size=60))
def test_no_text_makes_decoding_fail_otherwise(text):
    with pytest.raises(InvalidInput):
        decode(text, LISTING, key_is_valid=accept)


def make(rows, *, more, cursor):
    return page(rows, more=more, cursor=cursor, listing=LISTING, place=lambda row: (row, "k"))


def test_the_first_page_has_no_previous_and_the_last_no_next():
    assert make([3, 2], more=False, cursor=None) == Page((3, 2), None, None)


def test_a_page_towards_newer_rows_is_given_newest_first():
    shown = make([4, 5], more=False, cursor=Cursor(3, "k", newer=True))
    assert shown.rows == (5, 4)
    assert shown.previous is None
    assert decode(shown.next, LISTING, key_is_valid=accept) == Cursor(4, "k")
