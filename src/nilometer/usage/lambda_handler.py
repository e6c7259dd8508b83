"""The usage API without a server: a function behind API Gateway that reads DynamoDB.

`handler` takes events of REST APIs and of HTTP APIs (payloads 1.0 and 2.0). Its variables are in
docs/usage-api.md. Nobody is answered who has not shown a key, or whom the gateway has not let in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import parse_qsl

from nilometer.domain import clock
from nilometer.dynamodb import client
from nilometer.dynamodb.reader import Reader
from nilometer.errors import ConfigurationError, InvalidInput
from nilometer.usage import answers
from nilometer.usage.query import parse

TABLE = "DYNAMODB_TABLE_NAME"
KEY_HASHES = "NILOMETER_USAGE_KEY_HASHES"
AUTH = "NILOMETER_USAGE_AUTH"
ORIGIN = "NILOMETER_USAGE_ORIGIN"

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]
Answer = dict[str, Any]

# One a process: Lambda keeps it between requests.
_readers: dict[str, Reader] = {}


def handler(event: Event, context: object = None) -> Answer:
    """Answer one request. Never raises: what goes wrong is a status, and a line in the log."""
    del context
    try:
        return _answered(event)
    except InvalidInput as error:
        return _refused(400, "validation_error", error.code, error.detail, error.attr)
    except Exception as error:
        logger.exception("usage: %s", type(error).__name__)
        if client.code(error) in client.THROTTLED:
            return _refused(503, "server_error", "unavailable", "DynamoDB is busy; ask again.")
        return _refused(500, "server_error", "error", "This could not be done; the log says more.")


def _answered(event: Event) -> Answer:
    headers = _headers(event)
    method = _method(event)
    if method == "OPTIONS":
        return _answer(204, "", {"Access-Control-Allow-Headers": "authorization, if-none-match"})
    if not _admitted(event, headers.get("authorization", "")):
        return _refused(
            401,
            "authentication_error",
            "not_authenticated",
            "Authentication credentials were not provided, or are wrong.",
        )
    if method not in ("GET", "HEAD"):
        return _refused(405, "invalid_request", "method_not_allowed", "Use GET.")
    query = parse(_parameters(event), today=clock.now().date())
    body = answers.answer(query, _reader().groups(query))
    etag = answers.etag(body)
    cached = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if answers.is_current(etag, headers.get("if-none-match", "")):
        return _answer(304, "", cached)
    return _answer(200, json.dumps(body, separators=(",", ":")), cached)


def _reader() -> Reader:
    table = os.environ.get(TABLE, "")
    if not table:
        raise ConfigurationError(f"{TABLE} names the table, and is not set")
    if table not in _readers:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
        _readers[table] = Reader(client.connect(region=None, endpoint_url=endpoint), table)
    return _readers[table]


def _admitted(event: Event, authorization: str) -> bool:
    """Whether who asks has a key, or was let in by the gateway."""
    if os.environ.get(AUTH, "key") == "gateway":
        return _known_to_gateway(event.get("requestContext") or {})
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        return False
    shown = hashlib.sha256(key.strip().encode("utf-8", "replace")).hexdigest()
    hashes = [each.strip().lower() for each in os.environ.get(KEY_HASHES, "").split(",")]
    return any(hmac.compare_digest(shown, each) for each in hashes if each.isascii())


def _known_to_gateway(context: Mapping[str, Any]) -> bool:
    """API Gateway names an authorizer's principal, or IAM's; a client cannot."""
    identity: Mapping[str, Any] = context.get("identity") or {}
    return bool(context.get("authorizer") or identity.get("userArn"))


def _headers(event: Event) -> dict[str, str]:
    given: Mapping[str, Any] = event.get("headers") or {}
    return {str(name).lower(): str(value) for name, value in given.items()}


def _method(event: Event) -> str:
    context: Mapping[str, Any] = event.get("requestContext") or {}
    http: Mapping[str, Any] = context.get("http") or {}
    return str(event.get("httpMethod") or http.get("method") or "GET").upper()


def _parameters(event: Event) -> dict[str, Sequence[str]]:
    """Every parameter with each of its values."""
    several = event.get("multiValueQueryStringParameters")
    if several:
        return {name: list(values) for name, values in cast("Mapping[str, Any]", several).items()}
    raw = event.get("rawQueryString")
    if raw:
        found: dict[str, Sequence[str]] = {}
        for name, value in parse_qsl(str(raw), keep_blank_values=True):
            found[name] = [*found.get(name, ()), value]
        return found
    single: Mapping[str, Any] = event.get("queryStringParameters") or {}
    return {name: [str(value)] for name, value in single.items()}


def _refused(status: int, kind: str, code: str, detail: str, attr: str | None = None) -> Answer:
    """The server's error schema, and the two members that the original API promised."""
    body = {"error": detail, "statusCode": status}
    body |= {"type": kind, "code": code, "detail": detail, "attr": attr}
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status == 503:
        more["Retry-After"] = "1"
    return _answer(status, json.dumps(body), more)


def _answer(status: int, body: str, headers: Mapping[str, str]) -> Answer:
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "application/json",
            "Access-Control-Allow-Origin": os.environ.get(ORIGIN, "*"),
            "X-Content-Type-Options": "nosniff",
            **headers,
        },
        "body": body,
        "isBase64Encoded": False,
    }
