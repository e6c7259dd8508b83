"""Files as chunks: whatever their size, layout and compression, and however they are damaged."""

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
import zlib

import pytest
import zstandard

from nilometer.errors import InvalidInput
from nilometer.importers import checkpoint, parsing, reading
from nilometer.importers.chunk import Limits, Options, Position, Tally
from nilometer.importers.trace_call import KEPT_BYTES, Reason

USAGE = {"input_tokens": 5, "output_tokens": 3}


def record(number, **members):
    return {"timestamp": number + 1, "usage": USAGE, "call_id": f"c{number}", **members}


def jsonl(count):
    return b"".join(json.dumps(record(number)).encode() + b"\n" for number in range(count))


def source(path):
    return reading.sources([str(path)])[0]


def read(path, start=None, **limits):
    """The calls' ids, the rejected records, the tally and the last position."""
    ids, rejected, tally, end = [], [], Tally(), start or Position()
    for chunk in reading.read_chunks(source(path), start, Limits(**limits)):
        found = parsing.parse_chunk(chunk, Options())
        ids += [call.call_id for call in found.calls]
        rejected += found.rejected
        tally, end = tally + found.tally, chunk.end
    return ids, rejected, tally, end


def written(path, content):
    path.write_bytes(content)
    return path


PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]) + b"\0" * 9,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd frames": lambda data: (
        zstandard.ZstdCompressor().compress(data[:700])
        + b"\x50\x2a\x4d\x18\x02\x00\x00\x00hi"
        + zstandard.ZstdCompressor().compress(data[700:])
    ),
}


@pytest.mark.parametrize("packed", PACKED)
def test_a_file_is_read_whole_however_it_is_compressed(tmp_path, packed):
    path = written(tmp_path / "x.log", PACKED[packed](jsonl(300)))
    for chunk in (100, 4096, 1 << 20):
        ids, rejected, tally, end = read(path, chunk=chunk)
        assert ids == [f"c{number}" for number in range(300)]
        assert not rejected
        assert tally == Tally(records=300, calls=300)
        assert end == Position(len(jsonl(300)), 300)


@pytest.mark.parametrize("packed", PACKED)
def test_reading_goes_on_at_any_chunks_end(tmp_path, packed):
    path = written(tmp_path / "x.log", PACKED[packed](jsonl(40)))
    whole, *_ = read(path)
    for chunk in reading.read_chunks(source(path), limits=Limits(chunk=300)):
        ids, _, tally, _ = read(path, chunk.end)
        assert ids == whole[chunk.end.lines :]
        assert tally.records == 40 - chunk.end.lines


def laid_out(count, indent):
    return json.dumps([record(number) for number in range(count)], indent=indent).encode()


@pytest.mark.parametrize(
    "content",
    [
        laid_out(20, None),
        laid_out(20, 2),
        laid_out(20, 0),
        laid_out(20, None).replace(b", {", b",\n{"),
        laid_out(20, None).replace(b", {", b"\n,{").replace(b"[", b"[\n"),
        b"\n\n" + laid_out(20, "\t"),
        b"\n".join(json.dumps(record(number), indent=2).encode() for number in range(20)),
        b'{"data": ' + laid_out(20, 1) + b', "total": 20, "page": {"size": [1]}}',
        b"\xef\xbb\xbf" + jsonl(20),
        jsonl(20).replace(b"\n", b"\r\n"),
        jsonl(20).rstrip(),
    ],
)
def test_records_are_found_in_lists_listings_and_any_layout(tmp_path, content):
    path = written(tmp_path / "export.json", content)
    for chunk in (7, 100, 1 << 20):
        ids, rejected, tally, _ = read(path, chunk=chunk)
        assert ids == [f"c{number}" for number in range(20)], (chunk, rejected)
        assert tally.records == 20


