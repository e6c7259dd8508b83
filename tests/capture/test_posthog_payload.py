"""However a client wraps its JSON, it is found; what is not JSON in the end is refused."""

import base64
import contextlib
import gzip
import json
import time
import zlib
from urllib.parse import quote

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nilometer.capture.decompression import (
    DECODERS,
    INFLATED_BLOCK,
    Decoder,
    GunzipIfGzip,
)
from nilometer.capture.lz_string import decompress_base64
from nilometer.capture.posthog_payload import json_payload, read_query
from nilometer.capture.refusals import DecodingFault, EmptyPayload, TooBig

TEXT = '{"event":"$ai_span","token":"é漢"}'
JSON = TEXT.encode()
# What lz-string 1.4.4's port on PyPI (lzstring 1.0.4) makes of TEXT.
LZ64 = b"N4IgpgbmB2AuIC4QBICGBLA+gZwA6uhABoRYB7AaxkRAEvAiexAF8g=="
FORM = b"application/x-www-form-urlencoded"
LIMIT = 1 << 20
GZIPPED = gzip.compress(JSON, mtime=0)


@pytest.mark.parametrize(
    ("payload", "content_type", "hint"),
    [
        (JSON, b"application/json", ""),
        (b" \n" + JSON + b"\n", b"text/plain", ""),
        (JSON, FORM, ""),  # what curl -d says of anything
        (base64.b64encode(JSON), b"", ""),
        (base64.b64encode(JSON).rstrip(b"="), b"", "base64"),
        (base64.urlsafe_b64encode(JSON), b"", "base64"),
        (GZIPPED, b"text/plain", "gzip-js"),
        (base64.b64encode(GZIPPED), b"", ""),
        (b"data=" + quote(TEXT).encode(), FORM, ""),
        (b"data=" + quote(base64.b64encode(JSON)).encode(), FORM, ""),
        (b"data=" + base64.b64encode(JSON) + b"&compression=base64", FORM, ""),
        (LZ64, b"", "lz64"),
        (b"compression=lz64&ver=1.2.3&data=" + LZ64, FORM, ""),
    ],
)
def test_every_wrapping_of_the_old_clients_is_undone(payload, content_type, hint):
    assert json_payload(payload, content_type, hint, LIMIT) == JSON


@pytest.mark.parametrize("payload", [b"hello world!", b"\xff\xfe", b"data", LZ64, b"====="])
def test_what_is_no_json_in_the_end_is_refused(payload: bytes):
    with pytest.raises(DecodingFault):
        json_payload(payload, b"", "", LIMIT)


def test_nothing_is_an_empty_payload():
    for payload, content_type in ((b"", b""), (b" \n", b""), (b"data=", FORM)):
        with pytest.raises(EmptyPayload):
            json_payload(payload, content_type, "", LIMIT)


def test_a_form_without_data_and_a_form_of_too_many_fields_are_refused():
    with pytest.raises(DecodingFault, match="expected form data"):
        json_payload(b"a=b", FORM, "", LIMIT)
    with pytest.raises(DecodingFault, match="64 fields"):
        json_payload(b"&".join([b"a=b"] * 65), FORM, "", LIMIT)


def test_a_bomb_is_refused_at_the_limit():
    bomb = base64.b64encode(gzip.compress(b"[" + b" " * 100_000_000))
    with pytest.raises(TooBig):
        json_payload(bomb, b"", "", LIMIT)
    nested = JSON
    for _ in range(5):
        nested = base64.b64encode(nested)
    with pytest.raises(DecodingFault, match="too often"):
        json_payload(nested, b"", "", LIMIT)


def test_a_query_tells_its_hints():
    query = read_query(b"data=%7B%7D&compression=gzip-js&_=1751367600123&beacon=1&ip=1")
    assert (query.data, query.compression) == (b"{}", "gzip-js")
    assert (query.sent_at, query.beacon) == (1751367600123, True)
    assert read_query(b"_=1751367600").sent_at is None  # seconds, of old SDKs
    assert read_query(b"_=" + b"9" * 400).sent_at is None
    with pytest.raises(DecodingFault):
        read_query(b"data=%ff")


