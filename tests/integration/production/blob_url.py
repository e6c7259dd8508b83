"""Blobs as events name them: the URL of an object, with the range of one part of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_URL = re.compile(r"s3://([^/?]+)/([^?]+)\?range=(\d+)-(\d+)")


@dataclass(frozen=True)
class Blob:
    """One large value of an event. `start` and `end` are inclusive."""

    event: str
    name: str
    bucket: str
    key: str
    start: int
    end: int


def blobs_of(row: dict[str, Any]) -> list[Blob]:
    """The blobs that an event's properties name; the row has `uuid` and `properties`."""
    properties = json.loads(row["properties"])
    return [
        Blob(row["uuid"], name, found[1], found[2], int(found[3]), int(found[4]))
        for name, value in properties.items()
        if isinstance(value, str) and (found := _URL.fullmatch(value))
    ]
