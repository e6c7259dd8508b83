"""HTTP answers: the contract's plain text, or the JSON form for a client that asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from nilometer.capture.asgi import Headers, Send
from nilometer.capture.refusals import MethodNotAllowed, NotAuthenticated, Refusal

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_MIRRORED = re.compile(rb"[\x21-\x7e][\x20-\x7e]{0,1022}")
_METHODS = b"GET, POST, OPTIONS"
_MOST_TOLD = 20  # of what is wrong, one by one; the rest is counted


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. `reason` is the metric label: `ok`, `dropped` or an error code."""

    status: int
    body: bytes
    headers: Headers
    reason: str


def success(accepted: list[dict[str, str | int | None]], reason: str = "ok") -> Answer:
    """200 with the accepted parts, compact (contract, section 2)."""
    return Answer(200, orjson.dumps({"accepted_parts": accepted}), [_JSON], reason)


def refusal(error: Refusal, accept: bytes | None) -> Answer:
    """The answer for a refusal, in the form that the Accept header prefers."""
    headers: Headers = [_NO_SNIFF]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if isinstance(error, NotAuthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if error.close:
        headers.append((b"connection", b"close"))
    if accept is not None and prefers_json(accept):
        fields = {"type": error.kind, "code": error.code, "detail": error.text, "attr": error.attr}
        return Answer(error.status, orjson.dumps(fields), [_JSON, *headers], error.code)
    return Answer(error.status, error.text.encode(), [_TEXT, *headers], error.code)


def status_ok(reason: str = "ok") -> Answer:
    """200 of the protocols that say no more than that."""
    return Answer(200, b'{"status":"Ok"}', [_JSON], reason)


def no_content(reason: str = "ok") -> Answer:
    """204, for a page that closes (`beacon=1`) and reads no answer."""
    return Answer(204, b"", [], reason)


def results(by_uuid: Mapping[str, Mapping[str, str | None]]) -> Answer:
    """200 of the v1 protocol: what became of each event."""
    return Answer(200, orjson.dumps({"results": by_uuid}), [_JSON], "ok")


def counted(accepted: int, faults: Mapping[int, str], *, reason: str = "ok") -> Answer:
    """200 of the LiteLLM door: how many payloads were accepted, and by its place in the request
    what is wrong with each of the others."""
    wrong = [{"index": index, "detail": detail} for index, detail in faults.items()]
    fields = {"accepted": accepted, "dead_lettered": len(wrong), "errors": wrong[:_MOST_TOLD]}
    return Answer(200, orjson.dumps(fields), [_JSON], reason)


def options(allow: str) -> Answer:
    """The answer to OPTIONS; `cors_headers` adds the rest."""
    return Answer(200, b'{"status":"Ok"}', [_JSON, (b"allow", allow.encode())], "ok")


def prefers_json(accept: bytes) -> bool:
    """Whether an Accept header names JSON, and plain text not more strongly.

    A bare `*/*`, which most HTTP libraries send, does not name it.
    """
    json_weight = text_weight = 0.0
    for item in accept[:1024].decode("latin-1").lower().split(","):
        media_type, *parameters = (piece.strip() for piece in item.split(";"))
        if media_type in ("application/json", "application/*"):
            json_weight = max(json_weight, _weight(parameters))
        elif media_type in ("text/plain", "text/*"):
            text_weight = max(text_weight, _weight(parameters))
    return json_weight > 0 and json_weight >= text_weight


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def cors_headers(origin: bytes | None, requested: bytes | None, *, preflight: bool) -> Headers:
    """CORS as the contract has it (section 1): origin and request headers mirrored, credentials
    allowed. Nothing is sent to a client that sends no Origin."""
    if origin is None or not _MIRRORED.fullmatch(origin):
        return []
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    ]
    if preflight:
        headers.append((b"access-control-allow-methods", _METHODS))
        if requested is not None and _MIRRORED.fullmatch(requested):
            headers.append((b"access-control-allow-headers", requested))
    return headers


async def send_answer(send: Send, answer: Answer, extra: Headers) -> None:
    """Write the answer; `extra` headers follow its own."""
    headers = [*answer.headers, *extra]
    if answer.status != 204:  # RFC 9110: it has no content, and so no length
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