def test_lists_and_what_follows_them_are_read(tmp_path):
    lists = [json.dumps([record(number), record(number + 1)]).encode() for number in (0, 2)]
    tail = b"\n".join(json.dumps(record(number)).encode() for number in (4, 5))
    content = b"\n".join([*lists, tail, b"[]", tail])
    for last in (b"", b'\n["no call", 7, {"x": [1]}]\n'):
        path = written(tmp_path / "x.json", content + last)
        for size in (7, 100, 1 << 20):
            ids, *_ = read(path, chunk=size)
            assert ids == ["c0", "c1", "c2", "c3", "c4", "c5", "c4", "c5"]
            before = []
            for chunk in reading.read_chunks(source(path), limits=Limits(chunk=size)):
                before += [c.call_id for c in parsing.parse_chunk(chunk, Options()).calls]
                assert before + read(path, chunk.end)[0] == ids


def test_a_list_is_read_whatever_its_first_element_is(tmp_path):
    for first in (b"7", b'"x"', b"[1]", b"null", b"[{}]"):
        for indent in (None, 2):
            content = laid_out(3, indent).replace(b"[", b"[" + first + b",", 1)
            ids, *_ = read(written(tmp_path / "x.json", content), chunk=16)
            assert ids == ["c0", "c1", "c2"], content[:40]


def test_an_element_with_a_quote_too_many_ends_with_its_line(tmp_path):
    content = laid_out(5, None).replace(b", {", b",\n{").replace(b'"c1"', b'"c"1"')
    content = content[:-1] + b"\n" + jsonl(2)
    ids, rejected, *_ = read(written(tmp_path / "x.json", content), chunk=16)
    assert ids[0] == "c0"
    assert ids[-2:] == ["c0", "c1"]
    assert rejected


def test_each_call_knows_its_line_and_offset_in_any_layout(tmp_path):
    for content in (jsonl(9), laid_out(9, 2), b"\n\n" + jsonl(9), laid_out(9, None)):
        path = written(tmp_path / "x.json", content)
        for size in (50, 1 << 20):
            for chunk in reading.read_chunks(source(path), limits=Limits(chunk=size)):
                for call in parsing.parse_chunk(chunk, Options()).calls:
                    text = content[call.offset :]
                    assert (
                        json.JSONDecoder().raw_decode(text.decode())[0]["call_id"] == call.call_id
                    )
                    assert content[: call.offset].count(b"\n") + 1 == call.line


def test_what_stands_between_the_values_of_a_list_is_explained(tmp_path):
    content = laid_out(3, None).replace(b"}, {", b'}, nonsense, 7, {"text": "a \\" ] }"}, {', 1)
    ids, rejected, tally, _ = read(written(tmp_path / "x.json", content), chunk=16)
    assert ids == ["c0", "c1", "c2"]
    explained = {Reason.NOT_JSON, Reason.UNKNOWN_RECORD, Reason.NOT_AN_OBJECT}
    assert {each.reason for each in rejected} <= explained
    assert b"nonsense" in b"".join(each.raw for each in rejected)
    assert tally.records == 3 + len(rejected)


def test_a_line_beyond_the_bound_is_hashed_passed_and_rejected(tmp_path):
    from hashlib import sha256

    huge = b'{"timestamp": 1, "text": "' + b"x" * 300_000 + b'"}'
    lines = [json.dumps(record(0)).encode(), huge, json.dumps(record(1)).encode(), huge, huge]
    path = written(tmp_path / "x.jsonl", b"\n".join(lines))
    for chunk in (1000, 200_000, 1 << 20):
        ids, rejected, tally, _ = read(path, line=100_000, chunk=chunk)
        assert ids == ["c0", "c1"]
        assert [(each.reason, each.line) for each in rejected] == [
            (Reason.LINE_TOO_LONG, number) for number in (2, 4, 5)
        ]
        first = rejected[0]
        assert (first.size, first.raw) == (len(huge), huge[:KEPT_BYTES])
        assert first.source_hash == sha256(huge).hexdigest()
        assert first.offset == len(lines[0]) + 1
        assert (tally.records, tally.blank) == (5, 0)


