"""The envelope of a log record, version 1.

A record is a small JSON object of headers and a payload of raw bytes. The headers say who accepted
what, when and under which rules; the payload is what a door accepted, unmapped, so that a bug of a
converter is never baked into the truth. No header ever holds a key or a token.

Evolution rule. Within a version, headers may be added and readers ignore the ones that they do not
know. A header that a reader must understand, or a changed meaning, is a new version. A reader that
meets a version newer than its own pauses (`EnvelopeTooNew`) instead of guessing: the newer process
will read it. The layout of a payload belongs to its door and is versioned by `door_version`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from nilometer.errors import NilometerError

VERSION = 1


class EnvelopeTooNew(NilometerError):
    """The record was written by a newer Nilometer; this reader must wait, not guess."""

    code = "envelope_too_new"


class EnvelopeBroken(NilometerError):
    """The headers cannot be read at all; the record belongs in the dead letters."""

    code = "envelope_broken"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One accepted record.

    `uuid` is the record's own identity (canonical UUID text; of the event, where a record holds
    one event). `accepted_at` is microseconds since the epoch, UTC, by the acceptor's clock.
    `config_version` is the version of the project's configuration it was accepted under.
    `data_key_id` names the key that the payload is encrypted with, or None. `trace_context` is the
    W3C `traceparent` of the request that brought it, or None.

    `sequence` is what a record has in common with another of the same event (the event's uuid), or
    None: a log of several partitions has all of one sequence in one, so that one reader at a time
    meets them, the first first. It is not kept; who moves records to such a log finds it again
    (`nilometer.migrate_data.sequences`, which must know every door that gives one).
    """

    project_id: int
    uuid: str
    door: str
    door_version: int
    accepted_at: int
    config_version: int
    payload: bytes
    data_key_id: str | None = None
    trace_context: str | None = None
    sequence: str | None = field(default=None, compare=False)

    def headers(self) -> bytes:
        """The headers as compact JSON."""
        return orjson.dumps(
            {
                "v": VERSION,
                "project_id": self.project_id,
                "uuid": self.uuid,
                "door": self.door,
                "door_version": self.door_version,
                "accepted_at": self.accepted_at,
                "config_version": self.config_version,
                "data_key_id": self.data_key_id,
                "trace_context": self.trace_context,
            }
        )


def decode(headers: bytes, payload: bytes) -> Envelope:
    """The envelope of a stored record.

    Raises EnvelopeTooNew for a version above ours and EnvelopeBroken for anything unreadable.
    """
    try:
        fields = orjson.loads(headers)
    except orjson.JSONDecodeError as error:
        raise EnvelopeBroken(f"the record's headers are not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise EnvelopeBroken("the record's headers are not a JSON object")
    known = cast("dict[str, Any]", fields)
    version = known.get("v")
    if type(version) is not int or version < 1:
        raise EnvelopeBroken(f"the record has no valid envelope version: {version!r}")
    if version > VERSION:
        raise EnvelopeTooNew(
            f"the record has envelope version {version}; this process reads up to {VERSION}. "
            "Upgrade it to go on."
        )
    try:
        return Envelope(
            project_id=_int(known, "project_id"),
            uuid=_str(known, "uuid"),
            door=_str(known, "door"),
            door_version=_int(known, "door_version"),
            accepted_at=_int(known, "accepted_at"),
            config_version=_int(known, "config_version"),
            payload=payload,
            data_key_id=_optional_str(known, "data_key_id"),
            trace_context=_optional_str(known, "trace_context"),
        )
    except (KeyError, TypeError) as error:
        raise EnvelopeBroken(f"the record's headers are incomplete or mistyped: {error}") from None


def _int(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int:
        raise TypeError(f"{name} must be an integer")
    return value


def _str(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    return value


def _optional_str(fields: dict[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _str(fields, name)
