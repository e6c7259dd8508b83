"""Budgets as JSON: what a file, a variable and the table in DynamoDB have of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from nilometer.budgets.budget import DEFAULT_THRESHOLDS, Budget, BudgetScope, ScopeKind, usd
from nilometer.budgets.periods import Period
from nilometer.dynamodb import schema
from nilometer.errors import InvalidInput

_MEMBERS = frozenset(
    {"id", "name", "scope", "value", "amount_usd", "period", "time_zone", "thresholds"}
    | {"rollover_cap_usd", "hard_stop", "channels", "created_at", "past_amounts"}
)
_EARLIER = {"amount": "amount_usd", "scope_value": "value", "rollover_cap": "rollover_cap_usd"}
"""Names of the first release, which are still read; the others are those of the server's API."""


def parse(sent: Any) -> Budget:
    """A budget from JSON: `amount_usd`, `period` and `name`, and what else a budget has. Its `id`
    is its name where there is none. Raises InvalidInput, naming the member."""
    if not isinstance(sent, Mapping):
        raise InvalidInput("a budget is a JSON object")
    given = _named(cast("Mapping[str, Any]", sent))
    if unknown := given.keys() - _MEMBERS:
        raise InvalidInput(f"a budget has no {min(unknown)}", attr=min(unknown))
    name = _text(given, "name")
    thresholds = given.get("thresholds", DEFAULT_THRESHOLDS)
    channels = given.get("channels")
    cap = given.get("rollover_cap_usd")
    return Budget(
        id=schema.key_part(_text(given, "id", name)),
        name=name,
        scope=BudgetScope(
            _one_of(ScopeKind, given, "scope", ScopeKind.PROJECT),
            _text(given, "value", ""),
        ),
        amount=usd("amount_usd", _text(given, "amount_usd")),
        period=_one_of(Period, given, "period"),
        created_at=_created_at(given),
        time_zone=_text(given, "time_zone", "UTC"),
        thresholds=tuple(_list(thresholds, int, "thresholds")),
        rollover_cap=None if cap is None else usd("rollover_cap_usd", str(cap)),
        hard_stop=_flag(given, "hard_stop"),
        channels=None if channels is None else tuple(_list(channels, str, "channels")),
        past_amounts=_past_amounts(given),
    )


def parse_all(text: str) -> list[Budget]:
    """A JSON list of budgets, each with an id of its own. Raises InvalidInput."""
    try:
        sent = json.loads(text)
    except ValueError:
        raise InvalidInput("budgets are a JSON list, and this is no JSON") from None
    if not isinstance(sent, list):
        raise InvalidInput("budgets are a JSON list")
    found = [parse(each) for each in cast("list[Any]", sent)]
    if len({each.id for each in found}) < len(found):
        raise InvalidInput("two budgets have the same id", attr="id")
    return found


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """The members by their names of today."""
    found = dict(given)
    for earlier, name in _EARLIER.items():
        if earlier not in found:
            continue
        if name in found:
            raise InvalidInput(f"{earlier} and {name} are the same: give one", attr=name)
        found[name] = found.pop(earlier)
    return found


def _text(given: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is a text", attr=name)
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is true or false", attr=name)
    return value


def _one_of(kinds: Any, given: Mapping[str, Any], name: str, default: str | None = None) -> Any:
    value = _text(given, name, default)
    if value not in set(kinds):
        raise InvalidInput(f"{name} is one of {', '.join(kinds)}", attr=name)
    return kinds(value)


def _list(given: Any, kind: type, name: str) -> list[Any]:
    values = list(cast("Iterable[Any]", given)) if isinstance(given, (list, tuple)) else [None]
    if not all(type(each) is kind for each in values):
        raise InvalidInput(f"{name} is a list", attr=name)
    return values


def _created_at(given: Mapping[str, Any]) -> datetime:
    """When a budget was made: what earlier periods left over is of those since then."""
    if "created_at" not in given:
        if given.get("rollover_cap_usd") is not None:
            raise InvalidInput("with rollover_cap_usd a budget has created_at", attr="created_at")
        return datetime(2000, 1, 1, tzinfo=UTC)
    return _moment("created_at", _text(given, "created_at"))


def _past_amounts(given: Mapping[str, Any]) -> tuple[tuple[datetime, Decimal], ...]:
    """Earlier amounts, each after until when it held, as pairs of texts."""
    name = "past_amounts"
    pairs = [_list(each, str, name) for each in _list(given.get(name, ()), list, name)]
    if not all(len(each) == 2 for each in pairs):
        raise InvalidInput(f"{name} is a list of pairs: until when, and the amount", attr=name)
    found = tuple((_moment(name, until), usd(name, amount)) for until, amount in pairs)
    if not all(amount > 0 for _, amount in found):
        raise InvalidInput(f"{name} are more than 0", attr=name)
    return found


def _moment(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput(
            f"{name}: a moment has its zone, as 2025-07-01T00:00:00+00:00", attr=name
        )
    return found
