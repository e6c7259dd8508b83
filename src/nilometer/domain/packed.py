"""Large values that were sent inside an event and are kept beside it: which, where, and the texts
with and without them.

In the text of a JSON object a value's place is taken by the URL where it is kept, as a JSON string.
Everything else of the text stays as it is, so that putting the values back gives the very bytes
that were sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from nilometer.domain import json_text

SOURCE = "source"


@dataclass(frozen=True, slots=True)
class PackedValue:
    """One value of a stored event that is kept in an object of many.

    `property` is its name among the event's properties; None when it is the whole column `source`.
    `url` is `{scheme}://{bucket}/{key}?range={start}-{end}`. `size` is that of its JSON text in
    bytes, `stored_size` as stored.
    """

    property: str | None
    url: str
    size: int
    stored_size: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a JSON object: its name, and the place of its value in the object's text."""

    name: str
    start: int
    end: int


def large_members(text: str, above: int) -> list[Member]:
    """The members of the object `text` whose value takes more than `above` bytes of UTF-8, in
    their order. One whose name occurs twice is left out: readers would not agree on which it is.

    Raises InvalidJson for what is no JSON object.
    """
    if not is_large(text, above):
        return []
    members = list(_members(text))
    names = [member.name for member in members]
    twice = {name for name in names if names.count(name) > 1} if _repeats(names) else set[str]()
    return [
        member
        for member in members
        if member.name not in twice and is_large(text[member.start : member.end], above)
    ]


def is_large(text: str, above: int) -> bool:
    """Whether a text takes more than `above` bytes of UTF-8."""
    return len(text) > above or (4 * len(text) > above and len(text.encode()) > above)


def without(text: str, urls: Sequence[tuple[Member, str]]) -> str:
    """The object with a URL in place of each of these members' values, given in their order."""
    return _spliced(text, [(member, string(url)) for member, url in urls])


def put_back(text: str, values: Mapping[str, str]) -> str:
    """The object with these JSON texts in place of the values of the members so named."""
    if not values:
        return text
    places = [member for member in _members(text) if member.name in values]
    return _spliced(text, [(member, values[member.name]) for member in places])


def string(text: str) -> str:
    """The JSON string of a text."""
    return orjson.dumps(text).decode()


def to_json(values: Sequence[PackedValue]) -> str:
    """The list as a row keeps it."""
    return orjson.dumps([_entry(value) for value in values]).decode()


def from_json(text: str) -> tuple[PackedValue, ...]:
    """The list that `to_json` wrote."""
    return tuple(
        PackedValue(entry.get("property"), entry["url"], entry["size"], entry["stored_size"])
        for entry in orjson.loads(text or "[]")
    )


def _entry(value: PackedValue) -> dict[str, Any]:
    entry = asdict(value)
    if value.property is None:
        del entry["property"]
        entry["column"] = SOURCE
    return entry


def _members(text: str) -> Iterator[Member]:
    place = json_text.skip(text, 0)
    if text[place : place + 1] != "{":
        raise json_text.unexpected(text, place, "an object")
    place = json_text.skip(text, place + 1)
    while text[place : place + 1] != "}":
        name, place = json_text.value_at(text, place, lenient=True)
        start = json_text.skip(text, json_text.skip(text, place) + 1)
        end = json_text.value_at(text, start, lenient=True)[1]
        yield Member(name, start, end)
        place = json_text.skip(text, end)
        if text[place : place + 1] == ",":
            place = json_text.skip(text, place + 1)


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) != len(names)


def _spliced(text: str, values: Sequence[tuple[Member, str]]) -> str:
    pieces: list[str] = []
    done = 0
    for member, value in values:
        pieces += (text[done : member.start], value)
        done = member.end
    return "".join((*pieces, text[done:]))
