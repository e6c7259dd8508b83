"""What a source is, by its first bytes: how it is compressed, and how its records are framed."""

from __future__ import annotations

import re
import struct
from typing import Literal

import orjson

from nilometer.importers.chunk import Framing
from nilometer.importers.formats import known

Compression = Literal["", "gzip", "zstd"]

HEAD = 64 * 1024
"""So many bytes are looked at."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_CONTROLS = bytes(set(range(32)) - set(b"\t\r\n\x0c\x1b"))
_RESOURCE_SPANS = 0x0A
_INSIDE = frozenset({0x0A, 0x12, 0x1A})
"""The tags that a resource's spans begin with: resource, scope's spans, schema."""
_TAG_LENGTH_TAG = 3  # bytes that `_is_request` looks at
_LISTING = re.compile(rb'\{\s*"(?:data|logs|results|spend_logs)"\s*:\s*\[')
"""How answers of `/spend/logs/v2` and its like begin."""
_OBJECTS = re.compile(rb"\[\s*\{|\{")
_WORD = re.compile(rb"\[\s*(?!true|false|null|NaN|Infinity)[A-Za-z]")
"""`[INFO] started`: what loggers write, and no list."""


def compression(head: bytes) -> Compression:
    """How a file is compressed, by its magic number; "" for not."""
    if head.startswith(_GZIP):
        return "gzip"
    # A skippable frame, which `pzstd` puts first, has 16 magic numbers.
    is_skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    return "zstd" if head.startswith(_ZSTD) or is_skippable else ""


def framing(head: bytes) -> Framing:
    """How content is framed, by its first bytes.

    The first line may be a bad one, so it does not decide alone: what begins as a document does is
    none where the line behind it is a record by itself.
    """
    if is_protobuf(head):
        return "messages"
    text = head.removeprefix(_BOM).lstrip(_SPACE)
    first, _, rest = text.partition(b"\n")
    is_laid_out = b"\n" in text and first.rstrip().endswith((b"{", b"[", b",", b":"))
    if text.startswith(b"[") or _LISTING.match(text):
        return "lines" if _is_bad_line(first, rest) else "values"
    if text.startswith(b"{") and is_laid_out:
        return "lines" if _begins_with_record(rest) else "values"
    return "lines"


def _is_bad_line(first: bytes, rest: bytes) -> bool:
    """Whether a line that begins as a list or a listing does is a line among others, and bad."""
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return _WORD.match(first) is not None or _begins_with_record(rest)
    # A whole list of objects is read as one, whatever follows it.
    return _OBJECTS.match(first) is None and rest.strip() != b""


def _begins_with_record(rest: bytes) -> bool:
    """Whether a record stands here by itself, and not between the brackets of a document."""
    line, _, behind = rest.lstrip(_SPACE).partition(b"\n")
    return known.is_record(line) and not behind.lstrip(_SPACE).startswith((b",", b"]", b"}"))


def value_level(head: bytes) -> int:
    """In content framed by `values`: how many brackets are open around each record. 0 in a
    sequence of objects, 1 in a list, 2 in a list inside an object."""
    text = head.removeprefix(_BOM).lstrip(_SPACE)
    if text.startswith(b"["):
        return 1
    return 2 if _LISTING.match(text) else 0


def is_protobuf(head: bytes) -> bool:
    """Whether content is export requests of OTLP: one, or several with their lengths before."""
    if not head or not _has_control(head) or _is_spaced_text(head):
        return False
    return _is_request(head, 0) or message_prefix(head) != ""


def _is_spaced_text(head: bytes) -> bool:
    """Whether content is text behind empty lines, whose bytes are tags and lengths as well: a
    message so short has no character here yet."""
    text = head.lstrip(_SPACE)
    return len(head) - len(text) >= _TAG_LENGTH_TAG and text[:1] > b" "


MessagePrefix = Literal["", "fixed", "varint"]


def message_prefix(head: bytes) -> MessagePrefix:
    """How the length of each message is written: `fixed` is four bytes, the first the highest, as
    the collector's file exporter does; `varint` as protobuf's delimited writers do; "" not."""
    if _is_request(head, 0):
        return ""
    if len(head) >= 4 and struct.unpack(">I", head[:4])[0] >= 2 and _is_request(head, 4):
        return "fixed"
    _, start = varint(head, 0)
    return "varint" if start and _is_request(head, start) else ""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; (0, 0) where none is whole."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 0, 0


def _is_request(head: bytes, at: int) -> bool:
    """Whether a request begins here: a resource's spans, in which something of theirs does."""
    if len(head) <= at or head[at] != _RESOURCE_SPANS:
        return False
    _, inside = varint(head, at + 1)
    return 0 < inside < len(head) and head[inside] in _INSIDE


def _has_control(head: bytes) -> bool:
    """Whether the first bytes hold what no text does: of a request, its lengths and ids do."""
    return len(head[:4096].translate(None, _CONTROLS)) != len(head[:4096])
