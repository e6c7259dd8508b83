"""Events and blobs of every kind, made from one seed, so that a failure can be had again."""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from tests.acceptance.llma.multipart import Blob

EVENT_TYPES = (
    "$ai_trace",
    "$ai_span",
    "$ai_generation",
    "$ai_embedding",
    "$ai_metric",
    "$ai_feedback",
)
KINDS = ("json", "text", "text-charset", "base64", "binary")
"""Kinds of blobs: their content type, and how their bytes are made."""

KILOBYTE = 1024
MEGABYTE = 1024 * KILOBYTE
SIZES = {
    "1KB": KILOBYTE,
    "100KB": 100 * KILOBYTE,
    "1MB": MEGABYTE,
    "10MB": 10 * MEGABYTE,
    "24MB": 24 * MEGABYTE,
}
_SENTENCE = (
    "the a river height of today is sixteen cubits and flood harvest gauge level rises falls "
    "Aswan Memphis Roda papyrus measure tax Öl señal 水位 نيل 🌊"
)
_WORDS = _SENTENCE.split()
_TYPED_PROPERTIES: dict[str, dict[str, Any]] = {
    "$ai_trace": {"$ai_span_name": "answer a question", "$ai_latency": 0.9},
    "$ai_span": {"$ai_span_name": "read the gauge", "$ai_span_type": "tool"},
    "$ai_generation": {"$ai_provider": "openai", "$ai_input_tokens": 13, "$ai_output_tokens": 5},
    "$ai_embedding": {"$ai_provider": "openai", "$ai_input_tokens": 8},
    "$ai_metric": {"$ai_metric_name": "accuracy", "$ai_metric_value": "0.93"},
    "$ai_feedback": {"$ai_feedback_text": "helpful"},
}


class Generators:
    """Makes test data; the same seed and the same calls give the same data."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._kinds: dict[str, tuple[str, Callable[[int], bytes]]] = {
            "json": ("application/json", self.json_document),
            "text": ("text/plain", self.text),
            "text-charset": ("text/plain; charset=utf-8", self.text),
            "base64": ("text/plain", self.base64),
            "binary": ("application/octet-stream", self.binary),
        }

    def uuid(self) -> str:
        """A version 4 UUID."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def event(self, event_type: str = "$ai_generation") -> dict[str, Any]:
        """An event without its properties."""
        return {
            "uuid": self.uuid(),
            "event": event_type,
            "distinct_id": f"user-{self._random.randrange(1000)}",
        }

    def properties(self, event_type: str = "$ai_generation") -> dict[str, Any]:
        """The properties that such an event has, all of them as its schema says."""
        return {
            "$ai_model": self._random.choice(["gpt-4o-mini", "claude-sonnet-4-5"]),
            "$ai_trace_id": self.uuid(),
            "custom": self._random.random(),
            **_TYPED_PROPERTIES[event_type],
        }

    def blob(self, kind: str, size: int, name: str = "$ai_input", *, gzipped: bool = False) -> Blob:
        """A blob of one of KINDS, of exactly `size` bytes."""
        content_type, make = self._kinds[kind]
        return Blob(name, content_type, make(size), gzipped)

    def blobs(self, count: int, largest: int = 200 * KILOBYTE) -> list[Blob]:
        """Blobs of changing kinds and sizes, named $ai_blob1 and on."""
        return [
            self.blob(
                KINDS[number % len(KINDS)],
                self._random.randint(1, largest),
                f"$ai_blob{number}",
            )
            for number in range(1, count + 1)
        ]

    def text(self, size: int) -> bytes:
        """Words of several scripts, in exactly `size` bytes of UTF-8."""
        few = " ".join(self._random.choices(_WORDS, k=min(size, 2000))).encode()
        cut = (few * (size // max(len(few), 1) + 1))[:size].decode(errors="ignore").encode()
        return cut + b"." * (size - len(cut))

    def json_document(self, size: int) -> bytes:
        """A chat in exactly `size` bytes, or the shortest text that is JSON."""
        empty = len(json.dumps([{"role": "user", "content": ""}]))
        if size <= empty:
            return b'"' + b"x" * (size - 2) + b'"' if size >= 2 else b"1"
        plain = self.text(size - empty).decode().replace('"', "'").replace("\\", "/")
        body = json.dumps([{"role": "user", "content": plain}], ensure_ascii=False).encode()
        assert len(body) == size, (len(body), size)
        return body

    def base64(self, size: int) -> bytes:
        """Random bytes, as base64 text of exactly `size` characters."""
        return base64.b64encode(self.binary(size))[:size]

    def binary(self, size: int) -> bytes:
        """Random bytes: no compression makes them smaller, and they hold any byte."""
        return self._random.randbytes(size)
