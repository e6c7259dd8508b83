"""Object keys and blob URLs: built and parsed by one strict grammar.

    key  llma/{project}/{YYYY-MM-DD}/{event uuid}_{random}.multipart           default retention
         llma-{days}d/{project}/{YYYY-MM-DD}/{event uuid}_{random}.multipart   any other
         …/{uuid of the first event}_{digest}.pack           a pack: large values of many events
    URL  {scheme}://{bucket}/{key}?range={start}-{end}                         inclusive

The date is the event's acceptance in UTC. What the grammar does not produce it does not read, so a
key can never leave its project's folder and a foreign object is never touched.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import date, datetime

from nilometer.blobs.types import InvalidBlobUrl
from nilometer.domain import clock, retention
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput

DEFAULT_RETENTION_DAYS = 30
MAX_RETENTION_DAYS = 36500
MAX_URL_LENGTH = 512

_HEX = "[0-9a-f]"
_PREFIX = r"llma(?:-([1-9][0-9]{0,4})d)?"
_PROJECT = r"([1-9][0-9]{0,17})"
_DATE = r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
_UUID = f"({_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}})"
_DAY = re.compile(f"{_PREFIX}/{_PROJECT}/{_DATE}")
_FILE = rf"{_UUID}_(?:({_HEX}{{16}})\.multipart|({_HEX}{{32}})\.pack)"
_KEY = re.compile(f"{_PREFIX}/{_PROJECT}/{_DATE}/{_FILE}")
_RANGE = re.compile(r"range=(0|[1-9][0-9]{0,14})-(0|[1-9][0-9]{0,14})")
_NOT_OURS = "this is not a blob URL of this deployment"


@dataclass(frozen=True, slots=True)
class Day:
    """One project's objects of one day and one retention: a folder of the bucket.

    `retention_days` is None for the default prefix.
    """

    project_id: int
    date: date
    retention_days: int | None

    @property
    def prefix(self) -> str:
        """The folder's key, without a slash at its end."""
        top = "llma" if self.retention_days is None else f"llma-{self.retention_days}d"
        return f"{top}/{self.project_id}/{self.date.isoformat()}"

    def expires_at(self, default_retention_days: int) -> datetime:
        """The instant from which every object of the day is past its retention."""
        return retention.expires_at(self.date, self.retention_days or default_retention_days)


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What an object's key says: whose event it belongs to, and how long it is kept.

    A pack has values of several events; `event_id` is the first. `unique` tells objects of one
    event apart: at random, or for a pack the digest of its bytes.
    """

    day: Day
    event_id: str
    unique: str
    is_pack: bool = False

    @property
    def key(self) -> str:
        """The object's key in the bucket."""
        return f"{self.day.prefix}/{self.file}"

    @property
    def file(self) -> str:
        """The key's last part."""
        return f"{self.event_id}_{self.unique}.{'pack' if self.is_pack else 'multipart'}"


@dataclass(frozen=True, slots=True)
class BlobLocation:
    """Where one blob is: an object, and its part's first and last byte, inclusive."""

    name: ObjectName
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of the part: its headers, the blank line and the body."""
        return self.end - self.start + 1


def new_object_name(
    project_id: int,
    event_id: str,
    accepted_at: int,
    retention_days: int,
    default_retention_days: int = DEFAULT_RETENTION_DAYS,
) -> ObjectName:
    """A name for a new object; never the same twice, so that nothing is ever overwritten.

    `accepted_at` is microseconds since the epoch. Raises InvalidInput for an `event_id` that is
    not a UUID and ValueError for numbers that no project and no setting has.
    """
    day = _day_of(project_id, accepted_at, retention_days, default_retention_days)
    return ObjectName(day, _uuid(event_id), secrets.token_hex(8))


def new_digest() -> str:
    """What no pack has in place of its digest yet."""
    return secrets.token_hex(16)


def pack_name(
    project_id: int,
    event_id: str,
    accepted_at: int,
    retention_days: int,
    digest: str,
    default_retention_days: int = DEFAULT_RETENTION_DAYS,
) -> ObjectName:
    """The name of the pack whose bytes have this digest (32 hexadecimal digits): the same again
    for the same bytes. Arguments and errors as for `new_object_name`."""
    day = _day_of(project_id, accepted_at, retention_days, default_retention_days)
    return ObjectName(day, _uuid(event_id), digest, is_pack=True)


def _day_of(project_id: int, accepted_at: int, retention_days: int, default_days: int) -> Day:
    if project_id < 1 or not 1 <= retention_days <= MAX_RETENTION_DAYS:
        raise ValueError(f"no such project or retention: {project_id}, {retention_days} days")
    return Day(
        project_id,
        clock.from_micros(accepted_at).date(),
        None if retention_days == default_days else retention_days,
    )


def _uuid(event_id: str) -> str:
    try:
        return canonical_uuid(event_id)
    except ValueError as error:
        raise InvalidInput(str(error), attr="uuid") from None


def parse_key(key: str) -> ObjectName | None:
    """The name that a key spells, or None for a key that Nilometer does not write."""
    match = _KEY.fullmatch(key)
    day = None if match is None else _day(match)
    if match is None or day is None:
        return None
    return ObjectName(day, match[4], match[5] or match[6], is_pack=match[6] is not None)


def parse_day(prefix: str) -> Day | None:
    """The day that a folder is, or None for any other folder."""
    match = _DAY.fullmatch(prefix)
    return None if match is None else _day(match)


def is_retention_prefix(name: str) -> bool:
    """Whether this is a folder that projects are in: `llma`, or `llma-90d` and the like."""
    return re.fullmatch(_PREFIX, name) is not None


def retention_prefix(days: int) -> str:
    """The folder of all that is kept so many days: `llma`, or `llma-90d` and the like."""
    return "llma" if days == DEFAULT_RETENTION_DAYS else f"llma-{days}d"


def retention_of(prefix: str) -> int | None:
    """The days that such a folder is kept; None for any other folder."""
    match = re.fullmatch(_PREFIX, prefix)
    if match is None:
        return None
    return int(match[1]) if match[1] else DEFAULT_RETENTION_DAYS


def blob_url(scheme: str, bucket: str, name: ObjectName, start: int, end: int) -> str:
    """The URL that an event holds for the part from byte `start` to byte `end`, inclusive."""
    return f"{scheme}://{bucket}/{name.key}?range={start}-{end}"


def parse_blob_url(text: str, scheme: str, bucket: str) -> BlobLocation:
    """Where the URL points. Raises InvalidBlobUrl for whatever `blob_url` could not have made."""
    origin = f"{scheme}://{bucket}/"
    if len(text) > MAX_URL_LENGTH or not text.startswith(origin):
        raise InvalidBlobUrl(_NOT_OURS, attr="url")
    key, _, query = text.removeprefix(origin).partition("?")
    name = parse_key(key)
    match = _RANGE.fullmatch(query)
    if name is None:
        raise InvalidBlobUrl(_NOT_OURS, attr="url")
    if match is None or int(match[1]) > int(match[2]):
        raise InvalidBlobUrl("a blob URL ends with ?range={first byte}-{last byte}", attr="url")
    return BlobLocation(name, int(match[1]), int(match[2]))


def _day(match: re.Match[str]) -> Day | None:
    try:
        moment = date.fromisoformat(match[3])
    except ValueError:
        return None
    return Day(int(match[2]), moment, int(match[1]) if match[1] else None)
