"""The connection to DynamoDB, and what its errors mean."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

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
        # A session of its own: the default one is not for several threads.
        return boto3.session.Session(region_name=region).client(
            "dynamodb", endpoint_url=endpoint_url, config=options
        )
    except exceptions.NoRegionError:
        raise ConfigurationError(
            "DynamoDB needs a region: set AWS_REGION, or ?region= in the sink"
        ) from None


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
