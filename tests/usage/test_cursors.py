"""Cursors that nobody gave out are refused before a store sees them."""

from __future__ import annotations

import base64
import json

import pytest

from nilometer.errors import InvalidInput
from nilometer.usage import cursors

SUBJECT = ["2026-11-01", "2026-11-21", [], ["job"]]


def _with(part: object) -> str:
    """A cursor of the right query, with another key."""
    text = cursors.encode(("key",), SUBJECT)
    fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return base64.urlsafe_b64encode(json.dumps([*fields[:2], part]).encode()).decode().rstrip("=")


def test_a_cursor_says_where_it_stands():
    assert cursors.decode(_with("nightly 💥"), SUBJECT, 1) == ("nightly 💥",)


@pytest.mark.parametrize("part", ["half \ud800", "\udfff", 1, None, ["a"]])
def test_a_key_that_no_call_has_is_refused(part: object):
    with pytest.raises(InvalidInput) as refused:
        cursors.decode(_with(part), SUBJECT, 1)
    assert refused.value.code == "invalid_cursor"
