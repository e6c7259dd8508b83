"""Usage tracking as an AWS shop has it: the seed's variables, the providers' own libraries over
transports that answer, a table, and the Lambda that reads it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anthropic
import googlemaps
import httpx2
import openai
import pytest
import requests
from requests.adapters import BaseAdapter

from nilometer import ClientConfig, ClientManager
from nilometer.budgets import lambda_handler as budgets
from nilometer.domain import clock
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb.sink import DynamoSink
from nilometer.usage import lambda_handler
from tests.dynamodb.conftest import Table
from tests.usage.ai_usage_helpers import (
    create_mock_anthropic_response,
    create_mock_google_places_response,
    create_mock_openai_response,
)

KEY = "a-readers-key"
SEED = {
    "OPENAI_API_KEY": "test-key",
    "PINECONE_API_KEY": "test-key",
    "PINECONE_INDEX_NAME": "test-index",
    "PINECONE_HOST": "test.pinecone.io",
}
"""The variables that the seed asks for, beside the table's."""

Respond = Callable[[httpx2.Request], httpx2.Response]


@dataclass
class Shop:
    """One table, and what writes to it and reads it."""

    table: Table
    made: list[ClientManager] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The table as a sink."""
        endpoint = self.table.dynamodb.meta.endpoint_url
        return f"dynamodb://{self.table.name}?region=us-east-1&endpoint_url={endpoint}"

    def manager(self, **fields: Any) -> ClientManager:
        """One of the environment's configuration, but for these fields."""
        quick: dict[str, Any] = {
            "auto_tags": False,
            "environment": "test",
            "flush_interval": 0.01,
            "retry_base_delay": 0.01,
            "circuit_breaker_timeout": 0.05,
            "exit_timeout": 0.2,
            "handle_sigterm": False,
        }
        manager = ClientManager(ClientConfig.from_env(**(quick | fields)))
        self.made.append(manager)
        return manager

    def sink_over(self, dynamodb: Any) -> DynamoSink:
        """The table's sink with another client: where a test puts its outages."""
        return DynamoSink(self.table.name, dynamodb=dynamodb)

    def metrics(self) -> list[AIUsageMetric]:
        """Every metric in the table, in the order of their times. Waits until all are stored."""
        for manager in self.made:
            assert manager.flush(30), manager.stats()
        today = clock.now().date()
        reader = self.table.reader()
        found = list(reader.metrics(today - timedelta(days=2), today))
        reader.close()
        return sorted(found, key=lambda each: (each.timestamp, each.request_id))

    def ask(self, **parameters: str) -> Any:
        """What the Lambda answers; a test that asks for a refusal looks at `answer`."""
        status, body = self.answer(parameters)
        assert status == 200, body
        return body

    def answer(self, parameters: Mapping[str, str], **event: Any) -> tuple[int, Any]:
        """The Lambda's status and body."""
        asked = {
            "httpMethod": "GET",
            "headers": {"authorization": f"Bearer {KEY}"},
            "queryStringParameters": parameters,
        }
        found = lambda_handler.handler(asked | event)
        return found["statusCode"], json.loads(found["body"])


@contextmanager
def shop(table: Table, folder: Path) -> Iterator[Shop]:
    """A shop whose environment has the variables of the seed and of the Lambda."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SEED.items():
            patch.setenv(name, value)
        for name in ("NILOMETER_SINK", "DYNAMO_TABLE_NAME", "ENVIRONMENT"):
            patch.delenv(name, raising=False)
        patch.setenv("DYNAMODB_TABLE_NAME", table.name)
        patch.setenv("NILOMETER_SPOOL_DIR", str(folder / "spool"))
        patch.setenv("AWS_ENDPOINT_URL_DYNAMODB", table.dynamodb.meta.endpoint_url)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.delenv("AWS_DEFAULT_REGION", raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "nilometer")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nilometer")
        patch.setenv(lambda_handler.KEY_HASHES, hashlib.sha256(KEY.encode()).hexdigest())
        opened = Shop(table)
        try:
            yield opened
        finally:
            for manager in opened.made:
                manager.close()
                assert manager.stats().balanced
            if reader := lambda_handler._readers.pop(table.name, None):
                reader.close()
            if connection := budgets._connections.pop(table.name, None):
                connection[1].close()


def chat(request: httpx2.Request) -> httpx2.Response:
    """OpenAI's answer: so many tokens as the prompt has words, and as many as were allowed."""
    asked = json.loads(request.content)
    if request.url.path.endswith("/embeddings"):
        tokens = len(asked["input"].split())
        body: dict[str, Any] = {
            "object": "list",
            "model": asked["model"],
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    else:
        words = len(asked["messages"][0]["content"].split())
        body = create_mock_openai_response(words, asked.get("max_tokens", 50))
    return httpx2.Response(200, json=body, headers={"x-request-id": "req_test123"})


def message(request: httpx2.Request) -> httpx2.Response:
    """Anthropic's, likewise."""
    asked = json.loads(request.content)
    words = len(asked["messages"][0]["content"].split())
    body = create_mock_anthropic_response(words, asked["max_tokens"])
    return httpx2.Response(200, json=body, headers={"request-id": "req_test123"})


def prompt(words: int, allowed: int = 50, model: str = "gpt-4o-mini") -> dict[str, Any]:
    """The arguments of a call that uses so many tokens in and out, of either library."""
    text = " ".join(["word"] * words)
    return {
        "model": model,
        "max_tokens": allowed,
        "messages": [{"role": "user", "content": text}],
    }


def openai_client(respond: Respond = chat, **options: Any) -> openai.OpenAI:
    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(api_key="test-key", http_client=transport, **options)


def async_openai_client(respond: Respond = chat, **options: Any) -> openai.AsyncOpenAI:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    return openai.AsyncOpenAI(api_key="test-key", http_client=transport, **options)


def anthropic_client(respond: Respond = message, **options: Any) -> anthropic.Anthropic:
    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return anthropic.Anthropic(api_key="test-key", http_client=transport, **options)


def places_client(body: Mapping[str, Any] | None = None) -> googlemaps.Client:
    answer = body or create_mock_google_places_response()
    session = requests.Session()
    session.mount("https://", _Answers(answer))
    return googlemaps.Client(key="AIza-test", requests_session=session)


class _Answers(BaseAdapter):
    """Answers each request of `requests` with one body."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__()
        self._body = json.dumps(body).encode()

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(self._body)
        response.request = request
        response.url = request.url or ""
        return response

    def close(self) -> None:
        """Nothing to close."""
