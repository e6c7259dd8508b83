"""Three weeks of a small company's traffic, the same each time: what an analyst asks about."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from nilometer.cli.sample_traffic import support_question

FIRST_DAY = datetime(2025, 6, 2, tzinfo=UTC)  # a Monday
TEAMS = {"ada": "search", "bo": "search", "cy": "support", "di": "support", "ed": "billing"}
# The provider, and the prices of an input and an output token.
MODELS = {
    "gpt-4o-mini": ("openai", Decimal("0.00000015"), Decimal("0.0000006")),
    "claude-sonnet-4-5": ("anthropic", Decimal("0.000003"), Decimal("0.000015")),
}
QUESTIONS = ("How high is the river?", "Where is my invoice?", "Who owes the toll?")
TRACES = 60
SPIKE = timedelta(days=9, hours=14)


@dataclass(frozen=True)
class Sent:
    """An event as it was sent: the parts of its request, and what is in them."""

    uuid: str
    event: str
    user: str
    at: datetime
    properties: dict[str, Any]
    parts: list[tuple[str, tuple[None, bytes, str]]]

    def __getitem__(self, name: str) -> Any:
        """A property of Nilometer's, without its prefix; None when it was not sent."""
        return self.properties.get(f"$ai_{name}")

    @property
    def cost(self) -> Decimal | None:
        text = self["total_cost_usd"]
        return None if text is None else Decimal(text)


def traffic() -> list[Sent]:
    """Every event: sixty traces, and the one of `nilometer demo`."""
    rng = random.Random(1822)
    written = [event for number in range(TRACES) for event in _Trace(rng, number).events()]
    _, sample = support_question(FIRST_DAY + timedelta(days=2, hours=9))
    return written + [
        Sent(each.uuid, each.name, "ada@example.com", each.at, dict(each.properties),
             each.multipart())
        for each in sample
    ]  # fmt: skip


class _Trace:
    """One answered question; every tenth is of the hour in which a provider was overloaded."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self._rng, self._number = rng, number
        self._user = rng.choice(list(TEAMS))
        self._in_spike = number % 10 == 9
        offset = timedelta(days=rng.randrange(21), hours=rng.randrange(8, 20))
        self._start = FIRST_DAY + (SPIKE if self._in_spike else offset)
        self._start += timedelta(seconds=rng.randrange(3000))
        self._id = f"trace-{number:02}"
        self._model = rng.choice(list(MODELS))

    def events(self) -> Iterator[Sent]:
        yield self._event("trace", 0, **{"$ai_span_name": "answer", "$ai_latency": 4.0})
        if self._number % 4:
            yield from self._retrieval()
        failures = 2 if self._in_spike else int(self._rng.random() < 0.2)
        yield from (self._failure(attempt) for attempt in range(failures))
        answer = self._answer()
        yield self._event("generation", 3, **answer)
        if self._number % 20 == 7:  # a proxy tells of the same call once more
            yield self._event("generation", 3, **answer)
        if self._rng.random() < 0.5:
            accuracy = str(self._rng.randrange(50, 100) / 100)
            yield self._event(
                "metric", 5, **{"$ai_metric_name": "accuracy", "$ai_metric_value": accuracy}
            )
        if self._rng.random() < 0.4:
            text = self._rng.choice(["good", "bad"])
            yield self._event("feedback", 6, **{"$ai_feedback_text": text})

    def _event(self, kind: str, seconds: float, **more: Any) -> Sent:
        properties = {
            "$ai_trace_id": self._id,
            "$ai_session_id": f"{self._user}-{(self._start - FIRST_DAY).days // 7}",
            "$ai_model": self._model,
            "$ai_provider": MODELS[self._model][0],
            "team": TEAMS[self._user],
            "tags": ["beta", "eu"] if self._number % 3 == 0 else ["eu"],
        } | more
        at = self._start + timedelta(seconds=seconds)
        event = {
            "uuid": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            "event": f"$ai_{kind}",
            "distinct_id": self._user,
            "timestamp": at.isoformat(),
        }
        parts = [
            (name, (None, json.dumps(value).encode(), "application/json"))
            for name, value in (("event", event), ("event.properties", properties))
        ]
        return Sent(event["uuid"], event["event"], self._user, at, properties, parts)

    def _retrieval(self) -> Iterator[Sent]:
        span = {"$ai_span_id": "look", "$ai_parent_id": self._id, "$ai_span_name": "retrieve"}
        yield self._event("span", 0.1, **span, **{"$ai_latency": self._seconds(0.1, 0.9)})
        embedding = {
            "$ai_span_id": "embed",
            "$ai_parent_id": "look",
            "$ai_model": "text-embedding-3-small",
            "$ai_provider": "openai",
            "$ai_input_tokens": self._rng.randrange(5, 40),
            "$ai_latency": self._seconds(0.02, 0.2),
        }
        yield self._event("embedding", 0.2, **embedding)

    def _failure(self, attempt: int) -> Sent:
        failure = {
            "$ai_span_id": f"try-{attempt}",
            "$ai_parent_id": self._id,
            "$ai_is_error": True,
            "$ai_http_status": 529 if self._in_spike else 429,
            "$ai_error": f"Overloaded, request req_{self._rng.randrange(16**6):06x}",
            "$ai_latency": self._seconds(0.5, 1.5),
        }
        return self._event("generation", 1 + attempt, **failure)

    def _answer(self) -> dict[str, Any]:
        rng, number = self._rng, self._number
        tokens = rng.randrange(200, 4000) * (50 if number == 31 else 1)
        output = rng.randrange(10, 500)
        _, input_price, output_price = MODELS[self._model]
        answer: dict[str, Any] = {
            "$ai_span_id": "answer",
            "$ai_parent_id": self._id,
            "$ai_response_id": f"chatcmpl-{number:020}",
            "$ai_input": self._messages(),
            "$ai_input_tokens": tokens,
            "$ai_output_tokens": output,
            "$ai_cache_read_input_tokens": rng.randrange(0, tokens) if number % 2 else 0,
            "$ai_latency": self._seconds(0.4, 6),
            "$ai_http_status": 200,
        }
        if number % 6:  # one in six has no price
            answer["$ai_total_cost_usd"] = f"{tokens * input_price + output * output_price:f}"
        if number % 2:
            answer["$ai_time_to_first_token"] = self._seconds(0.1, 0.9)
        return answer

    def _messages(self) -> list[dict[str, str]]:
        messages = [{"role": "system", "content": "Be brief."}]
        for turn in range(self._number % 3):
            messages.append({"role": "user", "content": f"turn {turn}"})
            messages.append({"role": "assistant", "content": "yes"})
        question = self._rng.choice(QUESTIONS) + "?" * self._number
        return [*messages, {"role": "user", "content": question}]

    def _seconds(self, low: float, high: float) -> float:
        return round(self._rng.uniform(low, high), 3)
