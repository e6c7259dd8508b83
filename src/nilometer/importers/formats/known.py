"""Whether a line is a record by itself, whatever stands around it."""

from __future__ import annotations

from typing import cast

import orjson

from nilometer.importers.formats import claude_code, litellm, otlp, prodlens
from nilometer.importers.formats.record import Record

_MOST = 1 << 20  # of a longer one the objects that parsing makes may fill the memory
_FORMATS = (litellm, otlp, claude_code, prodlens)


def is_record(line: bytes) -> bool:
    """Whether the line is a whole JSON object that a format knows as its own; False for one of
    more than 1 MiB, which is not looked at."""
    if len(line) > _MOST or not (line.startswith(b"{") and line.rstrip().endswith(b"}")):
        return False
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    record = cast("Record", value)
    return any(each.is_record(record) for each in _FORMATS)
