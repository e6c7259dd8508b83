"""How much work it is to hold a value against a schema, counted before it is done.

A validator cannot be stopped on the way, and nothing else runs meanwhile. References make a small
schema stand for an enormous one, and one that refers to itself twice costs twice as much with each
level of the value. One unit is about 20 ns: a keyword's value, looked at for one value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, cast
from urllib.parse import unquote

MAX_WEIGHT: Final = 20_000
"""Of a schema for a single value, references followed."""
MAX_WORK: Final = 1_000_000
"""Of a schema for a value with all that is in it: tens of milliseconds."""
_CHARACTERS: Final = 8
"""So many of a text that patterns are matched with weigh as much as a value."""
_AGAIN: Final = 3
"""What is beside `unevaluated…` is looked at again, to find what was evaluated."""

_HERE: Final = ("not", "if", "then", "else")
_HERE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_HERE_MAPS: Final = ("dependentSchemas", "dependencies")
_OF_ITEMS: Final = ("items", "contains", "unevaluatedItems")
_OF_MEMBERS: Final = ("propertyNames", "unevaluatedProperties")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_APPLIED: Final = {*_HERE, *_HERE_LISTS, *_OF_ITEMS, *_OF_MEMBERS, "additionalProperties"}
_BY_NAME: Final = {*_HERE_MAPS, "properties", "patternProperties"}
_TELLING: Final = {"$defs", "definitions", "$comment", "title", "description", "examples"}
_DATA: Final = ("const", "enum", "default", "examples")

_Node = dict[str, Any]


class TooMuchWork(ValueError):
    """It would take too long; the message says of what, as the end of a sentence."""


@dataclass(slots=True)
class SchemaEffort:
    """Of one schema, which must stay as it is. Safe between threads once it is checked."""

    root: Any
    anchors: dict[str, _Node] = field(default_factory=dict[str, _Node])
    _parts: dict[int, Counter[int]] = field(default_factory=dict[int, Counter[int]])
    _nodes: dict[int, _Node] = field(default_factory=dict[int, _Node])
    _own: dict[int, int] = field(default_factory=dict[int, int])
    _open: set[int] = field(default_factory=set[int])
    _lock: Lock = field(default_factory=Lock)

    def check(self) -> None:
        """Raises TooMuchWork for a schema that no value can be held against."""
        try:
            self._index(self.root)
            for node in list(_objects(self.root)):
                self._weight(node)
        except RecursionError:
            raise TooMuchWork("it is nested, or refers on, too deeply") from None

    def of(self, value: Any) -> int:
        """The most units that it can be for this value. Raises TooMuchWork beyond `MAX_WORK`."""
        try:
            with self._lock:
                return _Sum(self).of(self.root, value)
        except RecursionError:
            raise TooMuchWork("it is nested too deeply") from None

    def _index(self, value: Any, *, top: bool = True) -> None:
        if isinstance(value, list):
            for each in cast("list[Any]", value):
                self._index(each, top=False)
        elif isinstance(value, dict):
            node = cast("_Node", value)
            if not top and isinstance(node.get("$id"), str):
                raise TooMuchWork("only the whole schema may have an $id")
            for name in ("$anchor", "$dynamicAnchor"):
                if isinstance(node.get(name), str):
                    self.anchors[node[name]] = node
            for name, each in node.items():
                if name not in _DATA or isinstance(each, dict):
                    self._index(each, top=False)

    def _weight(self, node: _Node) -> int:
        parts = self.parts(node)
        weight = sum(self.own(part) * times for part, times in parts.items())
        if weight > MAX_WEIGHT:
            raise TooMuchWork(
                "its references make it too large: a value would be held against "
                f"more than {MAX_WEIGHT} keywords"
            )
        return weight

    def parts(self, node: _Node) -> Counter[int]:
        """The schemas that hold for the same value as this one, by how often they are looked at."""
        place = id(node)
        if place in self._parts:
            return self._parts[place]
        if place in self._open:
            raise TooMuchWork("a reference leads back to where it is, for the same value")
        self._open.add(place)
        found = Counter({place: 1})
        again = _AGAIN if {"unevaluatedItems", "unevaluatedProperties"} & node.keys() else 1
        try:
            for each in self._here(node):
                for part, times in self.parts(each).items():
                    found[part] += times * again
        finally:
            self._open.discard(place)
        self._nodes[place], self._parts[place] = node, found
        return found

    def node(self, place: int) -> _Node:
        """One of `parts`."""
        return self._nodes[place]

    def own(self, place: int) -> int:
        """What one of `parts` costs by itself."""
        if place not in self._own:
            self._own[place] = _own(self._nodes[place])
        return self._own[place]

    def _here(self, node: _Node) -> Iterator[_Node]:
        for name in _REFERENCES:
            if isinstance(node.get(name), str):
                yield from _schemas([self._referred(node[name])])
        yield from _schemas(node.get(name) for name in _HERE)
        for name in _HERE_LISTS:
            yield from _schemas(_list(node.get(name)))
        for name in _HERE_MAPS:
            yield from _schemas(_map(node.get(name)).values())

    def _referred(self, text: str) -> Any:
        base, _, fragment = text.partition("#")
        own = _map(self.root).get("$id")
        if base and base != (own.partition("#")[0] if isinstance(own, str) else None):
            raise TooMuchWork("a reference begins with '#'")
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            found = self.anchors.get(fragment)
        else:
            found = self.root
            for part in fragment.split("/")[1:]:
                found = _member(found, part.replace("~1", "/").replace("~0", "~"))
        if found is None:
            raise TooMuchWork("a reference leads nowhere")
        return found


@dataclass(slots=True)
class _Sum:
    """Of one value."""

    effort: SchemaEffort
    known: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    counted: int = 0

    def of(self, schema: Any, value: Any) -> int:
        """The work of a schema for a value. Raises TooMuchWork."""
        if not isinstance(schema, dict):
            return self._bounded(1)
        key = id(cast("_Node", schema)), id(value)
        if key not in self.known:
            self.known[key] = self._of(cast("_Node", schema), value)
        return self.known[key]

    def _of(self, schema: _Node, value: Any) -> int:
        work = 0
        for place, times in self.effort.parts(schema).items():
            node = self.effort.node(place)
            own = self.effort.own(place)
            if isinstance(value, str) and "pattern" in node:
                own += len(value) // _CHARACTERS
            # Counted even where it was counted before: to count must not take long either.
            self.counted += 1
            self._bounded(self.counted)
            work += times * (own + self._within(node, value))
            self._bounded(work)
        return work

    def _within(self, node: _Node, value: Any) -> int:
        if isinstance(value, list | tuple):
            return self._items(node, cast("list[Any]", value))
        if isinstance(value, Mapping):
            return self._members(node, cast("Mapping[str, Any]", value))
        return 0

    def _items(self, node: _Node, values: list[Any]) -> int:
        work = len(values) if "uniqueItems" in node else 0
        for schema in (node[name] for name in _OF_ITEMS if name in node):
            for each in values:
                work = self._bounded(work + self.of(schema, each))
        for schema, each in zip(_list(node.get("prefixItems")), values, strict=False):
            work += self.of(schema, each)
        return work

    def _members(self, node: _Node, values: Mapping[str, Any]) -> int:
        named, patterns = _map(node.get("properties")), _map(node.get("patternProperties"))
        work = 0
        for name, each in values.items():
            if name in named:
                work += self.of(named[name], each)
            elif "additionalProperties" in node:
                work += self.of(node["additionalProperties"], each)
            for schema in patterns.values():
                work += 1 + len(name) // _CHARACTERS + self.of(schema, each)
            if "unevaluatedProperties" in node:
                work += self.of(node["unevaluatedProperties"], each)
            if "propertyNames" in node:
                work += self.of(node["propertyNames"], name)
            self._bounded(work)
        return work

    def _bounded(self, work: int) -> int:
        if work > MAX_WORK:
            raise TooMuchWork("it is too large, or nested too deeply")
        return work


def _own(node: _Node) -> int:
    """The values in a schema, but for those of schemas within it and what only tells."""
    told = (each for name, each in node.items() if name not in _APPLIED | _BY_NAME | _TELLING)
    lists = sum(len(_map(node.get(name))) for name in _BY_NAME)
    return 1 + lists + sum(_values(each) for each in told)


def _values(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_values, cast("_Node", value).values()))
    if isinstance(value, list):
        return 1 + sum(map(_values, cast("list[Any]", value)))
    return 1


def _objects(value: Any) -> Iterator[_Node]:
    """A schema and the schemas within it, wherever they may be referred to; no data."""
    if isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _objects(each)
    elif isinstance(value, dict):
        node = cast("_Node", value)
        yield node
        for name, each in node.items():
            if name not in _DATA:
                yield from _objects(each)


def _schemas(values: Any) -> Iterator[_Node]:
    return (cast("_Node", each) for each in values if isinstance(each, dict))


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _map(value: Any) -> _Node:
    return cast("_Node", value) if isinstance(value, dict) else {}


def _member(value: Any, name: str) -> Any:
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return items[int(name)] if name.isdecimal() and int(name) < len(items) else None
    return _map(value).get(name)
