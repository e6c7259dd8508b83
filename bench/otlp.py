"""OTLP spans per second: acknowledged, queryable, and kept after `kill -9`, beside peers.

100 spans of 2 kB a request, on 4 connections that send the next request when the last is answered.

    python -m bench.otlp 500 [nilometer|arize-phoenix|mlflow]
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import peers
from bench.stored import CONNECTIONS, Target, kept, throughput

SPANS = 100
_SYSTEM = "You are a helpful assistant. " * 8
_QUESTION = "Explain the difference between a queue and a log. " * 12
_ANSWER = "A queue removes messages once consumed; a log keeps them. " * 10

Running = Callable[[Path], AbstractContextManager[Target]]


def measure(requests: int, *, only: str = "") -> dict[str, Any]:
    """`requests` of 100 spans to Nilometer, a tenth of it to rivals; then `kill -9` after the last
    answer of some more. `only` names one of the servers. One that fails is told of, and the others
    are measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end the servers
    few = max(5, requests // 10)
    servers: dict[str, tuple[Running, int]] = {
        "nilometer": (peers.nilometer, requests),
        "arize-phoenix": (peers.phoenix, few),
        "mlflow": (peers.mlflow, few),
    }
    if only:
        servers = {only: servers[only]}
    results: dict[str, Any] = {"spans_per_request": SPANS, "connections": CONNECTIONS}
    for name, (run, count) in servers.items():
        try:
            results[name] = _measured(run, count)
        except (AssertionError, OSError) as error:
            results[name] = {"failed": str(error)}
        print(name, results[name], file=sys.stderr, flush=True)
    return results


def _measured(run: Running, requests: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory, run(Path(directory)) as target:
        measured = throughput(target, export_request, requests, SPANS)
        try:
            killed = kept(target, export_request, max(5, requests // 10), SPANS)
        except (AssertionError, OSError) as error:  # it did not come back, say
            return measured | {"kill": {"failed": str(error)}}
        return measured | {"kill": killed}


def export_request(spans: int = SPANS) -> bytes:
    """An export of generations of about 2 kB, five to a trace, all new."""
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    _set(group.resource, {"service.name": "bench"})
    scope = group.scope_spans.add()
    scope.scope.name = "bench"
    now = time.time_ns()
    trace, root = b"", b""
    for number in range(spans):
        if number % 5 == 0:
            trace, root = os.urandom(16), b""
        identifier = os.urandom(8)
        span = scope.spans.add(
            trace_id=trace,
            span_id=identifier,
            parent_span_id=root,
            name="chat gpt-4o",
            kind=3,
            start_time_unix_nano=now - 2_000_000_000,
            end_time_unix_nano=now - random.randint(1, 10**9),
        )
        root = root or identifier
        _set(span, _attributes())
    return made.SerializeToString()


def _attributes() -> dict[str, Any]:
    asked = [("system", _SYSTEM), ("user", _QUESTION)]
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in asked]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": _ANSWER}]}]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": random.randint(10, 4000),
        "gen_ai.usage.output_tokens": random.randint(1, 900),
        "user.id": f"u{random.randint(1, 1000)}",
        "session.id": f"s{random.randint(1, 5000)}",
        "gen_ai.input.messages": json.dumps(parts),
        "gen_ai.output.messages": json.dumps(answer),
    }


def _set(holder: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        kind = "int_value" if isinstance(value, int) else "string_value"
        setattr(holder.attributes.add(key=key).value, kind, value)


if __name__ == "__main__":
    requests, only = int(sys.argv[1]), "".join(sys.argv[2:3])
    print(json.dumps(measure(requests, only=only), indent=1))
