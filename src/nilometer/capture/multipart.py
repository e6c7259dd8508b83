"""`multipart/form-data` as a stream of parts, stricter than most readers.

The `multipart` library does the parsing (sans-io, strict). Around it: the body must begin with
its boundary, nothing else may stand in front; what follows the last delimiter is ignored (RFC
2046); part headers are bounded, without repetition and without control characters; and a delimiter
that comes before a part's declared Content-Length is named for what it is, a collision.

How a body is cut into chunks never changes the parts, or whether it is accepted.

Most bodies arrive whole. Those are split at their delimiters at once, and their part heads, which
are the same in request after request, are read by the library once and remembered. Whatever is
unusual about such a body sends it the long way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import TypeAlias

from multipart import (  # pyright: ignore[reportMissingTypeStubs]  (it is typed inline)
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    StrictParserError,
)

from nilometer.capture.refusals import BoundaryCollision, DecodingFault

MAX_HEADER_BYTES = 4096
MAX_HEADERS = 16
_MAX_KNOWN_HEAD = 512
NAMELESS = "unknown"  # what the contract calls a part without a name

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  (RFC 9110's token, no secret)
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})[ \t]*")
_SIMPLE_DISPOSITION = re.compile(r'form-data; name="([^"\\%]*)"(?:; filename="[^"\\]*")?')
_SINGLE = frozenset({"Content-Disposition", "Content-Type", "Content-Encoding"})
_PERCENT = {"%22": '"', "%0D": "\r", "%0A": "\n"}


class Part(MultipartSegment):
    """The head of one part: `field`, its form name (`unknown` without one), and its headers.

    Raises DecodingFault for headers that can be read in two ways.
    """

    def __init__(self, headerlist: list[tuple[str, str]]) -> None:  # its parent is not called:
        self.bytes_received = 0  # it reads the disposition more laxly than we do
        self.complete = False
        self.headerlist = headerlist
        self.headers = _unambiguous(headerlist)
        self.field = _field_name(self.headers.get("Content-Disposition"))

    @property
    def declared_size(self) -> int | None:
        """The part's own Content-Length."""
        text = self.headers.get("Content-Length")
        return None if text is None else int(text)


PartEvent: TypeAlias = Part | bytes | None


class FormParser:
    """Feeds on chunks; yields a `Part`, then its bytes, then None, for each part in order."""

    def __init__(self, boundary: str, *, max_parts: int) -> None:
        self._max_parts = max_parts
        self._boundary = boundary
        self._opening = b"--" + boundary.encode("ascii")
        self._start: bytes | None = b""  # the first bytes, until the boundary was seen
        self._part: Part | None = None
        self.ended = False
        """Whether nothing can follow; a body that comes in chunks may end without our knowing."""
        self.parts = 0

    def feed(self, chunk: bytes) -> Iterator[PartEvent]:
        """The events of the next chunk; must be consumed before the next call.

        Raises DecodingFault.
        """
        if self._start is not None:
            whole = None if self._start else self._whole(chunk)
            if whole is not None:
                yield from whole
                return
            chunk = self._checked_start(chunk)
        if not chunk or self.ended:
            return
        try:
            yield from map(self._noted, self._library.parse(chunk))
        except StrictParserError as error:
            if not self._is_complete():
                raise self._fault(error) from None
            self.ended = True  # an epilogue in a chunk of its own
        except MultipartError as error:
            raise self._fault(error) from None

    def finish(self) -> None:
        """The body has ended. Raises DecodingFault unless the last delimiter has been read."""
        if self.ended or self._is_complete():
            return
        if self._part is not None:
            raise DecodingFault(
                "Failed to read field data: the body ends within a part", code="truncated_body"
            )
        raise _failed("the body ends before its last delimiter", "truncated_body")

    @cached_property
    def _library(self) -> _Parser:
        return _Parser(self._boundary, max_segment_count=self._max_parts + 1)

    def _whole(self, body: bytes) -> list[PartEvent] | None:
        """The events of a body that is complete in its first chunk, None if it is not plain."""
        if not body.startswith(self._opening) or not body.endswith((b"--\r\n", b"--")):
            return None
        *pieces, end = body[len(self._opening) :].split(b"\r\n" + self._opening)
        if end not in (b"--\r\n", b"--") or not 0 < len(pieces) <= self._max_parts:
            return None
        events: list[PartEvent] = []
        for piece in pieces:
            head_end = piece.find(b"\r\n\r\n")
            part = _known_part(piece[:head_end]) if 0 < head_end <= _MAX_KNOWN_HEAD else None
            if part is None:
                return None
            content = piece[head_end + 4 :]
            events += (part, content, None) if content else (part, None)
        self._start, self.ended = None, True
        self.parts = len(pieces)
        return events

    def _checked_start(self, chunk: bytes) -> bytes:
        """The body so far, once it is seen to begin with its boundary; until then nothing."""
        start = (self._start or b"") + chunk
        if len(start) < len(self._opening) + 2:
            self._start = start
            return b""
        self._start = None
        body = start.removeprefix(b"\r\n")
        if not body.startswith(self._opening):
            raise _failed("the body does not begin with the boundary of its Content-Type")
        return body

    def _noted(self, event: MultipartSegment | bytes | None) -> PartEvent:
        """Keep in mind which part is open; refuse one too many."""
        if event is None:
            self._part = None
        elif isinstance(event, Part):
            self.parts += 1
            if self.parts > self._max_parts:
                raise _failed(f"more than {self._max_parts} parts", "too_many_parts")
            self._part = event
        elif isinstance(event, MultipartSegment):
            raise TypeError("the parser made a segment that is not a Part")
        return event

    def _is_complete(self) -> bool:
        """Whether the last delimiter has been read; ends the parser."""
        try:
            self._library.close()
        except MultipartError:
            return False
        return True

    def _fault(self, error: MultipartError) -> DecodingFault:
        part = self._part
        if part is None:
            return _failed(_reason(error))
        declared = part.declared_size
        if declared is not None and part.bytes_received > declared:
            return _failed(f"a part is longer than its Content-Length of {declared} bytes")
        return BoundaryCollision(
            "Multipart parsing failed: the boundary occurs inside a part; retry with another "
            "boundary"
        )


