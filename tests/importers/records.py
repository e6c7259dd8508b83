"""Records by themselves, as tests look at them."""

import json
from typing import Any

from nilometer.importers.chunk import Options, Parsed
from nilometer.importers.parsing import parse_record
from nilometer.importers.trace_call import Reason, TraceCall

NOW = 1_760_000_000_000_000


def parsed(record: Any, **options: Any) -> Parsed:
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    return parse_record(raw, Options(**{"now": NOW, **options}))


def call_of(record: Any, **options: Any) -> TraceCall:
    found = parsed(record, **options)
    assert not found.rejected, found.rejected
    (call,) = found.calls
    return call


def reason_of(record: Any) -> Reason:
    found = parsed(record)
    assert not found.calls
    (rejected,) = found.rejected
    return rejected.reason
