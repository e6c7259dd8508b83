"""What a record tells of a call, and what several of them tell together.

A call is told more than once: an answer while it streams, a file and its copy, a payload and a row
of spend logs. Of all tellings

- the time is the earliest;
- the tools are all of them, in the order in which they were first told;
- everything else is as the fullest telling has it, and priced by its time.

So it does not matter in how many pieces they are read, in what order, or how often. This is the
only place that says which telling is the fuller: rows of the store and of Parquet files go by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from nilometer.importers.trace_call import TraceCall

CACHED = "cache_hit"
"""Of an answer from a gateway's cache: it consumed nothing, and cost nothing."""
TOO_LARGE = "usage_out_of_range"
APART = frozenset({"tools", "tools_at", "told_at", "is_time_assumed"})
"""Members of `details` that say nothing of how full a telling is."""

_LARGEST = 2**53
_ACCEPTED = {None: None, True: 1, False: 0}
_STATUS = {None: "unknown", True: "error", False: "success"}
_SAME = (
    *("call_id", "response_id", "trace_id", "resolved_model", "branch", "directory", "agent"),
    *("error_type", "time_to_first_token_ms", "accepted_lines", "diff_ratio", "usage_reason"),
    *("usage_convention", "region", "tags"),
)
"""Members of `details` that have the call's own names; those that are not told are left out."""
_TIMES, _SUMS = 10**19, 10**25


class Told(NamedTuple):
    """What a call is stored as, but for its key, its times and its price: the values of COLUMNS,
    and what is in `details`."""

    values: tuple[Any, ...]
    details: dict[str, Any]
    completeness: int


COLUMNS = (
    *("session_id", "developer_id", "model", "tokens_in", "tokens_out", "latency_ms"),
    *("status_code", "accepted_flag", "repo_slug", "total_tokens", "cost_reported_usd"),
    *("source", "provider", "status"),
)
_LATENCY = COLUMNS.index("latency_ms")


class Telling(NamedTuple):
    """How full a telling is, and what of it stands beside a fuller one."""

    completeness: int
    content: str
    """A hash of what it tells: of two that are as full, always the same one stands."""
    told_at: int
    """When, in microseconds since the epoch."""
    is_priced: bool
    started_at: int
    is_time_assumed: bool
    tools: Mapping[str, int]
    """When each was first told; those of one telling a microsecond apart, in its order."""

    @property
    def rank(self) -> tuple[int, str, int, bool]:
        """The greater is the fuller. One that tells nothing else counts as it was told first."""
        return self.completeness, self.content, -self.told_at, self.is_priced

    @property
    def in_order(self) -> list[str]:
        """The tools."""
        return sorted(self.tools, key=lambda name: (self.tools[name], name))

    @property
    def tools_at(self) -> list[int]:
        """When each of `in_order` was told; [] where that follows from `told_at`."""
        found = [self.tools[name] for name in self.in_order]
        return [] if found == [self.told_at + place for place in range(len(found))] else found

    @property
    def apart(self) -> dict[str, Any]:
        """The members of `details` that are APART."""
        found = {
            "tools": self.in_order,
            "tools_at": self.tools_at,
            "told_at": None if self.told_at == self.started_at else self.told_at,
            "is_time_assumed": self.is_time_assumed,
        }
        return {name: value for name, value in found.items() if value not in (None, False, [])}

    @property
    def standing(self) -> str:
        """Text by which what is known of a call is greater each time that more is."""
        times = f"{_TIMES - self.told_at:020d}.{self.is_priced:d}.{self._start:021d}"
        tools = f"{len(self.tools):06d}.{_SUMS - sum(self.tools.values()):026d}"
        return f"{self.completeness:019d}.{self.content}.{times}.{tools}"

    @property
    def _start(self) -> int:
        return 2 * (_TIMES - self.started_at) + (not self.is_time_assumed)


def joined(calls: Iterable[TraceCall]) -> list[TraceCall]:
    """Tellings of calls of one source, each call once, in the order in which they begin."""
    found: dict[str, list[TraceCall]] = {}
    for call in calls:
        found.setdefault(call.key, []).append(call)
    return [each[0] if len(each) == 1 else _one(each) for each in found.values()]


