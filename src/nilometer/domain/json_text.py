"""JSON as text: strict to accept, exact to keep.

What a client sent is kept as the text it sent: 1.10 stays 1.10 and an integer past 2^63 keeps its
digits. So acceptance must leave no text that two readers would read differently: no duplicate key,
no NaN, no lone surrogate, no nesting that a later parser refuses.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

MAX_DEPTH = 127
MAX_INTEGER_DIGITS = 4300  # what Python converts; a longer one costs quadratic time
_WHITESPACE = " \t\n\r"
# Every bracket as the signed byte by which it changes the depth.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


class InvalidJson(ValueError):
    """The text is not acceptable JSON; the message says why and where, in one sentence."""


def loads(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises InvalidJson for bad UTF-8 and syntax, duplicate keys in one object, NaN and Infinity,
    lone surrogates, integers of more than 4,300 digits, and nesting deeper than 127 levels (the
    limit of the original capture service).
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8 at byte {error.start}") from None
    _check_depth(data)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except InvalidJson:
        raise
    except ValueError:
        raise InvalidJson(f"an integer has more than {MAX_INTEGER_DIGITS} digits") from None
    if "\\u" in text:
        _check_surrogates(text, value)
    return value


def members(text: str) -> dict[str, str]:
    """The exact source text of each member's value of the object that `text` is.

    The text must have been accepted by `loads` and be an object.
    """
    found: dict[str, str] = {}
    index = _skip(text, text.index("{") + 1)
    while text[index] != "}":
        key, index = _DECODER.raw_decode(text, index)
        start = _skip(text, _skip(text, index) + 1)
        end = _DECODER.raw_decode(text, start)[1]
        found[key] = text[start:end]
        index = _skip(text, end)
        if text[index] == ",":
            index = _skip(text, index + 1)
    return found


def with_members(text: str, added: dict[str, str]) -> str:
    """The object `text` with members added at its end, its own text unchanged.

    The values of `added` are JSON texts and its keys are not in the object yet.
    """
    if not added:
        return text
    body = text.rstrip(_WHITESPACE).removesuffix("}").rstrip(_WHITESPACE)
    joined = ",".join(f"{json.dumps(key)}:{value}" for key, value in added.items())
    return f"{body}{'' if body.endswith('{') else ','}{joined}}}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = key if len(key) <= 64 else key[:61] + "..."
                raise InvalidJson(f"duplicate key {shown!a}")
            seen.add(key)
    return result


def _refuse_constant(name: str) -> Any:
    raise InvalidJson(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _check_depth(data: bytes) -> None:
    """Refuse what nests too deep before a recursive parser sees it.

    In passes at the speed of C, about 40 ms for the worst megabyte: without its strings and
    everything but brackets, the depth is a running sum. A backslash outside a string is read
    wrongly here; the parser stops there, before any depth that follows.
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(unescaped.split(b'"')[::2])
    steps = memoryview(outside.translate(_STEPS, _NOT_BRACKETS)).cast("b")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise InvalidJson(f"nested deeper than {MAX_DEPTH} levels")


def _check_surrogates(text: str, value: Any) -> None:
    lowered = text.lower()
    if "\\ud" not in lowered:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidJson("a string holds half of a surrogate pair") from None


def _skip(text: str, index: int) -> int:
    while text[index] in _WHITESPACE:
        index += 1
    return index
