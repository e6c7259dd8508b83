"""The one schema of the table, shared by who writes and who reads: keys, attributes, versions.

A metric is one item. Its partition is a day of a model, so that none grows or is written without
bound, and one of `SHARDS`; the six indexes have the same for a day of a service, of everything, and
of a job, user, batch and environment. Sort keys begin with the time.

| Key | Partition | Sort |
|---|---|---|
| PK, SK | `AI_USAGE#service#model#day#shard` | `USAGE#time#request_id` |
| GSI1 | `AI_USAGE#service#day#shard` | `DATE#time#request_id` |
| GSI2 | `AI_USAGE_COST#day#shard` | `COST#time#request_id` |
| GSI3 to 6 | `JOB#value#day#shard`; `USER#`, `BATCH#`, `ENV#` | `AI_USAGE#time#request_id` |

Keys have the time, so they cannot keep an id to one metric: a metric whose id was given, and may
come again with another time, goes with a *marker*, an item of the id alone (`AI_USAGE_ID#…`), which
only one metric can put.

Items of the original tracker lie in the same indexes without day and shard, and spell their
attributes in camel case or, later, in snake case; `row` reads all three.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import InvalidInput
from nilometer.usage import latency
from nilometer.usage.fold import Row
from nilometer.usage.groups import atto, known_cost

SCHEMA_VERSION = 2
"""Of an item. The original tracker's items, which say none, are version 1."""

SHARDS = 4
"""Partitions of a day of anything. A constant of the schema: readers ask all of them."""

TYPE = "AIUsageMetric"
MARKER_TYPE = "AIUsageId"
TTL = "TimeToLive"
LEGACY_COST = "AI_USAGE_COST"

INDEXES = ("GSI1", "GSI2", "GSI3", "GSI4", "GSI5", "GSI6")
SCOPES = {
    "job": ("GSI3", "JOB"),
    "user": ("GSI4", "USER"),
    "batch": ("GSI5", "BATCH"),
    "environment": ("GSI6", "ENV"),
}
"""The index of a scope, and how its partitions begin."""

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's API has it: `{"name": {"S": "text"}}`."""

_SCOPE_FIELDS = {
    "job": "job_id",
    "user": "user_id",
    "batch": "batch_id",
    "environment": "environment",
}
_TEXTS = (
    *("service", "model", "operation", "timestamp", "request_id", "status"),
    *("user_id", "job_id", "batch_id", "environment", "developer", "repository"),
    *("error_type", "provider_request_id", "unpriced_reason"),
)
_NUMBERS = (
    *("api_calls", "input_tokens", "output_tokens", "total_tokens", "cost_usd"),
    *("reported_cost_usd", "http_status", "github_pr"),
)
_AMOUNTS = ("cost_usd", "reported_cost_usd")
_ROW = (
    *("schema_version", "timestamp", "service", "model", "operation", "environment", "status"),
    *("user_id", "job_id", "batch_id", "developer", "repository", "error_type", "api_calls"),
    *("input_tokens", "output_tokens", "cost_usd", "reported_cost_usd"),
    *("latency_us", "latency_ms"),
)
ROW_ALONE: Mapping[str, Any] = {
    "ProjectionExpression": ", ".join(f"#{name}" for name in _ROW),
    "ExpressionAttributeNames": {f"#{name}": name for name in _ROW},
}
"""Options of a query: of an item of version 2 what `row` reads, without the details, which may be
most of it."""
_BEGINS = {None: "USAGE", "GSI1": "DATE", "GSI2": "COST"}
_OWN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_LONGEST_PART = 200
MAX_DETAILS = 300_000
"""Characters of what has no attribute of its own; an item has at most 400 KB."""


@lru_cache(maxsize=4096)  # names come again and again
def key_part(text: str) -> str:
    """A text as a part of a key: without `#`, and short; a long one ends in its hash."""
    part = text.replace("%", "%25").replace("#", "%23")
    encoded = part.encode("utf-8", "replace")
    if len(encoded) <= _LONGEST_PART:
        return part
    head = encoded[:100].decode("utf-8", "ignore")
    return f"{head}~{sha256(encoded).hexdigest()}"


