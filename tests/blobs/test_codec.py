import email
import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.blobs import codec
from nilometer.blobs.codec import EncodedObject, ObjectMetadata
from nilometer.blobs.types import BlobPart
from nilometer.errors import InvalidInput
from tests.blobs.samples import EVENT, joined, noise, part, prose

METADATA = ObjectMetadata(1, EVENT, "2026-11-20T12:00:00+00:00")

names = st.text(
    st.characters(
        exclude_characters='"\\', exclude_categories=["Cc", "Cs", "Zl", "Zp"], codec="utf-8"
    ),
    min_size=1,
    max_size=60,
)
bodies = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [b"\r\n", b"\n", b"\r", b"--", b"----posthog-ai-", b"\0", b"a: b", b"\xff"]
        ),
        max_size=40,
    ).map(b"".join),
    st.integers(1000, 3000).map(prose),
    st.integers(1000, 3000).map(noise),
)
types = st.sampled_from(
    ["text/plain", "text/plain; charset=utf-8", "application/json", "application/octet-stream"]
)


def encode(*parts: BlobPart) -> EncodedObject:
    codec.check_parts(parts)
    return codec.encode(parts, codec.new_boundary(EVENT))


def body_by_its_header(data: bytes) -> tuple[str, str, bytes]:
    """What a reader who knows only MIME and gzip makes of a part."""
    message = email.message_from_bytes(data)
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    if message["Content-Encoding"] == "gzip":
        body = gzip.decompress(body)
    # Names are raw UTF-8, which the parser's older API, used here for exact values, garbles.
    line = data.partition(b"\r\n")[0].decode()
    return line.partition('name="')[2].removesuffix('"'), message["Content-Type"], body


def test_the_verified_vectors_of_the_contract_hold() -> None:
    encoded = encode(*(part(f"$ai_blob{i}", b"x" * n) for i, n in ((1, 100), (2, 200), (3, 150))))

    assert [(p.start, p.end) for p in encoded.parts] == [(64, 241), (308, 585), (652, 879)]
    assert len(joined(encoded.buffers)) == 948


def test_the_object_is_laid_out_byte_for_byte_as_the_contract_says() -> None:
    parts = [part("$ai_input", b"in", "application/json"), part("a b", b"\0", "text/plain", "br")]
    encoded = codec.encode(parts, "B")

    assert encoded.content_type == "multipart/mixed; boundary=B"
    assert joined(encoded.buffers) == (
        b'--B\r\nContent-Disposition: form-data; name="$ai_input"\r\n'
        b"Content-Type: application/json\r\n\r\nin\r\n"
        b'--B\r\nContent-Disposition: form-data; name="a b"\r\n'
        b"Content-Type: text/plain\r\nContent-Encoding: br\r\n\r\n\0\r\n"
        b"--B--\r\n"
    )


def test_a_boundary_has_the_contracts_form_and_is_never_the_same() -> None:
    boundaries = {codec.new_boundary(EVENT) for _ in range(100)}

    assert len(boundaries) == 100
    assert all(
        re.fullmatch(f"----posthog-ai-{EVENT}-[0-9A-Za-z]{{8}}", boundary)
        for boundary in boundaries
    )


@given(
    st.lists(
        st.tuples(names, types, bodies), min_size=1, max_size=6, unique_by=lambda item: item[0]
    )
)
def test_every_range_parses_as_mime_and_gives_the_bytes_back(
    items: list[tuple[str, str, bytes]],
) -> None:
    encoded = encode(*(part(name, body, content_type) for name, content_type, body in items))
    data = joined(encoded.buffers)

    ranges = [data[p.start : p.end + 1] for p in encoded.parts]
    assert [body_by_its_header(item) for item in ranges] == items
    for item, stored in zip(ranges, encoded.parts, strict=True):
        head = codec.parse_head(item)
        assert head is not None
        assert (head.name, head.content_type) == (stored.name, stored.content_type)
        assert head.content_encoding == stored.content_encoding
        assert len(item) - head.length == stored.stored_size


@given(st.lists(bodies, min_size=1, max_size=5))
def test_the_whole_object_parses_as_multipart_mixed_and_its_epilogue_as_its_index(
    contents: list[bytes],
) -> None:
    encoded = encode(*(part(f"p{i}", body) for i, body in enumerate(contents)))
    data = joined([*encoded.buffers, codec.epilogue(METADATA, encoded.parts)])

    message = email.message_from_bytes(
        f"Content-Type: {encoded.content_type}\r\n\r\n".encode() + data
    )

    assert message.is_multipart()
    assert not message.defects
    found = message.get_payload()
    assert isinstance(found, list)
    assert len(found) == len(contents)
    assert isinstance(message.epilogue, str)
    index = json.loads(message.epilogue)
    assert index["team_id"] == 1
    assert index["event_id"] == EVENT
    assert [entry["range"] for entry in index["parts"]] == [
        f"{p.start}-{p.end}" for p in encoded.parts
    ]


