"""What the call of an event costs: computed, beside what was reported, and how it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from nilometer.domain import json_text
from nilometer.query.reader import Condition, Reader, Select, moment

_COLUMNS = (
    *("call_id", "cost_input", "cost_output", "cost_total"),
    *("reported_input_cost_usd", "reported_output_cost_usd", "reported_total_cost_usd"),
    *("price_source", "price_version", "price_as_of", "price_reason"),
    *("priced_model", "priced_provider"),
)


@dataclass(frozen=True, slots=True)
class CallCost:
    """The cost of one call, from the row of the event that is shown. Amounts are USD, exact, None
    when not known; `price_reason` then says why there is no computed one. Texts are "" when there
    is nothing to say."""

    call_id: str
    cost_input: Decimal | None
    cost_output: Decimal | None
    cost_total: Decimal | None
    reported_input_cost_usd: Decimal | None
    reported_output_cost_usd: Decimal | None
    reported_total_cost_usd: Decimal | None
    price_source: str
    price_version: str
    price_as_of: str
    price_reason: str
    priced_model: str
    priced_provider: str


def of_events(reader: Reader, project_id: int, events: Mapping[str, int]) -> dict[str, CallCost]:
    """The costs of these events that are calls, by uuid. Each comes with the microsecond of its
    acceptance, which its call's row has too: months that have none of them are not read."""
    if not events:
        return {}
    select = Select(
        f"event_uuid, {', '.join(_COLUMNS)}",
        "calls",
        [
            moment("accepted_at >=", "first", min(events.values())),
            moment("accepted_at <=", "last", max(events.values())),
            Condition("event_uuid IN {uuids:Array(UUID)}", {"uuids": _uuids(events)}),
        ],
    )
    rows = reader.rows(project_id, select)
    return {str(row["event_uuid"]): _cost(row) for row in rows}


def with_costs(properties: str, cost: CallCost | None) -> str:
    """The properties, with the computed costs as `$ai_…_cost_usd` where the source reported none:
    what it did report is never written over. The text of all others stays as it is."""
    if cost is None or cost.cost_total is None:
        return properties
    computed = {
        "$ai_input_cost_usd": cost.cost_input,
        "$ai_output_cost_usd": cost.cost_output,
        "$ai_total_cost_usd": cost.cost_total,
    }
    if any(name in properties for name in computed):
        known = json_text.members(properties)
        computed = {name: amount for name, amount in computed.items() if name not in known}
    added = [
        f'"{name}":{orjson.dumps(money(amount)).decode()}'
        for name, amount in computed.items()
        if amount is not None
    ]
    body = properties.rstrip().removesuffix("}").rstrip()
    return f"{body}{'' if body == '{' else ','}{','.join(added)}}}" if added else properties


def money(amount: Decimal | None) -> str | None:
    """An amount as exact decimal text, without zeros at its end."""
    if amount is None:
        return None
    text = format(amount, "f")  # Decimal.normalize() would round to its context's 28 digits
    return text.rstrip("0").rstrip(".") if "." in text else text


def _uuids(events: Mapping[str, int]) -> Sequence[UUID]:
    return [UUID(uuid) for uuid in events]


def _cost(row: Mapping[str, Any]) -> CallCost:
    return CallCost(**{name: row[name] for name in _COLUMNS})
