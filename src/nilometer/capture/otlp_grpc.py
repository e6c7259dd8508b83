"""The OTLP door over gRPC: `TraceService/Export`, and those of metrics and logs, which say that
they keep nothing.

One server on the capture door's own event loop. The key is checked, and room is taken for the
largest message there may be, before a byte of the message is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import grpc
import grpc.aio

from nilometer.capture import otlp_answers
from nilometer.capture.asgi import Scope
from nilometer.capture.gate import Gate, check_mode
from nilometer.capture.otlp_door import ExportReader, sender_of
from nilometer.capture.otlp_export import SpanRules, rejection_message
from nilometer.capture.otlp_keeping import Sender, keep
from nilometer.capture.otlp_signals import OTHER_SIGNALS, Signal, refuse_all
from nilometer.capture.refusals import BodyTimeout, Dropped, EmptyPayload, Refusal
from nilometer.capture.request_head import RequestHead
from nilometer.capture.translation import translated
from nilometer.errors import ConfigurationError
from nilometer.observability.metrics import REQUEST_SECONDS, REQUESTS

NAME = "otlp_grpc"

_SERVICE = "opentelemetry.proto.collector.{name}.v1.{title}Service"
_MAX_METADATA_BYTES = 16 * 1024
_IDLE_SECONDS = 300
_STATUSES = {code.value[0]: code for code in grpc.StatusCode}

_Context = Any  # grpc.aio.ServicerContext, whose annotations are incomplete
_Answer = Callable[[bytes, Sender], Awaitable[bytes]]


class OtlpGrpcServer:
    """Serves one port in clear text, as the other doors do: TLS ends in front of it.

    For the event loop of its gate. `address` is `host:port`.
    """

    def __init__(self, gate: Gate, address: str) -> None:
        settings = gate.settings
        self._gate = gate
        self._address = address
        self._most_bytes = settings.max_otlp_grpc_bytes
        self._reader = ExportReader(
            SpanRules(settings.max_otlp_span_bytes), settings.max_otlp_spans
        )
        self._seconds = REQUEST_SECONDS.labels(NAME)
        self._server: Any = None

    async def start(self) -> int:
        """Listen, and return the port. Raises ConfigurationError when the address is taken."""
        settings = self._gate.settings
        server = cast("Any", grpc.aio).server(
            options=[
                ("grpc.max_receive_message_length", self._most_bytes),
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.max_connection_idle_ms", _IDLE_SECONDS * 1000),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=settings.max_connections,
        )
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        try:
            port: int = server.add_insecure_port(self._address)
        except RuntimeError:
            raise ConfigurationError(
                f"Cannot listen on {self._address} for OTLP over gRPC. Choose another port with "
                "NILOMETER_OTLP_GRPC_PORT; 0 turns it off."
            ) from None
        await server.start()
        self._server = server
        return port

    async def stop(self, grace: float) -> None:
        """Take no new requests, and wait up to `grace` seconds for those in flight."""
        if self._server is not None:
            await self._server.stop(grace)

    def _handlers(self) -> list[Any]:
        services: dict[str, _Answer] = {"trace": self._keep}
        services |= {signal.name: self._refusing(signal) for signal in OTHER_SIGNALS}
        return [_service(name, self._method(answer)) for name, answer in services.items()]

    def _method(self, answer: _Answer) -> Callable[[Any, _Context], Awaitable[bytes]]:
        """The method of a service: from the metadata to the answer or a status."""

        async def export(messages: AsyncIterator[bytes], context: _Context) -> bytes:
            started = time.perf_counter()
            reason, status = "client_gone", 499
            try:
                response = await self._export(messages, context, answer)
                reason, status = "ok", 200
            except Dropped:
                reason, status, response = "dropped", 200, b""
            except Refusal as error:
                reason, status = error.code, error.status
                await _abort(context, error)
            except Exception as error:  # noqa: BLE001  (translated and, if a defect, logged)
                refusal = translated(error)
                reason, status = refusal.code, refusal.status
                await _abort(context, refusal)
            finally:
                REQUESTS.labels(NAME, str(status), reason).inc()
                self._seconds.observe(time.perf_counter() - started)
            return response

        return export

    async def _export(
        self, messages: AsyncIterator[bytes], context: _Context, answer: _Answer
    ) -> bytes:
        sender = await sender_of(self._gate, _head(context))
        with self._gate.admission.reserve(sender.project.project_id, self._most_bytes):
            return await answer(await self._message(messages), sender)

    async def _message(self, messages: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._gate.settings.body_timeout):
                async for message in messages:
                    return message
        except TimeoutError:
            raise BodyTimeout from None
        raise EmptyPayload

    async def _keep(self, body: bytes, sender: Sender) -> bytes:
        check_mode(sender.project)
        work = lambda: self._reader.read(body, sender, json=False)  # noqa: E731
        export = await self._gate.off_loop.run(len(body), work)
        await keep(self._gate, sender, export, protocol="grpc")
        message = rejection_message(export, self._reader.rules)
        return otlp_answers.export_response(export.rejected.total(), message)

    def _refusing(self, signal: Signal) -> _Answer:
        async def refuse(body: bytes, sender: Sender) -> bytes:
            del sender
            work = lambda: refuse_all(body, signal, json=False)  # noqa: E731
            return otlp_answers.export_response(*await self._gate.off_loop.run(len(body), work))

        return refuse


def _service(name: str, method: Callable[[Any, _Context], Awaitable[bytes]]) -> Any:
    # A client stream of one message is the same on the wire, and leaves it to us when to read it.
    make = cast("Any", grpc)
    return make.method_handlers_generic_handler(
        _SERVICE.format(name=name, title=name.capitalize()),
        {"Export": make.stream_unary_rpc_method_handler(method)},
    )


def _head(context: _Context) -> RequestHead:
    """The call's metadata, as the headers of the same request over HTTP."""
    pairs = [(name.encode(), _bytes(value)) for name, value in context.invocation_metadata() or ()]
    scope: Scope = {"headers": pairs, "client": _peer(context.peer())}
    return RequestHead(dict(pairs), None, scope)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")


def _peer(text: str) -> tuple[str, int] | None:
    """The address of `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    family, _, rest = unquote(text).partition(":")
    host, _, port = rest.rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)


async def _abort(context: _Context, error: Refusal) -> NoReturn:
    """End the call with a status; with OTLP's `RetryInfo` where it may be tried again."""
    code = otlp_answers.grpc_code(error)
    metadata: tuple[tuple[str, bytes], ...] = ()
    if error.retry_after is not None:
        details = otlp_answers.status(code, error.text, error.retry_after)
        metadata = (("grpc-status-details-bin", details),)
    await context.abort(_STATUSES[code], error.text, trailing_metadata=metadata)
    raise AssertionError("abort raises")