@pytest.mark.parametrize(
    ("item", "compressed"),
    [
        (part("p", prose(1024)), True),
        (part("p", prose(1023)), False),
        (part("p", prose(5000), "application/json"), True),
        (part("p", prose(5000), "text/plain; charset=utf-8"), True),
        (part("p", prose(5000), "TEXT/PLAIN"), True),
        (part("p", prose(5000), "application/octet-stream"), False),
        (part("p", noise(5000)), False),
        (part("p", prose(5000), "text/plain", "gzip"), False),
        (part("p", prose(5000), "text/plain", "identity"), False),
    ],
)
def test_text_and_json_of_1_kib_are_compressed_when_that_makes_them_smaller(
    item: BlobPart, compressed: bool
) -> None:
    [stored] = encode(item).parts

    assert stored.compressed_here is compressed
    assert stored.content_encoding == ("gzip" if compressed else item.content_encoding)
    assert (stored.stored_size < stored.size) is compressed


def test_the_index_says_who_compressed_a_part() -> None:
    encoded = encode(
        part("ours", prose(2000)), part("theirs", b"zzz", encoding="gzip"), part("plain", b"p")
    )

    fields, fits = codec.user_metadata(METADATA, encoded.parts)

    ours, theirs, plain = json.loads(fields["parts"])
    assert fits
    assert (ours["encoding"], ours["encoded_by"]) == ("gzip", "nilometer")
    assert (theirs["encoding"], theirs["encoded_by"]) == ("gzip", "client")
    assert "encoding" not in plain


@given(st.lists(names, min_size=1, max_size=40, unique=True))
def test_user_metadata_is_ascii_and_fits_into_what_s3_allows(found: list[str]) -> None:
    encoded = encode(*(part(name, b"body") for name in found))

    fields, fits = codec.user_metadata(METADATA, encoded.parts)

    text = "".join([*fields, *fields.values()])
    assert text.isascii()
    assert len(text) <= codec.MAX_USER_METADATA_BYTES <= 2048
    assert fits is (fields["parts"] != codec.SEE_EPILOGUE)


def test_an_index_too_long_for_user_metadata_is_in_the_epilogue() -> None:
    encoded = encode(*(part(f"$ai_blob{i}", b"body") for i in range(100)))

    fields, fits = codec.user_metadata(METADATA, encoded.parts)

    assert not fits
    assert fields["parts"] == "see-epilogue"
    assert len(json.loads(codec.epilogue(METADATA, encoded.parts))["parts"]) == 100


@pytest.mark.parametrize(
    "name",
    ["", 'a"b', "a\\", "a\rb", "a\nb", "a\0b", "a\x7fb", "a\x85b", "a\u2028b", "\ud800", "x" * 257],
)
def test_a_name_that_could_break_the_header_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        codec.check_parts([part(name, b"body")])


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/plain\r\nX-Injected: 1", None),
        ("text/pläin", None),
        ("", None),
        ("x" * 257, None),
        ("text/plain", "gzip\r\nX: 1"),
        ("text/plain", "gzip, br"),
        ("text/plain", ""),
    ],
)
def test_a_type_or_encoding_that_could_break_the_header_is_refused(
    content_type: str, encoding: str | None
) -> None:
    with pytest.raises(InvalidInput) as caught:
        codec.check_parts([part("$ai_input", b"body", content_type, encoding)])
    assert caught.value.attr == "$ai_input"


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match="two blobs"):
        codec.check_parts([part("a", b"1"), part("a", b"2")])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Content-Disposition: form-data",
        b'Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain\r\n',
        b'X: 1\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: text/plain\r\n\r\n',
        b'Content-Disposition: form-data; name="' + b"a" * 2000 + b'"\r\nContent-Type: a\r\n\r\n',
    ],
)
def test_bytes_that_do_not_begin_as_a_part_have_no_head(data: bytes) -> None:
    assert codec.parse_head(data) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader_of_heads(junk: bytes, rest: bytes) -> None:
    head = b'Content-Disposition: form-data; name="' + junk + b'"\r\nContent-Type: a\r\n\r\n'

    for data in (junk, head, head + rest, junk + head):
        found = codec.parse_head(data)
        assert found is None or found.length <= len(data)


def test_the_longest_head_that_is_written_is_read() -> None:
    encoded = encode(part("é" * 128, b"body", "x" * 256, "e" * 64))

    head = codec.parse_head(joined(encoded.buffers)[encoded.parts[0].start :])

    assert head is not None
    assert (head.name, head.content_type, head.content_encoding) == ("é" * 128, "x" * 256, "e" * 64)


def test_a_body_in_chunks_is_neither_joined_nor_copied() -> None:
    chunks = [noise(70_000), noise(80_000)]
    encoded = encode(BlobPart("a", "application/octet-stream", None, chunks))

    assert all(any(chunk is buffer for buffer in encoded.buffers) for chunk in chunks)