class _Parser(PushMultipartParser):
    """The library's parser in strict mode, with our reading of a part's headers."""

    def __init__(self, boundary: str, *, max_segment_count: int) -> None:
        super().__init__(
            boundary,
            max_header_size=MAX_HEADER_BYTES,
            max_header_count=MAX_HEADERS,
            max_segment_count=max_segment_count,
            strict=True,
        )

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> Part:
        return Part(headerlist)


@lru_cache(maxsize=512)
def _known_part(head: bytes) -> Part | None:
    """The part that a line break and these header lines begin; None for one that must be read in
    its place, because it is at fault or declares its size."""
    try:
        for event in _Parser("b", max_segment_count=1).parse(b"--b" + head + b"\r\n\r\n"):
            if isinstance(event, Part) and event.declared_size is None:
                return event
    except (MultipartError, DecodingFault):
        return None
    return None


def _unambiguous(headerlist: list[tuple[str, str]]) -> dict[str, str]:
    headers = dict(headerlist)
    if len(headers) != len(headerlist):
        names = [name for name, _ in headerlist]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise _failed(f"a part has more than one {name} header")
    for value in headers.values():
        if _CONTROL.search(value):
            raise _failed("a part has a control character in its headers")
    return headers


def _field_name(disposition: str | None) -> str:
    if disposition is None:
        return NAMELESS
    simple = _SIMPLE_DISPOSITION.fullmatch(disposition)
    return simple[1] if simple else _field_name_by_grammar(disposition)


def _field_name_by_grammar(disposition: str) -> str:
    """RFC 7578's header in full; a file name and other parameters are ignored."""
    kind, _, _ = disposition.partition(";")
    if kind.strip().lower() != "form-data":
        raise _failed("a part's Content-Disposition is not form-data")
    names: list[str] = []
    position = len(kind)
    while position < len(disposition):
        match = _PARAMETER.match(disposition, position)
        if match is None:
            raise _failed("a part's Content-Disposition is malformed")
        if match[1].lower() == "name":
            names.append(_unquoted(match[2]))
        position = match.end()
    if len(names) > 1:
        raise _failed("a part's Content-Disposition has more than one name")
    return names[0] if names else NAMELESS


def _reason(error: MultipartError) -> str:
    """The library's sentence; it appends a Python error to that about an undecodable header."""
    if any(isinstance(argument, UnicodeDecodeError) for argument in error.args):
        return "a part's header is not UTF-8"
    return str(error)


def _unquoted(text: str) -> str:
    """A parameter's value: backslashes undone, and the three escapes of HTML's form encoding."""
    if not text.startswith('"'):
        return text
    bare = re.sub(r"\\(.)", r"\1", text[1:-1])
    return re.sub("%(?:22|0D|0A)", lambda escape: _PERCENT[escape[0]], bare)


def _failed(reason: str, code: str = "invalid_multipart") -> DecodingFault:
    return DecodingFault(f"Multipart parsing failed: {reason}", code=code)
