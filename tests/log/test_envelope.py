from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.log.envelope import VERSION, Envelope, EnvelopeBroken, EnvelopeTooNew, decode
from tests.log.logs import envelope

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.builds(
        Envelope,
        project_id=INT64,
        uuid=TEXT,
        door=TEXT,
        door_version=INT64,
        accepted_at=INT64,
        config_version=INT64,
        payload=st.binary(),
        data_key_id=st.none() | TEXT,
        trace_context=st.none() | TEXT,
    )
)
def test_an_envelope_comes_back_as_it_went_in(sent: Envelope) -> None:
    assert decode(sent.headers(), sent.payload) == sent


def fields(**changes: object) -> bytes:
    known = orjson.loads(envelope(1).headers()) | changes
    return orjson.dumps({name: value for name, value in known.items() if value != "absent"})


def test_a_header_that_a_reader_does_not_know_is_ignored() -> None:
    assert decode(fields(shard=7), envelope(1).payload) == envelope(1)


def test_an_optional_header_may_be_absent() -> None:
    headers = fields(data_key_id="absent", trace_context="absent")
    assert decode(headers, envelope(1).payload) == envelope(1)


def test_a_newer_version_is_refused_even_if_it_looks_readable() -> None:
    with pytest.raises(EnvelopeTooNew, match=str(VERSION + 1)):
        decode(fields(v=VERSION + 1), b"")


def test_a_newer_version_is_told_apart_before_its_headers_are_read() -> None:
    with pytest.raises(EnvelopeTooNew):
        decode(orjson.dumps({"v": 99}), b"")


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        fields(v=0),
        fields(v=-1),
        fields(v="1"),
        fields(v=None),
        fields(v=True),
        fields(v=1.0),
        fields(v="absent"),
        fields(project_id="1"),
        fields(project_id=True),
        fields(project_id=1.5),
        fields(project_id="absent"),
        fields(uuid=None),
        fields(uuid="absent"),
        fields(door=1),
        fields(accepted_at="absent"),
        fields(data_key_id=1),
        fields(trace_context=[]),
    ],
)
def test_headers_that_cannot_be_read_are_broken(headers: bytes) -> None:
    with pytest.raises(EnvelopeBroken):
        decode(headers, b"")
