"""A pack's text, in YAML or JSON, as a document: bounded, and of JSON's values alone.

Of YAML it takes what YAML 1.2 has in common with JSON: no anchors or aliases (a short text can
become a huge document by them), no tags, no second document, no member twice; `yes`, `on` and dates
are texts. The text is read from its events, so no object is ever made that a text names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import yaml

from nilometer.domain import json_text
from nilometer.domain.json_text import InvalidJson
from nilometer.incidents.packs.pack import Pack
from nilometer.incidents.packs.reading import (
    MAX_BYTES,
    MAX_VALUES,
    PackInvalid,
    Problem,
    check_bytes,
    parse_pack,
)

MAX_DEPTH = 40

# libyaml's, ten times as fast, is in the wheels of the package but not in every build of it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document and the lines on which its members stand, by their path."""

    value: Any
    lines: Mapping[str, int] = field(default_factory=dict[str, int], repr=False)


def read_document(data: bytes) -> Document:
    """The document of a text in UTF-8. Raises PackInvalid."""
    check_bytes(data, MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(f"It is not UTF-8 at byte {error.start}.") from None
    if text.lstrip()[:1] == "{":
        return _json_or_yaml(data, text)
    return _Reader().read(text)


def read_pack(data: bytes) -> tuple[Pack, Any]:
    """The pack of a text, and its document. Raises PackInvalid, whose problems have their lines."""
    document = read_document(data)
    try:
        return parse_pack(document.value), document.value
    except PackInvalid as error:
        told = (
            Problem(each.path, each.sentence, _line(each.path, document.lines))
            for each in error.problems
        )
        raise PackInvalid(tuple(told)) from None


def _json_or_yaml(data: bytes, text: str) -> Document:
    """JSON, or YAML that begins with a brace."""
    try:
        return Document(json_text.loads(data))
    except InvalidJson as error:
        if text.rstrip()[-1:] == "}" and '"' in text:
            raise _invalid(f"It is not JSON: {error}.") from None
        return _Reader().read(text)


def _line(path: str, lines: Mapping[str, int]) -> int | None:
    """Of the place, or of the nearest one that is there around it."""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)


def _invalid(sentence: str, line: int | None = None) -> PackInvalid:
    return PackInvalid((Problem("", sentence, line),))


def _events(text: str) -> Iterator[yaml.Event]:
    parse = cast("Callable[..., Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
    return parse(text, Loader=_LOADER)


class _Reader:
    """One text, read once."""

    def __init__(self) -> None:
        self._values = 0
        self._lines: dict[str, int] = {}
        self._open: list[tuple[Any, str, list[str]]] = []  # container, its path, the name waiting
        self._root: list[Any] = []

    def read(self, text: str) -> Document:
        try:
            for event in _events(text):
                self._take(event)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = None if mark is None else mark.line + 1
            told = getattr(error, "problem", None) or "it cannot be read"
            raise _invalid(f"It is not YAML: {told}.", line) from None
        if not self._root:
            raise _invalid("It is empty.")
        return Document(self._root[0], self._lines)

    def _take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise _invalid("Aliases (*name) are not taken; write it out.", line)
        if isinstance(event, yaml.DocumentStartEvent) and self._root:
            raise _invalid("There is a second document; a file has one pack.", line)
        if isinstance(event, yaml.NodeEvent):
            self._check(event, line)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin({}, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin([], line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()

    def _check(self, event: yaml.NodeEvent, line: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _invalid(f"It has more than {MAX_VALUES:,} values.", line)
        if event.anchor is not None:
            raise _invalid("Anchors (&name) are not taken; write it out.", line)
        if getattr(event, "tag", None) not in (None, "!"):
            raise _invalid("Tags (!name) are not taken; write the value plainly.", line)

    def _begin(self, container: Any, line: int) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _invalid(f"It is nested deeper than {MAX_DEPTH} levels.", line)
        path = self._add(container, line)
        self._open.append((container, path, []))

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        container, _, names = self._open[-1] if self._open else (None, "", [])
        if isinstance(container, dict) and not names:
            if event.value in container:
                raise _invalid(f"The member {event.value[:100]!r} is there twice.", line)
            names.append(event.value)
            return
        plain: bool = event.implicit[0]
        self._add(_plain(event.value, line) if plain else event.value, line)

    def _add(self, value: Any, line: int) -> str:
        """Put a value where it belongs; its path."""
        if not self._open:
            self._root.append(value)
            return ""
        container, path, names = self._open[-1]
        if isinstance(container, dict):
            if not names:
                raise _invalid("The name of a member must be a text.", line)
            name = names.pop()
            container[name] = value
        else:
            name = str(len(container))
            container.append(value)
        here = f"{path}.{name}" if path else name
        self._lines[here] = line
        return here


def _plain(text: str, line: int) -> Any:
    """A scalar without quotes, by YAML 1.2's core schema without its octal and special numbers."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise _invalid(f"The number {text} is too large.", line)
        return number
    return text
