"""Who is asked how budgets stand: a Nilometer server, or the table that a Lambda writes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httpx

from nilometer import __version__
from nilometer.errors import ConfigurationError, Unavailable
from nilometer.sdk.budget_standing import Standing, Standings

TIMEOUT = httpx.Timeout(5.0, connect=2.0)
_PATH = "/api/projects/@current/budgets/check"
_MAX_BYTES = 4 * 1024 * 1024


def open_standings(url: str, api_key: str | None) -> Standings:
    """Who is asked at a sink's URL. Raises ConfigurationError for one that knows no budgets."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        if not api_key:
            raise ConfigurationError(f"{url!r} needs api_key, a project key", attr="api_key")
        return ServerStandings(url, api_key)
    if parts.scheme == "dynamodb" and parts.netloc:
        options = dict(parse_qsl(parts.query))
        try:
            from nilometer.budgets.dynamodb_items import TableStandings
            from nilometer.dynamodb import client
        except ImportError:
            raise ConfigurationError(
                "dynamodb:// needs boto3: pip install 'nilometer[dynamodb]'", attr="budget_check"
            ) from None
        connection = client.connect(
            region=options.get("region"), endpoint_url=options.get("endpoint_url"), connections=1
        )
        return TableStandings(connection, parts.netloc)
    raise ConfigurationError(
        f"{url!r} knows no budgets; http(s)://host and dynamodb://table do", attr="budget_check"
    )


class ServerStandings:
    """A server, by its check of budgets."""

    def __init__(
        self, url: str, api_key: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = f"{url.rstrip('/')}{_PATH}"
        self._client = httpx.Client(
            timeout=TIMEOUT,
            transport=transport,
            headers={
                "Authorization": f"Bearer {api_key}",
                "User-Agent": f"nilometer-python/{__version__}",
            },
        )

    def ask(self) -> Sequence[Standing]:
        """As the port says."""
        answer = self._client.post(self._url, json={})
        if not answer.is_success:
            raise Unavailable(
                f"the server answered {answer.status_code}", code=f"http_{answer.status_code}"
            )
        if len(answer.content) > _MAX_BYTES:
            raise Unavailable("the server's answer is too long", code="answer_unread")
        try:
            return [_standing(each) for each in answer.json()["budgets"] if each["hard_stop"]]
        except (ValueError, KeyError, TypeError, InvalidOperation):
            raise Unavailable("the server's answer is no check", code="answer_unread") from None

    def close(self) -> None:
        """As the port says."""
        self._client.close()


def _standing(told: dict[str, Any]) -> Standing:
    return Standing(
        id=str(told["id"]),
        name=str(told["name"]),
        kind=str(told["scope"]),
        value=str(told["value"] or ""),
        spent=Decimal(told["spent_usd"]),
        limit=Decimal(told["limit_usd"]),
        period_start=_moment(told["period_start"]),
        period_end=_moment(told["period_end"]),
    )


def _moment(text: Any) -> datetime:
    found = datetime.fromisoformat(cast("str", text))
    if found.tzinfo is None:
        raise ValueError("a moment without a zone")
    return found
