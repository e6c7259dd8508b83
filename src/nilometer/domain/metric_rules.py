"""What an AIUsageMetric may be: each rule raises InvalidInput with the field's name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import MAXYEAR, datetime
from decimal import Context, Decimal, Inexact
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from nilometer.domain.clock import EPOCH
from nilometer.errors import InvalidInput

if TYPE_CHECKING:
    from nilometer.domain.usage import Usage
    from nilometer.domain.usage_metric import AIUsageMetric

MAX_NAME_CHARS = 1024
"""Names and ids are sorted, indexed and grouped by; the server's doors take no longer ones."""

MAX_ERROR_CHARS = 10_000
MAX_TAGS = 64
MAX_COUNT = 2**63 - 1
MAX_SECONDS = 10**9
MAX_USD = Decimal(10) ** 15
FINEST_EXPONENT = -18
"""Amounts fit Decimal(38, 18), the store's column: they are never rounded."""

_REQUIRED = ("service", "model", "operation", "request_id")
_NAMES = (
    *("provider_request_id", "response_id", "requested_model", "resolved_model"),
    *("resolved_service", "service_tier", "region", "price_source", "price_version"),
    *("error_type", "user_id", "job_id", "batch_id", "environment", "developer", "repository"),
)
_texts_of = attrgetter(*_REQUIRED, *_NAMES, "unpriced_reason")
_COUNTS = ("input_tokens", "output_tokens", "total_tokens", "retries", "github_pr")
_FLAGS = ("id_given", "estimated", "stream")
_DURATIONS = ("latency", "time_to_first_token")
_numbers_of = attrgetter(*_COUNTS)
_MAX_DEPTH = 64
_EXACT = Context(prec=80, traps=[Inexact])


def check_scalars(metric: AIUsageMetric) -> None:
    """Every field that stands for itself."""
    _check_time(metric.timestamp)
    if not _has_plain_texts(metric):
        _check_texts(metric)
    if metric.error is not None:
        _check_text("error", metric.error, MAX_ERROR_CHARS)
    _check_numbers(metric)
    if metric.status not in ("success", "error"):
        raise InvalidInput("status must be `success` or `error`", attr="status")


def _has_plain_texts(metric: AIUsageMetric) -> bool:
    """Whether its names are what nearly all are, which need not be looked at one by one."""
    found = _texts_of(metric)
    for text in found:
        if text is None:
            continue
        if type(text) is not str or len(text) > MAX_NAME_CHARS or not text.isascii():
            return False
    required = all(text and not text.isspace() for text in found[: len(_REQUIRED)])
    return required and found[-1] is not None


def _check_texts(metric: AIUsageMetric) -> None:
    for name in _REQUIRED:
        if not isinstance(value := getattr(metric, name), str) or not value.strip():
            raise InvalidInput(f"{name} must be a text that is not empty", attr=name)
        _check_text(name, value, MAX_NAME_CHARS)
    for name in _NAMES:
        if (value := getattr(metric, name)) is not None:
            _check_text(name, value, MAX_NAME_CHARS)
    _check_text("unpriced_reason", metric.unpriced_reason, MAX_NAME_CHARS)


def _check_numbers(metric: AIUsageMetric) -> None:
    for name, value in zip(_COUNTS, _numbers_of(metric), strict=True):
        if value is not None:
            _check_count(name, value, 0, MAX_COUNT)
    _check_count("api_calls", metric.api_calls, 1, MAX_COUNT)
    if metric.http_status is not None:
        _check_count("http_status", metric.http_status, 100, 999)
    for name in _FLAGS:
        if type(getattr(metric, name)) is not bool:
            raise InvalidInput(f"{name} must be True or False", attr=name)
    for name in _DURATIONS:
        if (value := getattr(metric, name)) is not None:
            _check_seconds(name, value)


