"""Groups as the JSON of the contract: its members, their rounding and their order, once.

Numbers stand where the original API had numbers, exact decimal texts (`…_exact`) beside them.
"""

from __future__ import annotations

import hashlib
import json
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from nilometer.errors import InvalidInput
from nilometer.usage import cursors, latency
from nilometer.usage.dimensions import FILTERS, NAMED_IN, has_latency
from nilometer.usage.groups import Group, Groups, Key
from nilometer.usage.query import UsageQuery

MAX_GROUPS = 10_000
"""A level with more is refused: its groups are to be asked for by `group_by`, page by page."""

Json = dict[str, Any]
_ROUNDED = Context(prec=60, rounding=ROUND_HALF_EVEN)
_PLURAL = {"service": "services", "model": "models", "operation": "operations"}


def answer(query: UsageQuery, groups: Groups) -> Json:
    """The answer to a query. Raises InvalidInput (`too_many_groups`) for a level that is too
    large to be told at once."""
    body: Json = {
        "summary": _summary(query, groups.summary),
        "aggregations": {
            f"by_{name}": _level(name, groups.levels.get(name, {})) for name in query.levels
        },
        "query": _echo(query),
    }
    if query.group_by:
        body["groups"] = _page(query, groups.combined)
    return body


def etag(body: Json) -> str:
    """A strong validator of an answer."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def is_current(etag: str, if_none_match: str) -> bool:
    """Whether a client that sent this `If-None-Match` has the answer already."""
    known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return "*" in known or etag in known


def _summary(query: UsageQuery, group: Group) -> Json:
    cost, calls = group.cost, group.count("api_calls")
    return {
        "total_cost_usd": None if cost is None else _rounded(cost, 4),
        "total_cost_usd_exact": _text(cost),
        "total_tokens": group.count("tokens"),
        "total_api_calls": calls,
        "average_cost_per_call": _average(cost, calls, 6),
        "date_range": {"start": query.start.isoformat(), "end": query.end.isoformat()},
        "input_tokens": group.count("input_tokens"),
        "output_tokens": group.count("output_tokens"),
        **_counts(group),
        "latency": _latency(group),
    }


def _level(name: str, found: dict[str, Group]) -> Json:
    if len(found) > MAX_GROUPS:
        raise InvalidInput(
            f"There are more than {MAX_GROUPS} groups by {name}; ask for group_by={name}, which "
            "comes in pages.",
            code="too_many_groups",
            attr="aggregation",
        )
    return {key: _entry(name, found[key]) for key in sorted(found)}


def _entry(name: str, group: Group) -> Json:
    cost, calls = group.cost, group.count("api_calls")
    entry = _measures(group, latencies=has_latency((name,)))
    for each in NAMED_IN.get(name, ()):
        entry[_PLURAL[each]] = sorted(group.names.get(each, ()))
    if name == "service":
        entry["average_cost_per_call"] = _average(cost, calls, 6)
    if name == "model":
        entry["service"] = next(iter(entry["services"]), None)
        entry["average_tokens_per_call"] = _average(Decimal(group.count("tokens")), calls, 2)
    return entry


def _page(query: UsageQuery, combined: dict[Key, Group]) -> Json:
    """Some groups in the order of their keys, by code point; a host may have left out those up to
    `after`, and those that are more than one past the limit."""
    keys = sorted(key for key in combined if query.after is None or key > query.after)
    shown = keys[: query.limit]
    latencies = has_latency(query.group_by)
    return {
        "results": [
            dict(zip(query.group_by, key, strict=True))
            | _measures(combined[key], latencies=latencies)
            for key in shown
        ],
        "next_cursor": (
            cursors.encode(shown[-1], query.subject()) if len(keys) > len(shown) else None
        ),
    }


def _measures(group: Group, *, latencies: bool) -> Json:
    cost = group.cost
    measures: Json = {
        "cost_usd": None if cost is None else float(cost),
        "cost_usd_exact": _text(cost),
        "tokens": group.count("tokens"),
        "api_calls": group.count("api_calls"),
        **_counts(group),
    }
    return measures | {"latency": _latency(group)} if latencies else measures


def _counts(group: Group) -> Json:
    return {
        "call_count": group.count("calls"),
        "error_count": group.count("errors"),
        "unpriced_count": group.count("unpriced"),
    }


def _latency(group: Group) -> Json | None:
    count, buckets = group.distribution()
    if not count:
        return None
    shares = (f"p{round(share * 100)}" for share in latency.PERCENTILES)
    return {"count": count, **dict(zip(shares, map(latency.middle, buckets), strict=True))}


def _echo(query: UsageQuery) -> Json:
    return {
        **{name: query.filters.get(name) for name in FILTERS},
        "aggregation": list(query.levels),
        "group_by": list(query.group_by),
    }


def _rounded(amount: Decimal, places: int) -> float:
    return float(amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDED))


def _average(total: Decimal | None, calls: int, places: int) -> float | None:
    if total is None:
        return None
    return _rounded(_ROUNDED.divide(total, Decimal(calls)), places) if calls else 0.0


def _text(amount: Decimal | None) -> str | None:
    """Exact decimal text, without zeros at its end."""
    if amount is None:
        return None
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
