"""From a chunk of records to calls: pure, and bounded by the chunk.

A record that cannot be read, for whatever reason, is a `Rejected` and harms no other. Each record's
format is seen from its own members, so that a file may hold several.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import orjson

from nilometer.domain.json_text import InvalidJson
from nilometer.domain.json_walk import JsonWalk
from nilometer.domain.span import plain
from nilometer.importers import telling
from nilometer.importers.chunk import Chunk, Options, Parsed, Position, Tally
from nilometer.importers.formats import claude_code, litellm, otlp, prodlens
from nilometer.importers.formats.record import Place, Record, RecordFault
from nilometer.importers.sniffing import is_protobuf
from nilometer.importers.trace_call import Reason, TraceCall, reject

MAX_VALUES = 1_000_000
"""Lists, objects and members of one record, about; orjson makes up to 100 bytes of each."""
_COUNTED_FROM = 1 << 20  # a smaller record has no room for so many
_KEPT_DEPTH = 128
_MAX_DETAILS = 5
_BOM = b"\xef\xbb\xbf"
_NOT_JSON = "the record is not valid JSON"


def parse_chunk(chunk: Chunk, options: Options) -> Parsed:
    """What a chunk's records are. Never raises on what they hold."""
    reader = _Reader(chunk, options)
    if chunk.framing == "messages":
        for raw, line, offset in _bounded(chunk):
            reader.message(raw, Place(line, offset, options))
    else:
        for raw, line, offset in _lines(chunk) if chunk.framing == "lines" else _bounded(chunk):
            reader.text(raw, Place(line, offset, options))
    return reader.parsed()


def parse_record(raw: bytes, options: Options, *, line: int = 1, offset: int = 0) -> Parsed:
    """What one record is, by itself: for replaying a rejected one."""
    start, end = Position(offset, line - 1), Position(offset + len(raw), line)
    framing = "messages" if is_protobuf(raw) else "values"
    chunk = Chunk("", framing, raw, start, end, bounds=((0, len(raw), line),))
    return parse_chunk(chunk, options)


def _lines(chunk: Chunk) -> Iterator[tuple[bytes, int, int]]:
    if not chunk.data:
        return
    offset = chunk.start.offset
    for line, raw in enumerate(chunk.data.split(b"\n"), chunk.start.lines + 1):
        yield raw, line, offset
        offset += len(raw) + 1


def _bounded(chunk: Chunk) -> Iterator[tuple[bytes, int, int]]:
    base = chunk.start.offset
    for start, stop, line in chunk.bounds:
        yield chunk.data[start:stop], line, base + start


