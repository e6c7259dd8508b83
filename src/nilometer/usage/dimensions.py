"""What usage is told apart by: the levels of an aggregation, and what a query is narrowed to."""

from __future__ import annotations

DIMENSIONS = (
    *("day", "hour", "service", "model", "operation", "environment", "status"),
    *("user", "job", "batch", "developer", "repository"),
)
"""In the order of the documentation. `day` is `YYYY-MM-DD` and `hour` the hour of the day, `00` to
`23`, both UTC; `status` is `success` or `error`."""

FILTERS = DIMENSIONS[2:]
"""What a query may be narrowed to, by one exact value each."""

STATUSES = ("success", "error")

NAMED_IN: dict[str, tuple[str, ...]] = {
    "service": ("model", "operation"),
    **{name: ("service",) for name in DIMENSIONS if name not in ("service", "hour")},
}
"""The dimensions whose values a group of a level names: `models` of a service, `services` of a
day. An hour names none."""


def has_latency(levels: tuple[str, ...]) -> bool:
    """Whether groups by these have percentiles of latency: not by the hour, for which DynamoDB
    keeps no distribution."""
    return "hour" not in levels