def test_a_value_beyond_the_bound_is_passed_and_the_others_are_read(tmp_path):
    content = json.dumps([record(0), record(1, text="x" * 300_000), record(2)]).encode()
    for chunk in (1000, 200_000, 1 << 20):
        ids, rejected, _, _ = read(written(tmp_path / "x.json", content), line=100_000, chunk=chunk)
        assert ids == ["c0", "c2"]
        assert [each.reason for each in rejected] == [Reason.LINE_TOO_LONG]
        assert rejected[0].raw.startswith(b'{"timestamp": 2')


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_is_left_when_it_has_unpacked_too_far(tmp_path, pack):
    bomb = written(tmp_path / "bomb", pack(jsonl(10) + b" " * 40_000_000))
    ids, rejected, _, _ = read(bomb, ratio=100, ratio_floor=1 << 20)
    assert ids == [f"c{number}" for number in range(10)]
    assert [each.reason for each in rejected][-1] is Reason.TOO_MUCH_DECOMPRESSED
    _, rejected, _, _ = read(bomb, decompressed=5_000_000)
    assert [each.reason for each in rejected][-1] is Reason.TOO_MUCH_DECOMPRESSED


UNPACK = {
    gzip.compress: lambda data: zlib.decompressobj(31).decompress(data),
    zstandard.ZstdCompressor().compress: lambda data: (
        zstandard.ZstdDecompressor().decompressobj().decompress(data)
    ),
}


