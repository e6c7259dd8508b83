import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.blobs import compression
from nilometer.blobs.compression import GzipDecoder, compress, is_compressible, is_gzip
from nilometer.blobs.types import BlobUndecodable
from tests.blobs.samples import noise, prose


def decode(data: bytes, *, slices: int = 64 * 1024, size: int = 1000) -> bytes:
    decoder = GzipDecoder()
    result: list[bytes] = []
    for start in range(0, len(data), slices):
        decoder.feed(data[start : start + slices])
        while chunk := decoder.read(size):
            assert len(chunk) <= size
            result.append(chunk)
    decoder.finish()
    return b"".join(result)


@given(st.lists(st.binary(max_size=500), min_size=1), st.integers(1, 50), st.integers(1, 50))
def test_members_and_padding_are_decoded_in_slices_of_any_size(
    members: list[bytes], slices: int, size: int
) -> None:
    stream = b"".join(gzip.compress(member) for member in members) + bytes(7)

    assert decode(stream, slices=slices, size=size) == b"".join(members)


@given(st.lists(st.sampled_from([prose(700), prose(3000), noise(50)]), max_size=10))
def test_what_is_compressed_is_one_plain_gzip_member(chunks: list[bytes]) -> None:
    compressed = compress(chunks)

    if compressed is not None:
        assert gzip.decompress(b"".join(compressed)) == b"".join(chunks)
        assert sum(map(len, compressed)) < sum(map(len, chunks))


def test_what_does_not_shrink_is_not_compressed() -> None:
    assert compress([noise(5000)]) is None
    assert compress([noise(200_000), noise(200_001)]) is None
    assert compress([]) is None
    assert compress([prose(5000)]) is not None


def test_runs_longer_than_the_read_come_out_whole() -> None:
    for size in (1, 257, 258, 259, 1000):
        assert decode(gzip.compress(bytes(10_000)), size=size) == bytes(10_000)


def test_a_bomb_is_decoded_no_further_than_it_is_read() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(20)) + compressor.flush()
    decoder = GzipDecoder()
    decoder.feed(bomb)

    assert len(bomb) < 40_000
    assert len(decoder.read(4096)) == 4096


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"not gzip at all",
        gzip.compress(prose(5000))[:-1],
        gzip.compress(prose(5000))[:9],
        gzip.compress(prose(5000))[:-8] + bytes(8),
        gzip.compress(b"x") + b"garbage",
        gzip.compress(b"x") + gzip.compress(b"y")[:-3],
    ],
    ids=["empty", "other", "cut", "header only", "bad checksum", "garbage", "second cut"],
)
def test_a_broken_stream_is_said_to_be_undecodable(stream: bytes) -> None:
    with pytest.raises(BlobUndecodable):
        decode(stream)


def test_a_stream_of_too_many_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_GZIP_MEMBERS", 50)
    assert decode(gzip.compress(b"") * 50) == b""

    with pytest.raises(BlobUndecodable, match="members"):
        decode(gzip.compress(b"") * 51)


def test_types_and_encodings_are_known_by_name_alone() -> None:
    assert [is_gzip(name) for name in ("gzip", "GZIP", "x-gzip", "br", None)] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert is_compressible("application/json")
    assert is_compressible("text/plain;charset=utf-8")
    assert not is_compressible("application/jsonx")
    assert not is_compressible("application/octet-stream; a=text/plain")
