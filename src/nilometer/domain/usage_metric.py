"""The noun of usage tracking: what one call (or one counted step) to a service used and cost.

Names are those of the original tracker's `AIUsageMetric` where it had one. Money is Decimal
dollars, durations are seconds, time is UTC. Stores keep integers or their own spellings; this is
what they all mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

from nilometer.domain import clock, metric_rules
from nilometer.domain.identity import uuid7
from nilometer.domain.usage import TokenVector, Usage
from nilometer.errors import InvalidInput

SCHEMA_VERSION = 1
"""Of the JSON form. A reader refuses a newer one; members that it does not know it passes over."""

COUNTED = "counts"
"""The convention of a vector that was made of `input_tokens` and `output_tokens` alone."""

Status = Literal["success", "error"]


def _new_id() -> str:
    return uuid7(clock.to_micros(clock.now()))


@dataclass(frozen=True, slots=True, kw_only=True)
class AIUsageMetric:
    """One measured call. Raises InvalidInput, with the field's name, for what cannot be.

    *What*: `service` is the provider, lower case. `model` is the model as the source names it, the
    served one where the answer says it; `requested_model` is what the caller asked for, and
    `resolved_model` and `resolved_service` what the price book knows them as. `operation` is
    `completion`, `embedding`, `place_details` … `timestamp` is when the call began.

    *Identity*: `request_id` is ours, one a metric, and what makes a repeated write one. `id_given`
    says that whoever told of the call named it, and may tell again, at another time.
    `provider_request_id` is the provider's, from a header; `response_id` is the id in its answer.

    *Usage*: `usage` has the token vector, units that are not tokens, and the provider's raw object.
    `input_tokens`, `output_tokens` and `total_tokens` follow from it; given alone, they make it,
    but for a total without a side, of which only an embedding's says what it is.
    `api_calls` is how many requests the metric stands for. `estimated` says that no provider
    counted.

    *Money*: `cost_usd` is exact, None while unpriced, with `unpriced_reason` then saying why (""
    where nobody has asked for a price yet). `cost_components` adds up to it, by bucket of the
    vector and by unit. `stated_cost_usd` is what the caller states where there is a price too, and
    `reported_cost_usd` what the provider says itself. Whole dollars may be given as an int.

    *Outcome*: `latency` and `time_to_first_token` in seconds; a failed call has `error_type` (the
    class), `error` (its text) and `http_status`. `retries` are the SDK's own.
    """

    service: str
    model: str
    operation: str
    timestamp: datetime
    request_id: str = field(default_factory=_new_id)
    id_given: bool = False
    provider_request_id: str | None = None
    response_id: str | None = None
    requested_model: str | None = None
    resolved_model: str | None = None
    resolved_service: str | None = None
    api_calls: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    usage: Usage | None = None
    estimated: bool = False
    stream: bool = False
    service_tier: str | None = None
    region: str | None = None
    cost_usd: Decimal | None = None
    cost_components: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    stated_cost_usd: Decimal | None = None
    reported_cost_usd: Decimal | None = None
    price_source: str | None = None
    price_version: str | None = None
    price_as_of: date | None = None
    unpriced_reason: str = ""
    latency: float | None = None
    time_to_first_token: float | None = None
    status: Status = "success"
    error_type: str | None = None
    error: str | None = None
    http_status: int | None = None
    retries: int = 0
    user_id: str | None = None
    job_id: str | None = None
    batch_id: str | None = None
    environment: str | None = None
    developer: str | None = None
    repository: str | None = None
    tags: tuple[str, ...] = ()
    github_pr: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        metric_rules.check_scalars(self)
        self._set("timestamp", self.timestamp.astimezone(UTC))
        self._set("service", self.service.strip().lower())
        self._set("tags", metric_rules.tags(self.tags))
        self._set("metadata", metric_rules.json_object("metadata", self.metadata))
        self._set("cost_components", dict(self.cost_components))
        self._set("cost_usd", metric_rules.amount(self.cost_usd))
        self._set("stated_cost_usd", metric_rules.amount(self.stated_cost_usd))
        self._set("reported_cost_usd", metric_rules.amount(self.reported_cost_usd))
        self._set_usage()
        metric_rules.check_money(self)

    def __hash__(self) -> int:
        return hash(self.request_id)

    @property
    def vector(self) -> TokenVector | None:
        """The token vector, where the source's counts make one."""
        return self.usage.vector if self.usage else None

    @property
    def date(self) -> str:
        """The day of the call, UTC: `YYYY-MM-DD`."""
        return self.timestamp.isoformat()[:10]

    @property
    def month(self) -> str:
        """The month of the call, UTC: `YYYY-MM`."""
        return self.timestamp.isoformat()[:7]

    @property
    def hour(self) -> str:
        """The hour of the call, UTC: `YYYY-MM-DD-HH`."""
        return self.timestamp.isoformat()[:13].replace("T", "-")

    @property
    def latency_ms(self) -> int | None:
        """The latency in whole milliseconds."""
        return None if self.latency is None else round(self.latency * 1000)

    @property
    def priced(self) -> bool:
        """Whether what it cost is known."""
        return self.cost_usd is not None

    def to_json(self) -> str:
        """One line of JSON, ASCII, from which `from_json` makes an equal metric."""
        from nilometer.domain import usage_metric_json  # it builds on this class

        return usage_metric_json.dumps(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> AIUsageMetric:
        """The metric of `to_json`. Raises InvalidInput for another text or a newer schema."""
        from nilometer.domain import usage_metric_json

        return usage_metric_json.loads(text)

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes, as JSON values: amounts are decimal text, nothing absent is in."""
        from nilometer.domain import usage_metric_json

        return usage_metric_json.to_dict(self)

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> AIUsageMetric:
        """The metric of `to_dict`. Raises InvalidInput."""
        from nilometer.domain import usage_metric_json

        return usage_metric_json.from_dict(members)

    def _set_usage(self) -> None:
        usage = self.usage or self._counted()
        if usage is not None:
            metric_rules.check_usage(usage)
            raw = metric_rules.json_object("usage.raw", usage.raw)
            self._set("usage", replace(usage, units=dict(usage.units), raw=raw))
            if usage.vector is not None:
                self._set_counts(usage.vector)
        if self.total_tokens is None and (self.input_tokens, self.output_tokens) != (None, None):
            self._set("total_tokens", (self.input_tokens or 0) + (self.output_tokens or 0))

    def _counted(self) -> Usage | None:
        entered, left = self.input_tokens, self.output_tokens
        if (entered, left) == (None, None) and self.operation.startswith("embed"):
            entered = self.total_tokens or None  # there is no other side
        if entered is None and left is None:
            return None
        counts = TokenVector(uncached_input=entered or 0, text_output=left or 0)
        return Usage(vector=counts, convention=COUNTED)

    def _set_counts(self, vector: TokenVector) -> None:
        entered, left = vector.input, vector.output
        counted = {
            "input_tokens": (self.input_tokens, entered),
            "output_tokens": (self.output_tokens, left),
            "total_tokens": (self.total_tokens, entered + left),
        }
        for name, (given, count) in counted.items():
            if given is not None and given != count:
                raise InvalidInput(
                    f"{name} is {given}, but the token vector adds up to {count}", attr=name
                )
            self._set(name, count)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