def shard(request_id: str) -> int:
    """The shard of a metric: it follows from its id, so a repeated write meets the same item."""
    return zlib.crc32(request_id.encode("utf-8", "replace")) % SHARDS


def iso(moment: datetime) -> str:
    """A time that sorts as text: UTC, always with microseconds."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def item(metric: AIUsageMetric, *, expires_at: int | None = None) -> Item:
    """The item of a metric; `expires_at` is in seconds since the epoch.

    Raises InvalidInput for a metric that no item can hold.
    """
    members = metric.to_dict()
    del members["schema_version"]
    time = iso(metric.timestamp)
    found: Item = {
        **_keys(metric, time),
        "TYPE": {"S": TYPE},
        "schema_version": {"N": str(SCHEMA_VERSION)},
        "date": {"S": time[:10]},
        "month": {"S": time[:7]},
        "hour": {"S": time[:13].replace("T", "-")},
        "status": {"S": metric.status},
        "api_calls": {"N": str(metric.api_calls)},
    }
    found |= {name: {"S": members.pop(name)} for name in _TEXTS if name in members}
    found |= {name: {"N": str(members.pop(name))} for name in _NUMBERS if name in members}
    if metric.latency_ms is not None:
        found["latency_ms"] = {"N": str(metric.latency_ms)}
        found["latency_us"] = {"N": str(round((metric.latency or 0) * 1e6))}
    details = json.dumps(members, separators=(",", ":"))
    if len(details) > MAX_DETAILS:
        raise InvalidInput(
            "the metric is too large for an item: shorten its metadata or raw usage",
            code="item_too_large",
            attr="metadata",
        )
    found["details"] = {"S": details}
    if expires_at is not None:
        found[TTL] = {"N": str(expires_at)}
    return found


def marker(metric: AIUsageMetric, *, expires_at: int | None = None) -> Item | None:
    """The item by which an id is of one metric, put on the condition that it is not there. None for
    an id that nobody gave: the library drew it for this metric (a UUID of version 7), and wherever
    the metric is sent from again, in its JSON, it has the same time with it, so the same keys."""
    if not metric.id_given and _OWN_ID.fullmatch(metric.request_id):
        return None
    found: Item = {
        "PK": {"S": f"AI_USAGE_ID#{key_part.__wrapped__(metric.request_id)}"},
        "SK": {"S": "ID"},
        "TYPE": {"S": MARKER_TYPE},
        "schema_version": {"N": str(SCHEMA_VERSION)},
    }
    if expires_at is not None:
        found[TTL] = {"N": str(expires_at)}
    return found


def _keys(metric: AIUsageMetric, time: str) -> Item:
    """The keys of its item, of the table and of every index."""
    service, request_id = key_part(metric.service), metric.request_id
    place = f"{time[:10]}#{shard(request_id)}"
    # Every metric has another one: `key_part` need not remember it.
    moment = f"{time}#{key_part.__wrapped__(request_id)}"
    keys: Item = {
        "PK": {"S": f"AI_USAGE#{service}#{key_part(metric.model)}#{place}"},
        "SK": {"S": f"USAGE#{moment}"},
        "GSI1PK": {"S": f"AI_USAGE#{service}#{place}"},
        "GSI1SK": {"S": f"DATE#{moment}"},
        "GSI2PK": {"S": f"{LEGACY_COST}#{place}"},
        "GSI2SK": {"S": f"COST#{moment}"},
    }
    for scope, (index, begin) in SCOPES.items():
        if value := getattr(metric, _SCOPE_FIELDS[scope]):
            keys[f"{index}PK"] = {"S": f"{begin}#{key_part(value)}#{place}"}
            keys[f"{index}SK"] = {"S": f"AI_USAGE#{moment}"}
    return keys


def partitions(filters: Mapping[str, str], days: list[str]) -> tuple[str | None, list[str]]:
    """The index (None: the table itself) and the partitions that have every metric of these days
    within the filters; others may be in them too."""
    places = [f"{day}#{shard}" for day in days for shard in range(SHARDS)]
    for scope in ("job", "batch", "user"):
        if scope in filters:
            index, begin = SCOPES[scope]
            return index, [f"{begin}#{key_part(filters[scope])}#{place}" for place in places]
    if "service" in filters and "model" in filters:
        model = f"{key_part(filters['service'])}#{key_part(filters['model'])}"
        return None, [f"AI_USAGE#{model}#{place}" for place in places]
    if "service" in filters:
        return "GSI1", [f"AI_USAGE#{key_part(filters['service'])}#{place}" for place in places]
    if "environment" in filters:
        index, begin = SCOPES["environment"]
        return index, [f"{begin}#{key_part(filters['environment'])}#{place}" for place in places]
    return "GSI2", [f"{LEGACY_COST}#{place}" for place in places]


def moments(index: str | None, first: datetime, end: datetime) -> tuple[str, str]:
    """The sort keys of an index between which are the metrics from a moment to before another one:
    a metric's key goes on after its time."""
    begin = _BEGINS.get(index, "AI_USAGE")
    return f"{begin}#{iso(first)}", f"{begin}#{iso(end)}"


