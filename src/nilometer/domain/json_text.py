"""JSON as text: strict to accept, exact to keep.

What a client sent is kept as the text it sent: 1.10 stays 1.10 and an integer past 2^63 keeps its
digits. So acceptance must leave no text that two readers would read differently: no duplicate key,
no NaN, no lone surrogate, no nesting that a later parser refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from itertools import accumulate
from typing import Any

MAX_DEPTH = 127
MAX_INTEGER_DIGITS = 4300  # what Python converts; a longer one costs quadratic time
_WHITESPACE = " \t\n\r"
_SKIPPED = re.compile(rf"[{_WHITESPACE}]*+").match
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
    text = decoded(data)
    value, end = value_at(text, skip(text, 0))
    end = skip(text, end)
    if end != len(text):
        raise extra_data(text, end)
    if may_have_surrogates(text):
        check_surrogates(text, value)
    return value


def decoded(data: bytes) -> str:
    """The text, whose nesting is not too deep for what parses it next. Raises InvalidJson."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8 at byte {error.start}") from None
    _check_depth(data)
    return text


def value_at(text: str, start: int, *, lenient: bool = False) -> tuple[Any, int]:
    """The value that begins at `start` of a decoded text, and where it ends; lone surrogates are
    for `check_surrogates` to find. Raises InvalidJson.

    `lenient` takes NaN and Infinity, and of a repeated name the last value, as Python's json.
    """
    try:
        return (_LENIENT_DECODER if lenient else _DECODER).raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except InvalidJson:
        raise
    except ValueError:
        raise InvalidJson(f"an integer has more than {MAX_INTEGER_DIGITS} digits") from None


def may_have_surrogates(text: str) -> bool:
    """Whether a text may write half of a surrogate pair: then its values must be looked at."""
    return "\\u" in text and "\\ud" in text.lower()


def check_surrogates(text: str, value: Any) -> None:
    """Raise InvalidJson if a string of the value that `text` is holds half of a surrogate pair."""
    if "\\u" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidJson("a string holds half of a surrogate pair") from None


def extra_data(text: str, place: int) -> InvalidJson:
    """The error for what stands behind the outermost value."""
    error = json.JSONDecodeError("", text, place)
    return InvalidJson(f"Extra data at line {error.lineno} column {error.colno}")


def unexpected(text: str, place: int, wanted: str) -> InvalidJson:
    """The error for a place where `wanted` should stand."""
    error = json.JSONDecodeError("", text, place)
    return InvalidJson(f"Expecting {wanted} at line {error.lineno} column {error.colno}")


def duplicate_key(key: str) -> InvalidJson:
    """The error for a name that occurs twice in one object."""
    shown = key if len(key) <= 64 else key[:61] + "..."
    return InvalidJson(f"duplicate key {shown!a}")


def members(text: str) -> dict[str, str]:
    """The exact source text of each member's value of the object that `text` is.

    The text must have been accepted by `loads` and be an object.
    """
    found: dict[str, str] = {}
    index = _value_from(text, text.index("{") + 1)
    while text[index] != "}":
        key, index = _LENIENT_DECODER.raw_decode(text, index)
        start = _value_from(text, _value_from(text, index) + 1)
        end = _LENIENT_DECODER.raw_decode(text, start)[1]
        found[key] = text[start:end]
        index = _value_from(text, end)
        if text[index] == ",":
            index = _value_from(text, index + 1)
    return found


def _value_from(text: str, index: int) -> int:
    """As `skip`, where something follows: most often there is nothing to skip."""
    return skip(text, index) if text[index] in _WHITESPACE else index


def without_members(text: str, names: Collection[str]) -> str:
    """The object `text` without these members, the others' values unchanged."""
    kept = {name: value for name, value in members(text).items() if name not in names}
    return with_members("{}", kept)


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
                raise duplicate_key(key)
            seen.add(key)
    return result


def _refuse_constant(name: str) -> Any:
    raise InvalidJson(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
_LENIENT_DECODER = json.JSONDecoder()


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


def skip(text: str, index: int) -> int:
    """The first place from `index` on that is no whitespace; the end of the text if there is
    none."""
    skipped = _SKIPPED(text, index)
    return skipped.end() if skipped else index