def together(one: Telling, other: Telling) -> Telling:
    """What two tellings of a call are."""
    fuller, lesser = (one, other) if one.rank >= other.rank else (other, one)
    started, assumed = min(each[4:6] for each in (one, other))
    tools = {**lesser.tools, **fuller.tools}
    for name in lesser.tools.keys() & fuller.tools.keys():
        tools[name] = min(lesser.tools[name], fuller.tools[name])
    return Telling(*fuller[:4], started, assumed, tools)


def of(
    told: Told, started_at: int, *, told_at: int | None, is_priced: bool, is_time_assumed: bool
) -> Telling:
    """A telling, from what is stored of it."""
    at = started_at if told_at is None else told_at
    tools, times = told.details.get("tools", ()), told.details.get("tools_at")
    return Telling(
        told.completeness,
        _hash(told),
        at,
        is_priced,
        started_at,
        is_time_assumed,
        dict(zip(tools, times or range(at, at + len(tools)), strict=True)),
    )


def told(call: TraceCall) -> Told:
    """What a call is stored as."""
    details: dict[str, Any] = {name: value for name in _SAME if (value := getattr(call, name))}
    details["operation"] = call.operation
    if call.tokens is not None:
        details["tokens"] = call.tokens
    if call.tier:
        details["service_tier"] = call.tier
    if call.units:
        details["usage_units"] = dict(call.units)
    if call.raw_usage:
        details["usage_raw"] = call.raw_usage
    total = None if call.tokens is None else sum(call.tokens)
    named = sum(map(bool, (call.session, call.developer, call.repository, call.model)))
    completeness = (0 if total is None else total + 1) * 256 + len(details) * 8 + named
    if call.tools:
        details["tools"] = call.tools
    if call.told_at is not None or call.is_time_assumed or call.tools_at:
        details |= _times(call)
    return Told(_values(call, total), details, completeness)


def bounded(call: TraceCall) -> TraceCall:
    """Without counts that no call has, which would not fit their columns, and without those that
    an answer from a cache repeats."""
    if not call.counts_usage and call.tokens is not None:
        return call._replace(tokens=None, usage_reason=CACHED)
    if call.tokens is not None and sum(call.tokens) > _LARGEST:
        return call._replace(tokens=None, usage_reason=TOO_LARGE)
    return call


def _one(calls: list[TraceCall]) -> TraceCall:
    found = [
        of(
            told(bounded(call)),
            call.started_at,
            told_at=call.told_at,
            is_priced=False,
            is_time_assumed=call.is_time_assumed,
        )
        for call in calls
    ]
    all_of_it = reduce(together, found)
    whole = calls[max(range(len(found)), key=lambda place: found[place].rank)]
    return whole._replace(
        line=calls[0].line,
        offset=calls[0].offset,
        started_at=all_of_it.started_at,
        is_time_assumed=all_of_it.is_time_assumed,
        told_at=all_of_it.apart.get("told_at"),
        tools=tuple(all_of_it.in_order),
        tools_at=tuple(all_of_it.tools_at),
    )


def _values(call: TraceCall, total: int | None) -> tuple[Any, ...]:
    """In the order of COLUMNS."""
    return (
        call.session,
        call.developer,
        call.model or call.resolved_model,
        call.tokens_in,
        call.tokens_out,
        call.latency_ms,
        call.status_code,
        _ACCEPTED[call.accepted],
        call.repository,
        total,
        call.reported_cost,
        call.source,
        call.provider,
        _STATUS[call.failed],
    )


def _times(call: TraceCall) -> dict[str, Any]:
    found = {
        "told_at": call.told_at,
        "is_time_assumed": call.is_time_assumed or None,
        "tools_at": call.tools_at or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _hash(told: Told) -> str:
    values = list(told.values)
    if values[_LATENCY] is not None:
        values[_LATENCY] = float(values[_LATENCY])  # SQLite's column makes one of whole numbers
    details = {name: value for name, value in told.details.items() if name not in APART}
    content = orjson.dumps([values, details], option=orjson.OPT_SORT_KEYS)
    return blake2b(content, digest_size=8).hexdigest()