def metric(stored: Item) -> AIUsageMetric:
    """The metric of an item of version 2. Raises InvalidInput for one of another version."""
    if stored.get("schema_version", {}).get("N") != str(SCHEMA_VERSION):
        raise InvalidInput("the item is of another version of the schema", attr="schema_version")
    members: dict[str, Any] = json.loads(stored["details"]["S"])
    members |= {name: stored[name]["S"] for name in _TEXTS if name in stored}
    for name in _NUMBERS:
        if name in stored:
            number = stored[name]["N"]
            members[name] = format(Decimal(number), "f") if name in _AMOUNTS else int(number)
    return AIUsageMetric.from_dict({"schema_version": 1, **members})


def row(stored: Item) -> Row:
    """What an item says of usage, in any of the three spellings."""
    text, number = _reader(stored)
    error = bool(text("error_type") or text("error")) or text("status") == "error"
    cost = known_cost(number("cost_usd"), number("reported_cost_usd"))
    entered, left = int(number("input_tokens") or 0), int(number("output_tokens") or 0)
    # The original tracker summed its totals; ours are of both sides, as in `groups.values_of`.
    total = None if "schema_version" in stored else number("total_tokens")
    moment = text("timestamp")
    return Row(
        {
            "day": moment[:10],
            "hour": moment[11:13],
            "service": text("service"),
            "model": text("model"),
            "operation": text("operation"),
            "environment": text("environment"),
            "status": "error" if error else "success",
            "user": text("user_id"),
            "job": text("job_id"),
            "batch": text("batch_id"),
            "developer": text("developer"),
            "repository": text("repository"),
        },
        [
            1,
            int(number("api_calls") or 1),
            int(error),
            int(cost is None and not error),
            int(cost is not None),
            entered,
            left,
            entered + left if total is None else int(total),
            0 if cost is None else atto(cost),
        ],
        _latencies(number),
    )


def _latencies(number: Any) -> dict[int, int]:
    micros, millis = number("latency_us"), number("latency_ms")
    if micros is None and millis is None:
        return {}
    seconds = float(micros) / 1e6 if micros is not None else float(millis) / 1e3
    return {latency.bucket(seconds): 1}


# The first spelling was camel case, with two names that follow no rule.
_CAMEL = {"cost_usd": "costUSD", "github_pr": "githubPR"}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return _CAMEL.get(name) or first + "".join(part.capitalize() for part in rest)


_CAMEL_NAMES = {
    name: _camel(name) for name in (*_TEXTS, *_NUMBERS, "error", "latency_us", "latency_ms")
}


def _reader(stored: Item) -> tuple[Any, Any]:
    """Two functions that read an attribute by its name in snake case: a text ("" for none) and a
    number (None for none)."""

    def found(name: str) -> dict[str, Any]:
        return stored.get(name) or stored.get(_CAMEL_NAMES[name]) or {}

    def text(name: str) -> str:
        return str(found(name).get("S", ""))

    def number(name: str) -> Decimal | None:
        value = found(name).get("N")
        return None if value is None else Decimal(value)

    return text, number