@given(st.text(alphabet="ab{}:é漢😀", max_size=300))
def test_lz64_of_any_text_of_few_letters_that_is_known_to_decompress(text: str):
    """The reverse of a compressor that never refers back: one code for each new unit."""
    assert decompress_base64(_packed(text), LIMIT).decode() == text


def _packed(text: str) -> bytes:
    """lz-string's format at its plainest: each unit is new once, then its code."""
    encoded = text.encode("utf-16-le")
    units = memoryview(encoded).cast("H")  # little-endian, as every machine that runs this is
    bits, codes, size, width, until = "", {}, 3, 2, 1

    def learn() -> None:
        nonlocal size, width, until
        size += 1
        until -= 1
        if until == 0:
            until, width = 1 << width, width + 1

    for number, unit in enumerate(units):
        if unit in codes:
            bits += f"{codes[unit]:0{width}b}"[::-1]
        else:
            wide = 8 if unit < 256 else 16
            bits += f"{0 if wide == 8 else 1:0{width}b}"[::-1] + f"{unit:0{wide}b}"[::-1]
            codes[unit] = size
            learn()
        if number:
            learn()
    bits += f"{2:0{width}b}"[::-1]
    bits += "0" * (-len(bits) % 6)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(alphabet[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6)).encode()


@given(st.binary(max_size=200))
def test_no_lz64_text_does_more_than_refuse(data: bytes):
    for text in (data, base64.b64encode(data)):
        with contextlib.suppress(DecodingFault, TooBig):
            assert len(decompress_base64(text, 1000)) <= 1000


def test_lz64_is_bounded_in_what_it_takes_and_what_it_makes():
    with pytest.raises(TooBig):
        decompress_base64(b"A" * (1 << 20) + b"AAAA", LIMIT)
    started = time.process_time()
    with pytest.raises((TooBig, DecodingFault)):
        decompress_base64(b"/" * (1 << 20), 1000)
    assert time.process_time() - started < 5


COMPRESSORS = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("encoding", sorted(COMPRESSORS))
def test_every_encoding_is_undone_in_bounded_blocks_however_it_is_cut(encoding: bytes):
    plain = json.dumps(list(range(200_000))).encode()
    packed = COMPRESSORS[encoding](plain)
    for step in (1000, 65_536, len(packed)):
        decoder = DECODERS[encoding]()
        blocks = [
            block
            for start in range(0, len(packed), step)
            for block in decoder.decode(packed[start : start + step])
        ]
        decoder.finish()
        assert b"".join(blocks) == plain
        assert max(map(len, blocks)) <= INFLATED_BLOCK


@pytest.mark.parametrize("encoding", sorted(COMPRESSORS))
def test_a_body_that_is_cut_damaged_or_followed_by_more_is_refused(encoding: bytes):
    packed = COMPRESSORS[encoding](JSON * 100)
    for broken in (packed[:-3], b"nonsense", packed + b"more"):
        decoder = DECODERS[encoding]()
        with pytest.raises(DecodingFault, match=f"Failed to decompress {encoding.decode()}"):
            _whole(decoder, broken)


def _whole(decoder: Decoder, data: bytes) -> bytes:
    made = b"".join(decoder.decode(data))
    decoder.finish()
    return made


def test_a_zstd_frame_that_asks_for_a_large_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packed.compress(b"x" * 100) + packed.flush()
    with pytest.raises(DecodingFault):
        list(DECODERS[b"zstd"]().decode(data))


@pytest.mark.parametrize("step", [1, 2, 100])
def test_gzip_is_known_by_its_first_bytes(step: int):
    for sent, expected in ((GZIPPED, JSON), (JSON, JSON), (b"\x1f", None)):
        decoder = GunzipIfGzip()
        made = b"".join(
            block
            for start in range(0, len(sent), step)
            for block in decoder.decode(sent[start : start + step])
        )
        if expected is None:
            with pytest.raises(DecodingFault):
                decoder.finish()
        else:
            decoder.finish()
            assert made == expected
