"""Budgets without a server: their items in the table of `nilometer.dynamodb`, all in one partition.

| Sort key | Item |
|---|---|
| `BUDGET#id` | a budget, as JSON |
| `STANDING#id` | how it stood when it was last looked at |
| `ALERT#id#start of the period#threshold` | a threshold that was reached: there once, for good |
| `PENDING#…` | an alert that not every channel has taken yet |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from nilometer.budgets.budget import DEFAULT_THRESHOLDS, Budget, BudgetScope, ScopeKind, plain, usd
from nilometer.budgets.evaluation import Evaluation
from nilometer.budgets.periods import Period
from nilometer.domain import clock
from nilometer.dynamodb import client, schema
from nilometer.errors import InvalidInput, Unavailable
from nilometer.sdk.budget_standing import Standing

PARTITION = "AI_USAGE_BUDGETS"
ALERT_DAYS = 800
"""How long alerts are kept: longer than any period in which they could fire again."""
STALE = timedelta(minutes=15)
"""A standing that nobody has renewed for so long says nothing any more."""

_MEMBERS = frozenset(
    {"id", "name", "scope", "value", "amount_usd", "period", "time_zone", "thresholds"}
    | {"rollover_cap_usd", "hard_stop", "channels", "created_at"}
)
_EARLIER = {"amount": "amount_usd", "scope_value": "value", "rollover_cap": "rollover_cap_usd"}
"""Names of the first release, which are still read; the others are those of the server's API."""

Item = dict[str, dict[str, Any]]


def key(sort: str) -> Item:
    """The primary key of an item of this room."""
    return {"PK": {"S": PARTITION}, "SK": {"S": sort}}


def query(dynamodb: Any, table: str, begin: str) -> Iterator[Item]:
    """The items whose sort key begins so, as they are now."""
    start: dict[str, Any] = {}
    while True:
        answer = dynamodb.query(
            TableName=table,
            KeyConditionExpression="PK = :key AND begins_with(SK, :begin)",
            ExpressionAttributeValues={":key": {"S": PARTITION}, ":begin": {"S": begin}},
            ConsistentRead=True,
            **start,
        )
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


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
        created_at=_moment(given),
        time_zone=_text(given, "time_zone", "UTC"),
        thresholds=tuple(_list(thresholds, int, "thresholds")),
        rollover_cap=None if cap is None else usd("rollover_cap_usd", str(cap)),
        hard_stop=_flag(given, "hard_stop"),
        channels=None if channels is None else tuple(_list(channels, str, "channels")),
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


def stored(dynamodb: Any, table: str) -> list[Budget]:
    """The budgets in the table. Raises InvalidInput for an item that is none."""
    return [parse(json.loads(each["budget"]["S"])) for each in query(dynamodb, table, "BUDGET#")]


def replace(dynamodb: Any, table: str, text: str, now: datetime) -> tuple[int, int]:
    """Make these (a JSON list) the budgets of the table: how many there are, and how many were
    deleted. One that was there keeps when it was made. Raises InvalidInput."""
    wanted = {each.id: sent for each, sent in zip(parse_all(text), json.loads(text), strict=True)}
    known = {each["SK"]["S"]: each for each in query(dynamodb, table, "BUDGET#")}
    for identity, sent in wanted.items():
        before = known.pop(f"BUDGET#{identity}", None)
        made = json.loads(before["budget"]["S"])["created_at"] if before else now.isoformat()
        body = json.dumps({"created_at": made} | sent, separators=(",", ":"))
        dynamodb.put_item(
            TableName=table, Item={**key(f"BUDGET#{identity}"), "budget": {"S": body}}
        )
    for sort in known:
        for gone in (sort, sort.replace("BUDGET#", "STANDING#", 1)):
            dynamodb.delete_item(TableName=table, Key=key(gone))
    return len(wanted), len(known)


def put_standings(
    dynamodb: Any, table: str, evaluations: Iterable[Evaluation], now: datetime
) -> None:
    """Say how budgets stand, and forget those that are no more."""
    known = {each["SK"]["S"] for each in query(dynamodb, table, "STANDING#")}
    for each in evaluations:
        item = _standing_item(each, now)
        known.discard(item["SK"]["S"])
        dynamodb.put_item(TableName=table, Item=item)
    for sort in known:
        dynamodb.delete_item(TableName=table, Key=key(sort))


class TableStandings:
    """How budgets with a hard stop stand, for the client library: as the Lambda wrote it last."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def ask(self) -> Sequence[Standing]:
        """As the port says. A standing that was not renewed is no answer: then nobody evaluates."""
        try:
            items = list(query(self._dynamodb, self._table, "STANDING#"))
        except Exception as error:
            if not client.is_botocore(error):
                raise
            raise Unavailable("DynamoDB does not answer", code=client.code(error) or None) from None
        oldest = clock.now() - STALE
        stops = [each for each in items if each["hard_stop"]["BOOL"]]
        if any(datetime.fromisoformat(each["evaluated_at"]["S"]) < oldest for each in stops):
            raise Unavailable("nobody evaluates the budgets", code="budgets_not_evaluated")
        return [_standing(each) for each in stops]

    def close(self) -> None:
        """As the port says."""
        self._dynamodb.close()


def _standing_item(evaluation: Evaluation, now: datetime) -> Item:
    budget, period = evaluation.budget, evaluation.bounds
    return {
        **key(f"STANDING#{budget.id}"),
        "name": {"S": budget.name},
        "scope": {"S": budget.scope.kind},
        "scope_value": {"S": budget.scope.value},
        "hard_stop": {"BOOL": budget.hard_stop},
        "spent": {"S": plain(evaluation.spent.cost)},
        "limit": {"S": plain(evaluation.limit)},
        "calls": {"N": str(evaluation.spent.calls)},
        "unpriced": {"N": str(evaluation.spent.unpriced)},
        "period_start": {"S": period.start.isoformat()},
        "period_end": {"S": period.end.isoformat()},
        "evaluated_at": {"S": now.isoformat()},
    }


def _standing(item: Item) -> Standing:
    return Standing(
        id=item["SK"]["S"].removeprefix("STANDING#"),
        name=item["name"]["S"],
        kind=item["scope"]["S"],
        value=item["scope_value"]["S"],
        spent=Decimal(item["spent"]["S"]),
        limit=Decimal(item["limit"]["S"]),
        period_start=datetime.fromisoformat(item["period_start"]["S"]),
        period_end=datetime.fromisoformat(item["period_end"]["S"]),
    )


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


def _moment(given: Mapping[str, Any]) -> datetime:
    """When a budget was made: what earlier periods left over is of those since then."""
    if "created_at" not in given:
        if given.get("rollover_cap_usd") is not None:
            raise InvalidInput("with rollover_cap_usd a budget has created_at", attr="created_at")
        return datetime(2000, 1, 1, tzinfo=UTC)
    try:
        found = datetime.fromisoformat(_text(given, "created_at"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput("created_at is a moment with its zone", attr="created_at")
    return found