class _Reader:
    """Collects what the records of one chunk are."""

    def __init__(self, chunk: Chunk, options: Options) -> None:
        self._options = options
        self._end = chunk.end
        self._is_cut = chunk.framing == "lines" and chunk.data[-1:] != b"\n"
        self._last = chunk.start.offset + len(chunk.data)
        self._calls: list[TraceCall] = []
        self._streamed: list[TraceCall] = []
        self._rejected = list(chunk.rejected)
        self._blank = self._passed = 0
        # What follows the last line's end is no line.
        self._ends_with_newline = chunk.framing == "lines" and chunk.data[-1:] == b"\n"

    def text(self, raw: bytes, place: Place) -> None:
        """A record in JSON."""
        if not raw or raw.isspace():
            self._blank += not (self._ends_with_newline and place.offset == self._last)
            return
        try:
            self._object(_loaded(raw), raw, place)
        except RecordFault as fault:
            self._reject(fault.reason, fault.detail, raw, place)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self._reject(
                Reason.UNREADABLE, f"the reader failed: {type(error).__name__}", raw, place
            )

    def message(self, raw: bytes, place: Place) -> None:
        """A record in protobuf."""
        try:
            self._spans(otlp.spans_of_protobuf(raw), raw, place)
        except RecordFault as fault:
            self._reject(fault.reason, fault.detail, raw, place)

    def parsed(self) -> Parsed:
        """All of it."""
        joined = telling.joined(self._streamed) if self._streamed else []
        calls = self._calls + joined
        parts = len(self._streamed) - len(joined)
        tally = Tally(
            records=len(calls) + parts + self._passed + len(self._rejected),
            calls=len(calls),
            joined=parts,
            passed=self._passed,
            rejected=len(self._rejected),
            blank=self._blank,
        )
        return Parsed(calls, self._rejected, tally, self._end)

    def _object(self, record: Record, raw: bytes, place: Place) -> None:
        if litellm.is_record(record):
            self._keep(litellm.read(record, place))
        elif otlp.is_record(record):
            self._spans(otlp.spans_of_json(record), raw, place)
        elif claude_code.is_record(record):
            call = claude_code.read(record, place)
            if call is None:
                self._passed += 1
            else:
                self._streamed.append(call)
        elif prodlens.is_record(record):
            self._calls.append(prodlens.read(record, place))
        else:
            raise RecordFault(Reason.UNKNOWN_RECORD, "the object is a record of no known format")

    def _keep(self, call: TraceCall | None) -> None:
        if call is None:
            self._passed += 1
        else:
            self._calls.append(call)

    def _spans(self, told: Iterator[otlp.Told], raw: bytes, place: Place) -> None:
        """Each span for itself, those that are none as one record; a request without any span is a
        record that was passed."""
        first = next(told, None)
        if first is None:
            self._passed += 1
            return
        spans, faults = 0, list[RecordFault]()
        for span in chain((first,), told):
            spans += 1
            try:
                self._keep(otlp.read(span(), place))
            except RecordFault as fault:
                faults.append(fault)
        if faults:
            self._reject(faults[0].reason, _all_of(faults, spans), raw, place)

    def _reject(self, reason: Reason, detail: str, raw: bytes, place: Place) -> None:
        is_last = self._is_cut and place.offset + len(raw) == self._last
        if is_last and (reason is Reason.NOT_JSON or _ends_inside_character(reason, raw)):
            reason, detail = Reason.CUT_SHORT, "the source ends inside the record"
        self._rejected.append(reject(reason, detail, raw, place.line, place.offset))


def _ends_inside_character(reason: Reason, raw: bytes) -> bool:
    """Whether a record is not UTF-8 only because its last character is cut."""
    if reason is not Reason.NOT_UTF8:
        return False
    try:
        codecs.utf_8_decode(raw, "strict", False)  # more may follow
    except UnicodeDecodeError:
        return False
    return True


def _all_of(faults: Sequence[RecordFault], spans: int) -> str:
    """What is wrong with spans of one request, each reason once and with how many have it."""
    if len(faults) == 1:
        return faults[0].detail
    told = Counter(fault.detail for fault in faults)
    why = [f"{count:,} times: {detail}" for detail, count in told.most_common(_MAX_DETAILS)]
    return f"{len(faults):,} of {spans:,} spans are none; {'; '.join(why)}"


def _loaded(raw: bytes) -> Record:
    """The object of a record. Raises RecordFault."""
    if len(raw) > _COUNTED_FROM:
        _check_size(raw)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = _rescued(raw)
    if type(value) is not dict:
        raise RecordFault(Reason.NOT_AN_OBJECT, "the record is no JSON object")
    return cast("Record", value)


def _check_size(raw: bytes) -> None:
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise RecordFault(
            Reason.TOO_MANY_VALUES, f"the record holds more than {MAX_VALUES:,} values"
        )


def _rescued(raw: bytes) -> Any:
    """What Python's json writes and JSON does not allow: NaN, infinities, halves of surrogate
    pairs; and a byte order mark. Raises RecordFault with the reason for everything else."""
    if b"\0" in raw:
        raise RecordFault(Reason.NUL_BYTE, "the record holds a NUL byte")
    text = raw.removeprefix(_BOM).strip()
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise RecordFault(
                Reason.NOT_UTF8, f"byte {error.start} of the record is not UTF-8"
            ) from None
    try:
        walk = JsonWalk(text, lenient=True)
        value = walk.value()[0]
        walk.finish()
    except InvalidJson:
        raise _not_json(text) from None
    return plain(value, _KEPT_DEPTH)


def _not_json(text: bytes) -> RecordFault:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "depth" in error.msg:
            return RecordFault(Reason.TOO_DEEP, "the record is nested too deep")
        return RecordFault(Reason.NOT_JSON, f"{_NOT_JSON}: {error.msg} (character {error.pos})")
    return RecordFault(Reason.TOO_DEEP, "the record is nested too deep")
