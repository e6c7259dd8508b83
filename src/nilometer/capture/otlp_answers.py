"""Answers of the OTLP protocol: protobuf for protobuf, JSON for JSON."""

from __future__ import annotations

from dataclasses import replace

import orjson

from nilometer.capture import answers
from nilometer.capture.answers import Answer
from nilometer.capture.refusals import Refusal
from nilometer.domain.protobuf_wire import field, integer_field

PROTOBUF = b"application/x-protobuf"
JSON = b"application/json"

_PARTIAL_SUCCESS, _REJECTED, _MESSAGE = 1, 1, 2  # of Export…ServiceResponse and Export…Success
_REJECTED_NAMES = {
    "spans": "rejectedSpans",
    "metrics": "rejectedDataPoints",
    "logs": "rejectedLogRecords",
}

# google.rpc.Code, by HTTP status; what is missing is INTERNAL or INVALID_ARGUMENT.
_CODES = {401: 16, 404: 5, 405: 12, 408: 4, 429: 8, 503: 14}
_INTERNAL, _INVALID_ARGUMENT = 13, 3

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def exported(*, json: bool, rejected: int, message: str, signal: str = "spans") -> Answer:
    """200; what was rejected is told as OTLP's partial success."""
    if json:
        told = {_REJECTED_NAMES[signal]: str(rejected), "errorMessage": message}
        body = orjson.dumps({"partialSuccess": told} if rejected else {})
        return Answer(200, body, [(b"content-type", JSON)], "ok")
    body = export_response(rejected, message)
    return Answer(200, body, [(b"content-type", PROTOBUF)], "ok")


def export_response(rejected: int, message: str) -> bytes:
    """An `ExportTraceServiceResponse`; those of metrics and logs have the same layout."""
    if not rejected:
        return b""
    told = integer_field(_REJECTED, rejected) + field(_MESSAGE, message.encode())
    return field(_PARTIAL_SUCCESS, told)


def refusal(error: Refusal, *, json: bool) -> Answer:
    """The answer for a refusal: a `google.rpc.Status`, with the headers of any refusal."""
    plain = answers.refusal(error, None)
    headers = [(name, value) for name, value in plain.headers if name != b"content-type"]
    code = grpc_code(error)
    body = (
        orjson.dumps({"code": code, "message": error.text})
        if json
        else status(code, error.text, None)
    )
    return replace(
        plain, body=body, headers=[(b"content-type", JSON if json else PROTOBUF), *headers]
    )


def grpc_code(error: Refusal) -> int:
    """The number of gRPC's status for a refusal."""
    return _CODES.get(error.status, _INTERNAL if error.status >= 500 else _INVALID_ARGUMENT)


def status(code: int, message: str, retry_after: int | None) -> bytes:
    """A `google.rpc.Status`, with a `RetryInfo` where it may be tried again after some seconds."""
    details = b""
    if retry_after is not None:
        delay = field(1, integer_field(1, retry_after))
        details = field(3, field(1, _RETRY_INFO.encode()) + field(2, delay))
    return integer_field(1, code) + field(2, message.encode()) + details