def check_money(metric: AIUsageMetric) -> None:
    """Amounts are exact, fit the store, and the components add up."""
    for name in ("cost_usd", "stated_cost_usd", "reported_cost_usd"):
        if (value := getattr(metric, name)) is not None:
            _check_amount(name, value)
    for part, amount in metric.cost_components.items():
        _check_amount(f"cost_components[{part!r}]", amount)
    cost, parts = metric.cost_usd, metric.cost_components
    if cost is None and parts:
        raise InvalidInput("cost_components without cost_usd", attr="cost_components")
    if cost is None and metric.stated_cost_usd is not None:
        raise InvalidInput("stated_cost_usd stands beside cost_usd", attr="stated_cost_usd")
    if cost is not None and metric.unpriced_reason:
        raise InvalidInput("unpriced_reason is for a metric without a cost", attr="unpriced_reason")
    if parts and (total := _sum(parts.values())) != cost:
        raise InvalidInput(
            f"cost_components add up to {total}, not to cost_usd {cost}", attr="cost_components"
        )


def amount(given: Any) -> Any:
    """An amount of whole dollars as Decimal; anything else as it is given."""
    return Decimal(given) if type(given) is int else given


def check_usage(usage: Usage) -> None:
    """What the vector's own type does not check."""
    _check_text("usage.convention", usage.convention, MAX_NAME_CHARS)
    _check_text("usage.reason", usage.reason, MAX_NAME_CHARS)
    for unit, quantity in usage.units.items():
        _check_text("usage.units", unit, MAX_NAME_CHARS)
        if not isinstance(quantity, Decimal) or not quantity.is_finite() or quantity < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"usage.units[{unit!r}] must be a Decimal, 0 or more", attr="usage")


def tags(given: Any) -> tuple[str, ...]:
    """The tags, each once and in order. A mapping's are `name:value`."""
    if isinstance(given, Mapping):
        pairs = cast("Mapping[Any, Any]", given)
        given = [f"{name}:{value}" for name, value in pairs.items()]
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput("tags must be a list of texts, or a mapping of them", attr="tags")
    found: set[str] = set()
    for tag in cast("Iterable[Any]", given):
        _check_text("tags", tag, MAX_NAME_CHARS)
        if tag:
            found.add(tag)
    if len(found) > MAX_TAGS:
        raise InvalidInput(f"a metric has at most {MAX_TAGS} tags", attr="tags")
    return tuple(sorted(found))


def json_object(name: str, given: Any) -> dict[str, Any]:
    """A copy of a mapping, of JSON's values only."""
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{name} must be a mapping", attr=name)
    return _json_members(name, cast("Mapping[Any, Any]", given), 0)


def _json_members(name: str, given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise InvalidInput(f"{name} has a key that is no text: {key!r}", attr=name)
        _check_unicode(name, key)
        plain = type(value) is int or (type(value) is str and value.isascii())
        found[key] = value if plain else _json_value(f"{name}.{key}", value, depth + 1)
    return found


def _json_value(name: str, value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise InvalidInput(f"{name.partition('.')[0]} is nested too deep", attr=name)
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, str):
        _check_unicode(name, value)
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        return _json_members(name, cast("Mapping[Any, Any]", value), depth)
    if isinstance(value, (list, tuple)):
        return [_json_value(name, each, depth + 1) for each in cast("Iterable[Any]", value)]
    raise InvalidInput(f"{name} is no value of JSON: {type(value).__name__}", attr=name)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def _check_time(moment: Any) -> None:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidInput("timestamp must be a datetime with a time zone", attr="timestamp")
    if not EPOCH.year <= moment.year < MAXYEAR:
        raise InvalidInput(f"timestamp is of the year {moment.year}", attr="timestamp")


def _check_text(name: str, value: Any, most: int) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a text, not {type(value).__name__}", attr=name)
    if len(value) > most:
        raise InvalidInput(f"{name} has more than {most:,} characters", attr=name)
    _check_unicode(name, value)


def _check_unicode(name: str, value: str) -> None:
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} has half of a surrogate pair", attr=name) from None


def _check_count(name: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number from {least} to {most}", attr=name)


def _check_seconds(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:
        raise InvalidInput(f"{name} must be seconds, 0 to {MAX_SECONDS}", attr=name)


def _check_amount(name: str, value: Any) -> None:
    if not isinstance(value, Decimal):
        raise InvalidInput(f"{name} must be a Decimal of US dollars", attr=name)
    if not value.is_finite() or not 0 <= value <= MAX_USD:
        raise InvalidInput(f"{name} must be an amount from 0 to {MAX_USD:,}", attr=name)
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < FINEST_EXPONENT:
        raise InvalidInput(f"{name} has more than {-FINEST_EXPONENT} decimals", attr=name)
