"""What must hold for any bytes that reach the AI door as a body, checked without a server."""

from __future__ import annotations

import json

from nilometer.capture.ai_event import identify
from nilometer.capture.ai_form import AiForm, AiFormReader, FormLimits
from nilometer.capture.content_type import form_boundary
from nilometer.capture.decompression import Gunzip
from nilometer.capture.refusals import Refusal
from nilometer.capture.schema import SchemaViolation
from nilometer.domain import ai_record, json_text
from nilometer.domain.ai_record import AiRecord

_LIMITS = FormLimits(event=300, event_and_properties=600, parts=900, part_count=6, blobs=True)
_MAX_INFLATED = 4096
PROPERTIES = b"event.properties"


def check(data: bytes) -> None:
    """Read a body three ways; raises AssertionError when they differ, or anything unforeseen.

    The first byte chooses: how long the boundary header is, whether the rest is gzip, and the
    size of the chunks.
    """
    if len(data) < 2:
        return
    control, rest = data[0], data[1:]
    _check_boundary(rest[: control % 90])
    body = _inflated(rest) if control & 0x80 else rest
    if body is None:
        return
    whole = _read([body])
    size = control % 7 + 1
    cut = _read([body[start : start + size] for start in range(0, len(body), size)])
    assert _summary(whole) == _summary(cut), "the chunks made a difference"
    if isinstance(whole, AiForm):
        _check_event(whole)


def seeds() -> list[bytes]:
    """Inputs to start from: accepted bodies, and the kinds of fault."""
    event = b'{"uuid":"123e4567-e89b-12d3-a456-426614174000","event":"$ai_span","distinct_id":"x"'
    embedded = event + b',"properties":{"$ai_model":"m"}}'
    properties = b'{"$ai_model":"m","$ai_latency":1.10}'
    blob = b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    return [
        b"\0" + _form((b"event", b"\r\n" + embedded)),
        b"\1" + _form((b"event", b"\r\n" + event + b"}"), (PROPERTIES, b"\r\n" + properties)),
        b"\2" + _form((b"event", b"\r\n" + embedded), (b"event.properties.$ai_input", blob)),
        b"\3" + _form((b"event", b"\r\n" + embedded)) + b"epilogue",
        b"\4" + _form((b"event", b"Content-Length: 900\r\n\r\n" + embedded)),
        b"\5multipart/form-data; boundary=b--b--\r\n",
    ]


def _form(*parts: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n%s\r\n' % part for part in parts
    )
    return body + b"--b--\r\n"


def _read(chunks: list[bytes]) -> AiForm | Refusal:
    reader = AiFormReader("b", _LIMITS, lambda _: None)
    try:
        for chunk in chunks:
            reader.feed(chunk)
        return reader.finish()
    except Refusal as refusal:
        return refusal


def _summary(outcome: AiForm | Refusal) -> object:
    """What may not depend on the chunks: the parts, or the status of the refusal."""
    if isinstance(outcome, Refusal):
        return outcome.status
    blobs = [(blob.name, b"".join(blob.chunks)) for blob in outcome.blobs]
    return outcome.event, outcome.properties, blobs, outcome.accepted


def _check_event(form: AiForm) -> None:
    try:
        event = identify(form, strict=False)
    except (Refusal, SchemaViolation):
        return
    record = AiRecord(event.text, event.properties_text, (), "127.0.0.1", 30)
    assert ai_record.decode(record.encode()) == record
    text = record.properties_text()
    assert json.loads(text) == json_text.loads(text.encode())
    assert len(event.uuid) == 36


def _check_boundary(content_type: bytes) -> None:
    try:
        boundary = form_boundary(b"multipart/form-data" + content_type)
    except Refusal:
        return
    assert 1 <= len(boundary) <= 70


def _inflated(data: bytes) -> bytes | None:
    gunzip, body = Gunzip(), b""
    try:
        for block in gunzip.decode(data):
            body += block
            if len(body) > _MAX_INFLATED:
                return None
        gunzip.finish()
    except Refusal:
        return None
    return body
