"""Budgets without a server: their items in the table of `nilometer.dynamodb`, all in one partition.

| Sort key | Item |
|---|---|
| `BUDGET#id` | a budget, as JSON |
| `STANDING#id` | how it stood when it was last looked at |
| `ALERT#id#start of the period#threshold` | a threshold that was reached, until it lapses |
| `PENDING#…#id of the notification` | an alert that not every channel has taken yet |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from nilometer.budgets.budget import Budget, plain
from nilometer.budgets.evaluation import Evaluation
from nilometer.budgets.parsing import parse, parse_all
from nilometer.domain import clock
from nilometer.dynamodb import client
from nilometer.errors import InvalidInput, Unavailable
from nilometer.sdk.budget_standing import Standing

PARTITION = "AI_USAGE_BUDGETS"
ALERT_DAYS = 800
"""How long alerts are kept: longer than any period in which they could fire again."""
STALE = timedelta(minutes=15)
"""A standing that nobody has renewed for so long says nothing any more."""

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


def held(write: Callable[..., Any], **request: Any) -> bool:
    """Write on a condition; False where it did not hold, and nothing is written."""
    try:
        write(**request)
    except Exception as error:
        if client.code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


def stored(dynamodb: Any, table: str) -> list[Budget]:
    """The budgets in the table. Raises InvalidInput for an item that is none."""
    return [parse(json.loads(each["budget"]["S"])) for each in query(dynamodb, table, "BUDGET#")]


def replace(dynamodb: Any, table: str, text: str, now: datetime) -> tuple[int, int]:
    """Make these (a JSON list) the budgets of the table: how many there are, and how many were
    deleted. One that was there keeps when it was made, and what amounts it had. Raises
    InvalidInput, also for one that counts something else than that of its id; then all stay."""
    wanted = list(zip(parse_all(text), json.loads(text), strict=True))
    known = {each["SK"]["S"]: each for each in query(dynamodb, table, "BUDGET#")}
    kept = [
        (budget.id, _kept(budget, sent, known.pop(f"BUDGET#{budget.id}", None), now))
        for budget, sent in wanted
    ]
    for identity, members in kept:
        body = json.dumps(members, separators=(",", ":"))
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
    """Say how budgets stand, and forget those that are no more. `now` is before anything of it was
    read: who began later saw whatever this one did, and what it wrote stays."""
    no_later = {
        "TableName": table,
        "ConditionExpression": "attribute_not_exists(PK) OR evaluated_at <= :now",
        "ExpressionAttributeValues": {":now": {"S": _moment(now)}},
    }
    known = {each["SK"]["S"] for each in query(dynamodb, table, "STANDING#")}
    for each in evaluations:
        item = _standing_item(each, now)
        known.discard(item["SK"]["S"])
        held(dynamodb.put_item, Item=item, **no_later)
    for sort in known:
        held(dynamodb.delete_item, Key=key(sort), **no_later)


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


def _kept(budget: Budget, sent: dict[str, Any], item: Item | None, now: datetime) -> dict[str, Any]:
    """What the table keeps of a budget, as JSON: what was sent, and what it had of that id."""
    before = None if item is None else _known(item)
    if before is None:
        return {"created_at": now.isoformat()} | sent
    _check_same(budget, before)
    kept: dict[str, Any] = {"created_at": before.created_at.isoformat()}
    if past := before.past_with(budget.amount, now):
        kept["past_amounts"] = [[until.isoformat(), plain(amount)] for until, amount in past]
    return kept | sent


def _known(item: Item) -> Budget | None:
    """The budget of an item; None where somebody else wrote what is none, which is replaced."""
    try:
        return parse(json.loads(item["budget"]["S"]))
    except InvalidInput:
        return None


def _check_same(budget: Budget, before: Budget) -> None:
    """What has fired and what is left over are of what a budget counts: another has its own."""
    for name, is_same in (
        ("scope", budget.scope.kind == before.scope.kind),
        ("value", budget.scope.value == before.scope.value),
        ("period", budget.period == before.period),
        ("time_zone", budget.time_zone == before.time_zone),
    ):
        if not is_same:
            raise InvalidInput(
                f"the budget {budget.id} is in the table with another {name}, which cannot be "
                "changed: give this one an id of its own",
                attr=name,
            )


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
        "evaluated_at": {"S": _moment(now)},
    }


def _moment(moment: datetime) -> str:
    # Always UTC and microseconds, so that moments compare as texts.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


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
