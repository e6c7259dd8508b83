"""Pages by keyset: a cursor names the row it stands at, not a count of rows before it.

Rows are listed newest first, by (moment, key), which no two rows of a list share. New rows that
arrive between two requests move nothing: every row that was there at the first request, and still
is, comes exactly once. A cursor belongs to one list of one project with one set of filters, and is
refused by any other: it would silently mean something else there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import orjson

from nilometer.errors import InvalidInput

MAX_LIMIT = 500
DEFAULT_LIMIT = 50
_VERSION = 1
_LONGEST = 512
_INT64 = 2**63

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: just past the row of this moment (microseconds) and key, towards older
    rows, or towards newer ones when `newer` is set."""

    micros: int
    key: str
    newer: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, newest first, and the cursors of the pages on both sides (None: no such page)."""

    rows: tuple[Row, ...]
    next: str | None
    previous: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a cursor belongs to: the list's name, the project, and the filters in effect."""

    name: str
    project_id: int
    filters: Mapping[str, Any]

    def digest(self) -> str:
        """A short text that differs for another list, project or set of filters."""
        told = [self.name, self.project_id, sorted(self.filters.items())]
        return hashlib.sha256(orjson.dumps(told)).hexdigest()[:16]


def encode(cursor: Cursor, listing: Listing) -> str:
    """The opaque text of a cursor, safe in a URL."""
    fields = [_VERSION, listing.digest(), cursor.micros, cursor.key, cursor.newer]
    return base64.urlsafe_b64encode(orjson.dumps(fields)).rstrip(b"=").decode()


def decode(text: str, listing: Listing, *, key_is_valid: Callable[[str], bool]) -> Cursor:
    """The cursor of a text that `encode` made for the same listing. Raises InvalidInput."""
    version, digest, micros, key, newer = _fields(text)
    typed = type(micros) is int and isinstance(key, str) and isinstance(newer, bool)
    if version != _VERSION or not typed or not -_INT64 <= micros < _INT64:
        raise _refused("is not one that this server gave")
    if digest != listing.digest():
        raise _refused("belongs to another list, project or set of filters")
    if not key_is_valid(key):
        raise _refused("is not one that this server gave")
    return Cursor(micros, key, newer)


def page(
    rows: Sequence[Row],
    *,
    more: bool,
    cursor: Cursor | None,
    listing: Listing,
    place: Callable[[Row], tuple[int, str]],
) -> Page[Row]:
    """The page of rows read from `cursor` on, nearest first; `more` says that others follow."""
    backwards = cursor is not None and cursor.newer
    ordered = tuple(reversed(rows)) if backwards else tuple(rows)
    older = more or backwards
    newer = more if backwards else cursor is not None
    if not ordered:
        return Page((), None, None)
    return Page(
        ordered,
        encode(Cursor(*place(ordered[-1])), listing) if older else None,
        encode(Cursor(*place(ordered[0]), newer=True), listing) if newer else None,
    )


def _fields(text: str) -> list[Any]:
    if len(text) > _LONGEST:
        raise _refused("is not one that this server gave")
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        fields = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeEncodeError, orjson.JSONDecodeError):
        raise _refused("is not one that this server gave") from None
    if not isinstance(fields, list) or len(cast("list[Any]", fields)) != 5:
        raise _refused("is not one that this server gave")
    return cast("list[Any]", fields)


def _refused(why: str) -> InvalidInput:
    return InvalidInput(
        f"The cursor {why}; start again without it.", code="invalid_cursor", attr="cursor"
    )
