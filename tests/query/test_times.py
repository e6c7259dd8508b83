import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.errors import InvalidInput
from nilometer.query import times


@given(st.integers(-(2**50), 2**53))
def test_a_moment_survives_its_text(micros):
    assert times.parse(times.rfc3339(micros), attr="after") == micros


def test_texts_are_rfc_3339_in_utc_with_microseconds():
    assert times.rfc3339(0) == "1970-01-01T00:00:00.000000Z"


def test_an_offset_is_taken_into_account():
    one, other = "2025-07-01T13:00:00+02:00", "2025-07-01T11:00:00Z"
    assert times.parse(one, attr="after") == times.parse(other, attr="after")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2025-07-01T11:00:00", "no time zone"),
        ("2025-07-01T11:00:00 02:00", "write + as %2B"),
        ("yesterday", "is not a time"),
        ("", "is not a time"),
        ("9" * 1000, "is not a time"),
        ("0001-01-01T00:00:00Z", "between the years"),
        ("9999-12-31T23:59:59Z", "between the years"),
        ("2025-07-01T11:00:00Z\x00", "is not a time"),
    ],
)
def test_any_other_text_is_refused_with_what_to_change(text, said):
    with pytest.raises(InvalidInput, match=said.replace("+", r"\+")) as refused:
        times.parse(text, attr="after")
    assert refused.value.attr == "after"
