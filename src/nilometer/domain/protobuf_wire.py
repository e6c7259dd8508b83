"""The wire format of protobuf, as far as taking a message apart and putting one together needs it.

Only the outermost fields of a message are walked, and what lies in them is left as bytes: so a
message of millions of parts can be bounded before anything is allocated for them.
"""

from __future__ import annotations

from collections.abc import Iterator

LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}
_MAX_VARINT_SHIFT = 63


class MalformedMessage(ValueError):
    """These bytes are no protobuf message. The text says where, never what is there."""


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of the message in `data[start:end]`, in order.

    Each is (number, wire type, where it starts, where its content starts, where it ends). Groups,
    which protobuf gave up, count as malformed. Raises MalformedMessage.
    """
    position = start
    while position < end:
        first = position
        tag, position = _varint(data, position, end)
        kind = tag & 7
        if kind == LENGTH_DELIMITED:
            length, position = _varint(data, position, end)
            last = position + length
        elif kind == 0:
            _, last = _varint(data, position, end)
        elif kind in _FIXED:
            last = position + _FIXED[kind]
        else:
            raise MalformedMessage(f"unknown wire type {kind} at byte {first}")
        if last > end or not tag >> 3:
            raise MalformedMessage(f"a field at byte {first} is cut or has no number")
        yield tag >> 3, kind, first, position, last
        position = last


def count(data: bytes, start: int, end: int, path: tuple[frozenset[int], ...]) -> int:
    """How many messages there are at a path of field numbers. Raises MalformedMessage."""
    if not path:
        return 1
    wanted, inner = path[0], path[1:]
    return sum(
        count(data, begin, last, inner)
        for number, kind, _, begin, last in fields(data, start, end)
        if kind == LENGTH_DELIMITED and number in wanted
    )


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field: a message, a text or bytes."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(content)) + content


def integer_field(number: int, value: int) -> bytes:
    """A field with a number that is not negative."""
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    """A number that is not negative, as protobuf writes it."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position`, and where it ends."""
    value = shift = 0
    while position < end and shift <= _MAX_VARINT_SHIFT:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise MalformedMessage(f"a number that ends at byte {position} is cut or too long")
