"""Where payloads of LiteLLM go: to a server's door for them, or into a file a day."""

from __future__ import annotations

import gzip
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx

from nilometer import __version__
from nilometer.domain import clock
from nilometer.integrations.litellm_payload import Payload
from nilometer.sdk.appending import append, locked
from nilometer.sdk.sinks.http import TIMEOUT, WRONG, outage, refusal
from nilometer.sdk.sinks.port import Failed

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of one request, uncompressed, unless a single payload is larger."""
NOT_TAKEN = "dead_lettered"
"""The server has a payload as a dead letter: it is sent no more."""


class PayloadServer:
    """A server, by its door `POST /integrations/litellm`, which answers when payloads are durable
    and keeps each once (docs/clients/litellm.md)."""

    batch_size = 64
    wants_prices = False
    local = False

    def __init__(
        self, url: str, api_key: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = httpx.URL(f"{url.rstrip('/')}/integrations/litellm")
        self.name = f"{self._url.scheme}://{self._url.netloc.decode()}"
        self._key = api_key
        self._client = httpx.Client(timeout=TIMEOUT, transport=transport)

    def store(self, metrics: Sequence[Payload]) -> Sequence[Failed]:
        """Send payloads. Raises Unavailable, and httpx' errors of transport, when the server takes
        nothing: those of the same call that it has taken before, it then gets again."""
        return [failed for some in _bodies(metrics) for failed in self._send(some)]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, payloads: Sequence[Payload]) -> Sequence[Failed]:
        answer = self._post(payloads)
        if answer.is_success:
            return [Failed(payloads[index], NOT_TAKEN, permanent=True) for index in _bad(answer)]
        if answer.status_code not in WRONG:
            raise outage(answer)
        if len(payloads) == 1:
            return [Failed(payloads[0], refusal(answer), permanent=True)]
        half = len(payloads) // 2
        return [*self._send(payloads[:half]), *self._send(payloads[half:])]

    def _post(self, payloads: Sequence[Payload]) -> httpx.Response:
        body = f"[{','.join(payload.text for payload in payloads)}]".encode()
        return self._client.post(
            self._url,
            content=gzip.compress(body, compresslevel=1),
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "Content-Encoding": "gzip",
                "User-Agent": f"nilometer-python/{__version__}",
            },
        )


def _bodies(payloads: Sequence[Payload]) -> Generator[Sequence[Payload]]:
    """The payloads, by request."""
    start, size = 0, 0
    for place, payload in enumerate(payloads):
        if size and size + payload.size > MAX_BODY_BYTES:
            yield payloads[start:place]
            start, size = place, 0
        size += payload.size
    yield payloads[start:]


def _bad(answer: httpx.Response) -> list[int]:
    """The places of the payloads that the server has made dead letters of."""
    try:
        errors = cast("dict[str, Any]", answer.json()).get("errors")
        return [int(each["index"]) for each in cast("list[dict[str, Any]]", errors or [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


class PayloadFiles:
    """A file for each day (UTC) in a folder, one payload a line: what any number of processes
    append to, and `nilometer traces ingest` reads."""

    batch_size = 500
    wants_prices = False
    local = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"jsonl://{folder}"

    def store(self, metrics: Sequence[Payload]) -> Sequence[Failed]:
        """Append payloads to today's file: all, or none and an OSError. A link is not followed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = "".join(f"{payload.text}\n" for payload in metrics).encode()
        with locked(self._folder / file_name(clock.now()), follow=False) as file:
            append(file, text)
        return []

    def close(self) -> None:
        """Nothing is held between two calls."""


def file_name(moment: datetime) -> str:
    """The name of the file of a moment's day."""
    return f"litellm-traces-{moment.astimezone(UTC):%Y-%m-%d}.jsonl"