@pytest.mark.parametrize("pack", UNPACK)
@pytest.mark.parametrize("chunk", [4096, 1 << 20])
def test_all_that_precedes_damage_is_read_and_the_damage_is_told(tmp_path, pack, chunk):
    noise = random.Random(1).randbytes(60_000).hex().encode()
    content = jsonl(500) + b'{"x":"' + noise + b'"}\n' + jsonl(500)
    packed = pack(content)
    for end in (-9, -900, len(packed) // 2, 2000):
        whole = UNPACK[pack](packed[:end])
        ids, rejected, _, _ = read(written(tmp_path / "x", packed[:end]), chunk=chunk)
        lines = whole.rpartition(b"\n")[0].split(b"\n") if whole else []
        assert ids == [json.loads(line)["call_id"] for line in lines if b"call_id" in line]
        assert rejected[-1].reason is Reason.DAMAGED_COMPRESSION
        assert len(rejected) <= 3
    damaged = packed[:-900] + b"\x00" * 50 + packed[-850:]
    ids, rejected, _, _ = read(written(tmp_path / "x", damaged), chunk=chunk)
    assert ids[:500] == [f"c{number}" for number in range(500)]
    assert rejected[-1].reason is Reason.DAMAGED_COMPRESSION
    ids, rejected, _, _ = read(written(tmp_path / "x", packed[:12]), chunk=chunk)
    assert not ids
    assert rejected[-1].reason is Reason.DAMAGED_COMPRESSION


def test_all_is_read_of_a_file_whose_checksum_is_wrong(tmp_path):
    packed = gzip.compress(jsonl(500))
    wrong = packed[:-8] + bytes(byte ^ 255 for byte in packed[-8:-4]) + packed[-4:]
    ids, rejected, _, _ = read(written(tmp_path / "x.gz", wrong))
    assert ids == [f"c{number}" for number in range(500)]
    assert [each.reason for each in rejected] == [Reason.DAMAGED_COMPRESSION]


def test_a_list_is_read_in_time_that_grows_with_it_and_no_faster(tmp_path, monkeypatch):
    counted = []

    class Counted(bytearray):
        def count(self, sub, start=0, end=None):
            counted.append((len(self) if end is None else end) - start)
            return super().count(sub, start, len(self) if end is None else end)

        def __iadd__(self, other):
            return Counted(bytes(self) + other)

    monkeypatch.setattr("nilometer.importers.framing.bytearray", Counted, raising=False)
    content = b"[" + b"{},\n" * 20_000 + b"{}]"
    chunks = list(reading.read_chunks(source(written(tmp_path / "x.json", content))))
    assert sum(len(chunk.bounds) for chunk in chunks) == 20_001
    assert chunks[-1].bounds[-1][2] == 20_001
    assert 0 < sum(counted) < 5 * len(content)


def test_a_last_line_without_end_is_read_but_not_passed(tmp_path):
    path = written(tmp_path / "x.jsonl", jsonl(3) + b'{"timestamp": 9, "us')
    ids, rejected, _, end = read(path)
    assert len(ids) == 3
    assert [each.reason for each in rejected] == [Reason.CUT_SHORT]
    assert end == Position(len(jsonl(3)), 3)
    with path.open("ab") as file:
        file.write(b'age": {"total_tokens": 1}, "call_id": "c3"}\n')
    assert read(path, end)[0] == ["c3"]


def test_memory_stays_flat_over_a_large_compressed_file(tmp_path):
    compressor = zstandard.ZstdCompressor().compressobj()
    noise = random.Random(1).randbytes(900_000).hex().encode()
    block = jsonl(5000).replace(b"usage", noise[:900] + b"usage") + noise + b"\n"
    with (tmp_path / "x.zst").open("wb") as file:
        for _ in range(12):
            file.write(compressor.compress(block))
        file.write(compressor.flush())
    tracemalloc.start()
    try:
        size = sum(len(c.data) for c in reading.read_chunks(source(tmp_path / "x.zst")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 12 * len(block)
    assert peak < 12 << 20 < size


def test_sources_are_files_patterns_and_folders_each_once(tmp_path):
    names = ("b.jsonl", "a.jsonl.gz", "deep/c.ndjson", "deep/skip.txt", ".hidden/d.json")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = reading.sources([str(tmp_path), str(tmp_path / "*.jsonl"), "-"])
    shown = [each.name.removeprefix(f"{tmp_path}/") for each in found]
    assert shown == [".hidden/d.json", "a.jsonl.gz", "b.jsonl", "deep/c.ndjson", "-"]
    assert [each.size for each in found] == [0, 0, 0, 0, None]
    with pytest.raises(InvalidInput, match="no file is meant"):
        reading.sources([str(tmp_path / "*.none")])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = written(tmp_path / "x.jsonl", b"")
    gone = source(path)
    path.unlink()
    with pytest.raises(InvalidInput, match="No such file"):
        list(reading.read_chunks(gone))


def test_standard_input_is_read_as_it_comes():
    program = (
        "from nilometer.importers import reading, parsing\n"
        "from nilometer.importers.chunk import Options\n"
        "for chunk in reading.read_chunks(reading.sources(['-'])[0]):\n"
        "    print(len(parsing.parse_chunk(chunk, Options()).calls), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(jsonl(2))
        process.stdin.flush()
        assert process.stdout.readline() == b"2\n"
        process.stdin.write(jsonl(3))
        process.stdin.close()
        assert sum(map(int, process.stdout.read().split())) == 3
    assert process.returncode == 0


def test_a_checkpoint_holds_while_the_file_only_grows(tmp_path):
    path = written(tmp_path / "x.jsonl", jsonl(30))
    end = read(path)[3]
    told = checkpoint.checkpoint(source(path), end)
    assert checkpoint.resumed(source(path), told) == end
    with path.open("ab") as file:
        file.write(jsonl(31)[end.offset :])
    assert read(path, checkpoint.resumed(source(path), told))[0] == ["c30"]
    for other in (jsonl(5), jsonl(31).replace(b"c29", b"z29"), b" " + jsonl(31)):
        assert checkpoint.resumed(source(written(path, other)), told) == Position()
    for nothing in (None, "", "[]", "{", '{"offset": "1", "lines": 1}'):
        assert checkpoint.resumed(source(path), nothing) == Position()


def test_a_checkpoint_of_a_compressed_file_holds_while_it_is_the_same(tmp_path):
    path = written(tmp_path / "x.gz", gzip.compress(jsonl(30)))
    told = checkpoint.checkpoint(source(path), Position(7, 1))
    assert checkpoint.resumed(source(path), told) == Position(7, 1)
    os.truncate(path, path.stat().st_size - 3)
    assert checkpoint.resumed(source(path), told) == Position()


def test_a_checkpoint_of_a_long_file_tells_other_bytes_before_it(tmp_path):
    path = written(tmp_path / "x.jsonl", jsonl(300))
    told = checkpoint.checkpoint(source(path), read(path)[3])
    written(path, jsonl(301).replace(b"c299", b"z299"))
    assert checkpoint.resumed(source(path), told) == Position()
