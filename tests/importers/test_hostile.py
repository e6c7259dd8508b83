"""One bad line, however bad, harms no other; every one is explained."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trace_records import BAD, GOOD, Random, write_mixture
from nilometer.importers import parsing, reading
from nilometer.importers.chunk import Chunk, Limits, Options, Position, Tally
from nilometer.importers.trace_call import Reason
from tests.importers.records import parsed, reason_of

GOOD_LINE = b'{"timestamp":1,"usage":{"total_tokens":3}}'


def chunk_of(data):
    return Chunk("x", "lines", data, Position(), Position(len(data), data.count(b"\n")))


@pytest.mark.parametrize("way", BAD)
def test_every_way_of_being_bad_has_its_reason(way):
    make, reason = BAD[way]
    assert reason_of(make(Random(1))) is reason


def test_a_mixture_is_counted_line_by_line(tmp_path):
    path = tmp_path / "mixed.jsonl"
    mixture = write_mixture(path, 6000, seed=11)
    tally, sources, reasons = Tally(), Counter(), Counter()
    for chunk in reading.read_chunks(reading.sources([str(path)])[0], limits=Limits(chunk=50_000)):
        found = parsing.parse_chunk(chunk, Options())
        tally += found.tally
        sources.update(call.source for call in found.calls)
        reasons.update(each.reason for each in found.rejected)
    assert (sources, reasons) == (mixture.calls, mixture.reasons)
    assert set(mixture.bad) == set(BAD)
    assert tally == Tally(
        records=mixture.lines,
        calls=mixture.calls.total(),
        passed=mixture.passed,
        rejected=mixture.bad.total(),
    )


BROKEN_STARTS = {
    **{way: (make(Random(1)), reason) for way, (make, reason) in BAD.items()},
    "one list": (b"[1,2]", Reason.NOT_AN_OBJECT),
    "empty list": (b"[]", Reason.NOT_AN_OBJECT),
    "banner": (b"[INFO] proxy started", Reason.NOT_JSON),
    "banners": (b"[INFO] it's \"up\n[WARN] {\nand [so", Reason.NOT_JSON),
    "clock": (b'[2026-10-12 09:00:00] proxy "started', Reason.NOT_JSON),
    "brace": (b"{", Reason.NOT_JSON),
    "bracket": (b"[", Reason.NOT_JSON),
    "cut inside": (b'{"timestamp": 1, "usage": {', Reason.NOT_JSON),
    "cut behind a comma": (b'{"timestamp": 1,', Reason.NOT_JSON),
    "cut in a text": (b'[{"timestamp": 1, "us', Reason.NOT_JSON),
    "cut listing": (b'{"data": [{"timestamp": 1,', Reason.NOT_JSON),
    "empty lines and a control": (b"\n\n\nst\x01arted", Reason.NOT_JSON),
}


def read_all(raw, path, **limits):
    path.write_bytes(raw)
    chunks = reading.read_chunks(reading.sources([str(path)])[0], limits=Limits(**limits))
    found = [parsing.parse_chunk(chunk, Options()) for chunk in chunks]
    return [c for each in found for c in each.calls], [r for each in found for r in each.rejected]


@pytest.mark.parametrize("start", BROKEN_STARTS)
def test_a_bad_first_line_harms_no_other(tmp_path, start):
    first, reason = BROKEN_STARTS[start]
    good = [b'{"timestamp":%d,"usage":{"total_tokens":3}}' % (9 + n) for n in range(5)]
    for count in (1, 2, 5):
        for size in (7, 1 << 20):
            data = b"\n".join([first, *good[:count], b""])
            calls, rejected = read_all(data, tmp_path / "x.jsonl", chunk=size)
            assert len(calls) == count, (count, size, rejected)
            assert {each.reason for each in rejected} == {reason}
            assert len(rejected) == sum(line != b"" for line in first.split(b"\n"))


@pytest.mark.parametrize("start", BROKEN_STARTS)
def test_a_bad_first_line_harms_none_where_the_head_ends_with_it(tmp_path, start, monkeypatch):
    """As of a pipe, which gives one line and then waits."""
    first, _ = BROKEN_STARTS[start]
    monkeypatch.setattr("nilometer.importers.sniffing.HEAD", len(first) + 1)
    good = [b'{"timestamp":%d,"usage":{"total_tokens":3}}' % (9 + n) for n in range(5)]
    for size in (7, 1 << 20):
        data = b"\n".join([first, *good, b""])
        calls, rejected = read_all(data, tmp_path / "x.jsonl", chunk=size)
        assert len(calls) == 5
        assert rejected or start in ("bracket", "empty list")


def test_a_rejected_record_is_kept_as_it_stands_with_its_place():
    data = GOOD_LINE + b"\n\n  not json \xff\n" + GOOD_LINE + b"\n"
    found = parsing.parse_chunk(chunk_of(data), Options())
    assert found.tally == Tally(records=3, calls=2, rejected=1, blank=1)
    (bad,) = found.rejected
    assert (bad.raw, bad.line, bad.reason) == (b"  not json \xff", 3, Reason.NOT_UTF8)
    assert data[bad.offset :].startswith(bad.raw)
    assert "not json" not in bad.detail


def test_what_python_writes_and_json_does_not_allow_is_read():
    lax = b'{"timestamp":1,"usage":{"total_tokens":3},"note":NaN,"half":"\\ud800"}'
    assert len(parsed(lax).calls) == 1
    assert len(parsed(b"\xef\xbb\xbf" + GOOD_LINE).calls) == 1


def test_a_record_of_very_many_values_is_refused_before_it_fills_the_memory():
    assert reason_of(b'{"usage":[' + b"[]," * 700_000 + b"1]}") is Reason.TOO_MANY_VALUES


def test_numbers_beyond_measure_are_no_counts_and_no_times():
    huge = b'{"timestamp":1,"usage":{"input_tokens":' + b"9" * 400 + b',"output_tokens":1}}'
    (call,) = parsed(huge).calls
    assert call.tokens is None
    assert reason_of(b'{"timestamp":' + b"9" * 400 + b',"usage":{}}') is Reason.BAD_TIME


_LINE = st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b" "))


@given(st.lists(_LINE | st.just(GOOD_LINE), max_size=12))
def test_any_bytes_are_counted_and_good_lines_among_them_are_read(lines):
    data = b"".join(line + b"\n" for line in lines)
    tally = parsing.parse_chunk(chunk_of(data), Options()).tally
    assert tally.records + tally.blank == len(lines)
    assert tally.calls >= lines.count(GOOD_LINE)
    assert tally.records == tally.calls + tally.joined + tally.passed + tally.rejected


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 99), st.data())
def test_whatever_a_member_becomes_the_reader_does_not_fail(kind, seed, data):
    record = GOOD[kind](Random(seed), seed)
    holder = record
    while True:
        name = data.draw(st.sampled_from(sorted(holder)))
        if not isinstance(holder[name], dict) or not holder[name] or data.draw(st.booleans()):
            break
        holder = holder[name]
    holder[name] = data.draw(_VALUE)
    found = parsed(json.dumps(record).encode())
    assert all(each.reason is not Reason.UNREADABLE for each in found.rejected), found.rejected
    assert found.tally.records >= 1


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_file_is_read_to_its_end(tmp_path_factory, content, size):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for chunk in reading.read_chunks(reading.sources([str(path)])[0], limits=Limits(chunk=size)):
        parsing.parse_chunk(chunk, Options())
