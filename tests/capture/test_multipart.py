"""The multipart reader: what it refuses, and that chunks never matter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.capture.content_type import form_boundary
from nilometer.capture.multipart import FormParser, Part
from nilometer.capture.refusals import BoundaryCollision, DecodingFault
from tests.capture.door import raw_form

Parts = list[tuple[str, bytes]]


def read(body: bytes, *, cuts: list[int] | None = None, max_parts: int = 8) -> Parts:
    """The parts of a body that arrives in chunks, cut at these positions."""
    parser = FormParser("b", max_parts=max_parts)
    parts: Parts = []
    edges = [0, *sorted(set(cuts or [])), len(body)]
    for start, end in pairwise(edges):
        for item in parser.feed(body[start:end]):
            if isinstance(item, Part):
                parts.append((item.field, b""))
            elif item is not None:
                parts[-1] = (parts[-1][0], parts[-1][1] + item)
    parser.finish()
    return parts


def outcome(body: bytes, cuts: list[int]) -> Parts | type[Exception]:
    try:
        return read(body, cuts=cuts)
    except DecodingFault:
        return DecodingFault


VALID = raw_form(("event", b"{}\r\n--not the boundary\r\n-"), ("event.properties.x", b"\r\n--\r"))
BODIES = {
    "valid": VALID,
    "leading line break": b"\r\n" + VALID,
    "epilogue": VALID + b"\r\nan epilogue --b\r\n--b\r\n",
    "no parts": b"--b--\r\n",
    "preamble": b"preamble\r\n" + VALID,
    "collision": raw_form(("event", b"one\r\n--bx two")),
    "declared too long": raw_form(b"Content-Length: 9\r\n\r\nshort"),
    "declared too short": raw_form(b"Content-Length: 3\r\n\r\nlonger"),
    "exact": raw_form(b"Content-Length: 6\r\n\r\nlonger"),
    "bare line feed": raw_form(b'Content-Disposition: form-data;\n name="event"\r\n\r\nx'),
    "carriage return in a header": raw_form(b"A: x\ry\r\n\r\nx"),
    "folded header": raw_form(b"A: x\r\n y\r\n\r\nx"),
    "no colon": raw_form(b"A\r\n\r\nx"),
    "long header": raw_form(b"A: " + b"x" * 5000 + b"\r\n\r\nx"),
    "many headers": raw_form(b"A: x\r\n" * 17 + b"\r\nx"),
    "cut": VALID[:-4],
    "cut in a part": VALID[:60],
    "cut in a header": VALID[:20],
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_cut_anywhere_is_read_as_a_whole_one_is(name):
    body = BODIES[name]
    expected = outcome(body, [])
    for cut in range(len(body)):
        assert outcome(body, [cut]) == expected, cut
    assert outcome(body, list(range(len(body)))) == expected


TOKENS = [
    *(b"--b", b"--", b"b", b"\r\n", b"\r", b"\n", b": ", b"x", b" ", b"Content-Length: 2"),
    *(b'Content-Disposition: form-data; name="event"', b"\r\n--b\r\n", b"\r\n\r\n"),
]


@given(
    st.lists(st.sampled_from(TOKENS), max_size=20),
    st.booleans(),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_any_body_has_one_outcome_however_it_is_cut(tokens, started, cuts):
    body = (b"--b\r\n" if started else b"") + b"".join(tokens)
    whole = outcome(body, [])
    assert outcome(body, cuts) == whole
    assert outcome(body, list(range(len(body)))) == whole


@given(st.lists(st.binary(max_size=60), max_size=6), st.lists(st.integers(0, 500), max_size=5))
def test_any_content_without_the_delimiter_comes_out_as_it_went_in(contents, cuts):
    contents = [content.replace(b"--b", b"--c") for content in contents]
    body = raw_form(*((f"part{n}", content) for n, content in enumerate(contents)))
    expected = [(f"part{n}", content) for n, content in enumerate(contents)]
    if contents:
        assert read(body, cuts=cuts) == expected


def test_the_boundary_as_a_bare_text_is_content():
    content = b"b --b -- b\r\nb\r\n -- b\n--b"
    assert read(raw_form(("event", content))) == [("event", content)]


@pytest.mark.parametrize(
    "body",
    [
        BODIES["collision"],
        raw_form(b"Content-Length: 20\r\n\r\nabc\r\n--b\r\n0123456789"),
        raw_form(b"Content-Length: 20\r\n\r\nabc\r\n--b--\r\n0123456789"),
    ],
)
def test_a_delimiter_inside_a_part_is_a_collision_to_retry_with_another_boundary(body):
    with pytest.raises(BoundaryCollision, match="retry with another boundary"):
        read(body)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("preamble", "does not begin with the boundary"),
        ("declared too short", "a part is longer than its Content-Length of 3 bytes"),
        ("carriage return in a header", "control character"),
        ("folded header", "Unexpected segment header continuation"),
        ("long header", "Maximum segment header length exceeded"),
        ("many headers", "Maximum segment header count exceeded"),
        ("cut", "the body ends within a part"),
        ("cut in a part", "the body ends within a part"),
        ("cut in a header", "ends before its last delimiter"),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(name, reason):
    with pytest.raises(DecodingFault, match=reason):
        read(BODIES[name])


def test_more_parts_than_allowed_are_refused_at_the_first_one_too_many():
    body = raw_form(*[("part", b"x")] * 8)
    assert len(read(body)) == 8
    for body in (raw_form(*[("part", b"x")] * 9), raw_form(*[("part", b"x")] * 9, b"malformed")):
        with pytest.raises(DecodingFault, match="more than 8 parts"):
            read(body)


def test_a_fault_in_the_head_of_a_later_part_is_no_collision():
    with pytest.raises(DecodingFault, match="Malformed segment header") as caught:
        read(raw_form(("event", b"x"), b"no colon\r\n\r\nx"))
    assert not isinstance(caught.value, BoundaryCollision)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="event"', "event"),
        ('form-data; name="event"; filename="a.json"', "event"),
        ('form-data; filename="a;name=x"; name="event"', "event"),
        ("form-data; name=event", "event"),
        ('FORM-DATA ;NAME = "event"', "event"),
        ('form-data; name="a%22b%0D%0A%2F"', 'a"b\r\n%2F'),
        (r'form-data; name="a\"b"', 'a"b'),
        ("form-data; name*=utf-8''event; name=plain", "plain"),
        ("form-data", "unknown"),
        ("form-data; filename=x", "unknown"),
    ],
)
def test_the_name_of_a_part_is_read_by_the_grammar(disposition, name):
    part = b"Content-Disposition: " + disposition.encode() + b"\r\n\r\nx"
    assert read(raw_form(part)) == [(name, b"x")]


def test_a_part_without_any_header_has_no_name():
    assert read(raw_form(b"\r\nx")) == [("unknown", b"x")]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Disposition: attachment; name=event",
        b"Content-Disposition: form-data; name=event; name=other",
        b'Content-Disposition: form-data; name="event',
        b"Content-Disposition: form-data; name",
        b"Content-Disposition: form-data name=event",
        b"Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b",
        b"Content-Type: text/plain\r\nContent-Type: text/html",
        b"Content-Encoding: gzip\r\nCONTENT-ENCODING: br",
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: -1",
        b"Content-Length: 0x1",
        b"A: \xff",
        b"A: \x00",
    ],
)
def test_a_part_head_that_can_be_read_in_two_ways_is_refused(head):
    with pytest.raises(DecodingFault):
        read(raw_form(head + b"\r\n\r\nx"))


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; boundary="a b:c"', "a b:c"),
        ('multipart/form-data;charset=utf-8;BOUNDARY="x\\y"', "xy"),
        ("multipart/form-data; boundary=" + "x" * 70, "x" * 70),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW;", None),
    ],
)
def test_a_boundary_is_a_token_or_a_quoted_text(header, boundary):
    expected = boundary or "----WebKitFormBoundary7MA4YWxkTrZu0gW"
    assert form_boundary(header.encode()) == expected


@pytest.mark.parametrize(
    "header",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="ends in a space "',
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="a\\\nb"',
        'multipart/form-data; boundary="a*b"',
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a b",
        'multipart/form-data; boundary="a',
        "multipart/form-datax; boundary=a",
        "multipart/form-data, boundary=a",
        "multipart/form-data; boundary=\xe9",
    ],
)
def test_a_boundary_outside_the_grammar_is_refused(header):
    with pytest.raises(DecodingFault, match="Invalid boundary in Content-Type: "):
        form_boundary(header.encode("latin-1"))


@pytest.mark.parametrize("header", [None, b"", b"text/plain", b"Multipart/Form-Data; boundary=a"])
def test_another_content_type_is_refused(header):
    with pytest.raises(DecodingFault, match="Content-Type must be multipart/form-data"):
        form_boundary(header)
