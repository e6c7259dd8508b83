"""Flattened lists made whole: `a.0.role` and `a.1.role` are two objects.

The work is bounded by the attributes' own size: an index is a key, however large, and what lies
deeper than `MAX_LEVELS` stays one name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

MAX_LEVELS = 16
_MAX_INDEX_DIGITS = 18


class _Node(dict[str, Any]):
    """An object made here, as opposed to one that an attribute holds."""


def is_index(segment: str) -> bool:
    """Whether a part of a name counts the items of a list."""
    return segment.isascii() and segment.isdecimal() and len(segment) <= _MAX_INDEX_DIGITS


def nested(entries: Iterable[tuple[str, Any]]) -> Any:
    """The object or list that (dotted path, value) pairs flatten.

    The order of the pairs changes nothing. A level whose names are all indexes is a list in the
    order of the indexes, gaps closed. A value at a place where others lie deeper is kept there
    under the empty name. Values themselves are not looked into or changed.
    """
    root = _Node()
    for path, value in entries:
        _put(root, path.split(".", MAX_LEVELS), value)
    return _finished(root)


def _put(node: _Node, segments: list[str], value: Any) -> None:
    for segment in segments[:-1]:
        inner = node.get(segment)
        if not isinstance(inner, _Node):
            fresh = _Node()
            if segment in node:
                fresh[""] = inner
            node[segment] = inner = fresh
        node = inner
    last = segments[-1]
    if isinstance(node.get(last), _Node):
        cast("_Node", node[last])[""] = value
    else:
        node[last] = value


def _finished(value: Any) -> Any:
    if not isinstance(value, _Node):
        return value
    if value and all(map(is_index, value)):
        return [_finished(value[index]) for index in sorted(value, key=_index_order)]
    return {name: _finished(inner) for name, inner in value.items()}


def _index_order(segment: str) -> tuple[int, str]:
    return int(segment), segment
