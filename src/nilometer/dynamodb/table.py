"""The table: its definition, and making it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from nilometer.dynamodb import client, schema
from nilometer.errors import ConfigurationError

DEFAULT_NAME = "AIUsageMetrics"
_SECONDS = 120
_EVERY = 0.5


def definition(name: str) -> dict[str, Any]:
    """What `CreateTable` is given: on demand, with every index whole."""
    pairs = [("PK", "SK"), *((f"{index}PK", f"{index}SK") for index in schema.INDEXES)]
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": each, "AttributeType": "S"} for pair in pairs for each in pair
        ],
        "KeySchema": _keys(*pairs[0]),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": index,
                "KeySchema": _keys(*pair),
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, pair in zip(schema.INDEXES, pairs[1:], strict=True)
        ],
    }


def time_to_live() -> dict[str, Any]:
    """The specification by which DynamoDB deletes what has expired."""
    return {"AttributeName": schema.TTL, "Enabled": True}


def create(
    dynamodb: Any, name: str, *, recover: bool = False, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Make the table and wait until it can be used; False when it was there and is in order.

    `recover` turns point-in-time recovery on. Raises ConfigurationError for a table of this name
    that lacks keys or indexes.
    """
    try:
        dynamodb.create_table(**definition(name))
        made = True
    except Exception as error:
        if client.code(error) != "ResourceInUseException":
            raise
        made = False
    _wait(dynamodb, name, sleep)
    check(dynamodb, name)
    _expire(dynamodb, name)
    if recover:
        dynamodb.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
    return made


def check(dynamodb: Any, name: str) -> None:
    """Raises ConfigurationError for a table whose keys or indexes are not the schema's."""
    found = dynamodb.describe_table(TableName=name)["Table"]
    wanted = definition(name)
    indexes = {
        each["IndexName"]: each["KeySchema"] for each in found.get("GlobalSecondaryIndexes", [])
    }
    missing = [
        each["IndexName"]
        for each in wanted["GlobalSecondaryIndexes"]
        if indexes.get(each["IndexName"]) != each["KeySchema"]
    ]
    if found["KeySchema"] != wanted["KeySchema"]:
        missing.insert(0, "its primary key")
    if missing:
        raise ConfigurationError(
            f"the table {name} is another one: it lacks {', '.join(missing)}. "
            "Name another table, or add the indexes that `create-table --dry-run` shows."
        )


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]


def _wait(dynamodb: Any, name: str, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _SECONDS
    while dynamodb.describe_table(TableName=name)["Table"]["TableStatus"] != "ACTIVE":
        if time.monotonic() > deadline:
            raise ConfigurationError(f"the table {name} is not active after {_SECONDS} seconds")
        sleep(_EVERY)


def _expire(dynamodb: Any, name: str) -> None:
    state = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if state.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=time_to_live())
