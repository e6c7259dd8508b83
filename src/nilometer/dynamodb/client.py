"""The connection to DynamoDB, and what its errors mean."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast
from uuid import uuid4

from nilometer.errors import ConfigurationError

_CONNECT_SECONDS = 3
_READ_SECONDS = 10

THROTTLED = frozenset(
    {
        *("ProvisionedThroughputExceededException", "ProvisionedThroughputExceeded"),
        *(
            "ThrottlingException",
            "ThrottlingError",
            "RequestLimitExceeded",
            "LimitExceededException",
        ),
        *("TransactionConflictException", "TransactionConflict", "TransactionInProgressException"),
        *("InternalServerError", "ServiceUnavailable", "RequestTimeout"),
    }
)
"""Codes of what may succeed when it is asked again, a little later."""


def connect(*, region: str | None, endpoint_url: str | None, connections: int = 16) -> Any:
    """boto3's client of DynamoDB; it takes credentials where boto3 finds them.

    Raises ConfigurationError when boto3 is not installed or finds no region.
    """
    try:
        boto3: Any = import_module("boto3")
        config: Any = import_module("botocore.config")
        exceptions: Any = import_module("botocore.exceptions")
    except ModuleNotFoundError:
        raise ConfigurationError(
            'DynamoDB needs boto3: pip install "nilometer[dynamodb]"'
        ) from None
    options = config.Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=connections,
        # DynamoDB checks requests too; doing it twice is much of the time of a write.
        parameter_validation=False,
    )
    try:
        # A session of its own: the default one is not for several threads. botocore itself knows
        # AWS_DEFAULT_REGION alone.
        region = region or os.environ.get("AWS_REGION")
        made = boto3.session.Session(region_name=region).client(
            "dynamodb", endpoint_url=endpoint_url, config=options
        )
    except exceptions.NoRegionError:
        raise ConfigurationError(
            "DynamoDB needs a region: set AWS_REGION, or ?region= in the sink"
        ) from None
    _write_bodies(made)
    return made


_OPERATION = "dynamodb.TransactWriteItems"
_BODY = "nilometer_body"


def _write_bodies(dynamodb: Any) -> None:
    """Have the bodies of transactions written by `json`, in botocore's place: its serializer walks
    every attribute of every item through the service's model, most of the time of a write. It gets
    a request of the same table without items, which what it makes is then put into."""
    events = dynamodb.meta.events
    events.register(f"provide-client-params.{_OPERATION}", _take_body)
    events.register(f"before-call.{_OPERATION}", _put_body)


def _take_body(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    # The token makes botocore's own second attempt, after a lost answer, one with the first.
    whole = {"ClientRequestToken": str(uuid4()), **params}
    context[_BODY] = json.dumps(whole, separators=(",", ":"), default=_base64).encode()
    table = next(iter(params["TransactItems"][0].values()))["TableName"]
    return {"TransactItems": [{"Put": {"TableName": table, "Item": {}}}]}


def _put_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = context.pop(_BODY)


def _base64(value: bytes) -> str:
    """What JSON has in place of bytes, by DynamoDB's protocol."""
    return base64.b64encode(value).decode()


def code(error: Exception) -> str:
    """The code of an error that DynamoDB answered with; "" for any other."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def reasons(error: Exception) -> list[str]:
    """Why each action of a cancelled transaction could not be: its code, "None" where it could."""
    return [
        str(each.get("Code", "None")) for each in _response(error).get("CancellationReasons", [])
    ]


def is_botocore(error: Exception) -> bool:
    """Whether it is DynamoDB's answer, or that it could not be asked."""
    return type(error).__module__.startswith("botocore.")


def explained(error: Exception) -> str:
    """Such an error in few words; DynamoDB's own sentences hold no item."""
    message = _response(error).get("Error", {}).get("Message")
    return str(message or error)


def _response(error: Exception) -> dict[str, Any]:
    found: Any = getattr(error, "response", None)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
