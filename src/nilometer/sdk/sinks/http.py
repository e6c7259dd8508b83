"""`http://host:8000`, `https://…`: a Nilometer server, by its `/batch` door (docs/capture.md)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx

from nilometer import __version__
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import Unavailable
from nilometer.sdk.sinks.events import event
from nilometer.sdk.sinks.port import Failed
from nilometer.sdk.turns import in_turns

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
KEY_REFUSED_SECONDS = 60
MAX_RETRY_AFTER = 3600

# What says that the request itself is wrong: sent again unchanged, it is refused again.
WRONG = (400, 413, 422)
_KEY_REFUSED = (401, 403)


class HttpSink:
    """Sends events, gzipped, with a project key. The server answers when they are durable, and
    keeps the first of each uuid."""

    batch_size = 500
    wants_prices = False
    local = False

    def __init__(
        self, url: str, api_key: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = httpx.URL(f"{url.rstrip('/')}/batch")
        self.name = f"{self._url.scheme}://{self._url.netloc.decode()}"
        self._key = api_key
        self._client = httpx.Client(timeout=TIMEOUT, transport=transport)

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        """Send them. A batch that is too large, or holds an event that the server does not take, is
        halved until the others are stored. Raises Unavailable, and httpx' errors of transport."""
        answer = self._post(metrics)
        if answer.is_success:
            return []
        if answer.status_code not in WRONG:
            raise outage(answer)
        if len(metrics) == 1:
            return [Failed(metrics[0], refusal(answer), permanent=True)]
        half = len(metrics) // 2
        return [*self.store(metrics[:half]), *self.store(metrics[half:])]

    def event_of(self, metric: AIUsageMetric) -> dict[str, Any]:
        """What is sent of a metric."""
        return event(metric, __version__)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, metrics: Sequence[AIUsageMetric]) -> httpx.Response:
        events = ",".join(json.dumps(self.event_of(metric)) for metric in in_turns(metrics))
        body = f'{{"api_key":{json.dumps(self._key)},"batch":[{events}]}}'
        return self._client.post(
            self._url,
            content=gzip.compress(body.encode(), compresslevel=1),
            headers={
                "Content-Type": "application/json",
                "Content-Encoding": "gzip",
                "User-Agent": f"nilometer-python/{__version__}",
            },
        )


def outage(answer: httpx.Response) -> Unavailable:
    """Of an answer that refuses nothing in the request: it is to be sent again, later."""
    if answer.status_code in _KEY_REFUSED:
        return Unavailable(
            "the server refuses the project key",
            code="key_refused",
            retry_after=KEY_REFUSED_SECONDS,
        )
    return Unavailable(
        f"the server answered {answer.status_code}",
        code=f"http_{answer.status_code}",
        retry_after=_retry_after(answer),
    )


def _retry_after(answer: httpx.Response) -> int:
    text = answer.headers.get("retry-after", "")
    if text.isdecimal():
        return min(int(text), MAX_RETRY_AFTER)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0
    return min(max(0, round(seconds)), MAX_RETRY_AFTER)


def refusal(answer: httpx.Response) -> str:
    """The server's code of a refusal, without its text: that may quote the event."""
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    code = cast("dict[str, Any]", body).get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) and len(code) < 64 else f"http_{answer.status_code}"
