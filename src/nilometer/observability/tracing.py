"""Spans of Nilometer's own work in OpenTelemetry, where the operator asks for them; else nothing.

A span's parent is the `traceparent` that was kept with what is worked on, so that one trace goes on
over processes, restarts and days. What is asked of others meanwhile carries the span's own.

Of what senders sent nothing is in a span: a caller names projects, exceptions, stages and tools,
and an error by its code.
"""

from __future__ import annotations

import importlib
import logging
import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Any, Final

from nilometer import __version__
from nilometer.errors import ConfigurationError, NilometerError
from nilometer.observability import metrics

STOP_SECONDS: Final = 5.0
"""How long the end of a process waits for spans that were not sent yet."""

NOT_INSTALLED: Final = 'Tracing needs OpenTelemetry: pip install "nilometer[otel]"'

_UNNAMED = "unknown_service"
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED = 1

_log = logging.getLogger(__name__)


class Kind(Enum):
    """OpenTelemetry's kinds of spans, by its names."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """What is being done, from `started` on until `end`, or the end of a `with`.

    `traceparent` is what it leads to belongs to: the span, or, where none is made, what the span
    would have belonged to.
    """

    __slots__ = ("_made", "traceparent")

    def __init__(self, traceparent: str | None, made: Any = None) -> None:
        self.traceparent = traceparent
        self._made = made

    def end(self, error: str | None = None) -> None:
        """It is over; of an error, by its code. Only the first time counts. A span that never ends
        is never told of."""
        made, self._made = self._made, None
        if made is None:
            return
        if error is not None:
            made.set_attribute("error.type", error)
            made.set_status(_failed(), error)
        made.end()
        _ENDED.inc()

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(None if error is None else code_of(error))


class Spans:
    """Those of a batch, which end with the block that does it: with its error, if it has one.
    `tentative`: what fails is done again in another way, and is not told of."""

    __slots__ = ("_spans", "_tentative")

    def __init__(self, *, tentative: bool = False) -> None:
        self._spans: list[Span] = []
        self._tentative = tentative

    def add(self, span: Span) -> None:
        """One more."""
        self._spans.append(span)

    def __enter__(self) -> Spans:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failed = None if error is None else code_of(error)
        if failed is None or not self._tentative:
            for span in self._spans:
                span.end(failed)
        self._spans.clear()


class _Making:
    """How spans are made."""

    def __init__(self, provider: Any) -> None:
        self._tracer = provider.get_tracer("nilometer", __version__)
        self._api = importlib.import_module("opentelemetry.trace")
        self._nothing = importlib.import_module("opentelemetry.context").Context()

    def begin(
        self, name: str, parent: str | None, kind: Kind, attributes: Mapping[str, str | int] | None
    ) -> Span:
        """See `started`."""
        span = self._tracer.start_span(
            name,
            context=self._context(parent),
            kind=self._api.SpanKind[kind.value],
            attributes=attributes,
        )
        own = span.get_span_context()
        if not own.is_valid:  # the SDK is disabled by its own variable
            return Span(parent)
        told = f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}"
        return Span(told, span if span.is_recording() else None)

    def _context(self, parent: str | None) -> Any:
        """The context of a parent, whatever else this thread does; an empty one for none."""
        found = _TRACEPARENT.fullmatch(parent) if parent else None
        if found is None:
            return self._nothing
        trace_id, span_id, flags = (int(each, 16) for each in found.groups())
        flags = self._api.TraceFlags(flags & _SAMPLED)
        told = self._api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(told), self._nothing)


_making: _Making | None = None
_ENDED: Final = metrics.SPANS.labels("ended")


def code_of(error: BaseException) -> str:
    """What an error is called in a span: never its text, which may hold what was sent."""
    return error.code if isinstance(error, NilometerError) else type(error).__name__


def on() -> bool:
    """Whether spans are made."""
    return _making is not None


def started(
    name: str,
    parent: str | None,
    kind: Kind = Kind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
) -> Span:
    """A span that begins now, below what `parent` (a `traceparent`) names; without a parent the
    first of a trace. Where no spans are made, what it gives does nothing."""
    making = _making
    return Span(parent) if making is None else making.begin(name, parent, kind, attributes)


@contextmanager
def exporting(tracing: str) -> Generator[None]:
    """While the block runs, make spans and send them over OTLP/HTTP, if `tracing` is `otlp`; where
    to, and all else, the variables of OpenTelemetry say (`OTEL_EXPORTER_OTLP_…`).

    Spans are sent by a thread of their own from a queue that is bounded: whoever makes one never
    waits, and what a receiver does not take fast enough is dropped. Raises ConfigurationError where
    OpenTelemetry is not installed.
    """
    if tracing == "off":
        yield
        return
    provider = _provider()
    use(provider)
    try:
        yield
    finally:
        use(None)
        _stop(provider)


def use(provider: Any | None) -> None:
    """Make spans by this provider of OpenTelemetry's SDK; by None no more."""
    global _making  # noqa: PLW0603
    _making = None if provider is None else _Making(provider)


class Counted:
    """An exporter of spans that counts what becomes of them."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def export(self, spans: Any) -> Any:
        """See OpenTelemetry's `SpanExporter`. Of an error that it lets through the batch has no
        use: it is one that was not sent."""
        result = self._exporter.export(spans)
        metrics.SPANS.labels("sent" if result.name == "SUCCESS" else "failed").inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether all was sent."""
        return bool(self._exporter.force_flush(timeout_millis))


def _provider() -> Any:
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        raise ConfigurationError(NOT_INSTALLED) from None
    resource = resources.Resource.create()
    if str(resource.attributes.get("service.name", _UNNAMED)).startswith(_UNNAMED):
        named = {"service.name": "nilometer", "service.version": __version__}
        resource = resource.merge(resources.Resource(named))
    try:
        provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = Counted(otlp.OTLPSpanExporter())
        provider.add_span_processor(export.BatchSpanProcessor(exporter))
    except ValueError as error:
        raise ConfigurationError(f"OpenTelemetry cannot be set up: {error}") from None
    return provider


def _failed() -> Any:
    return importlib.import_module("opentelemetry.trace").StatusCode.ERROR


def _stop(provider: Any) -> None:
    """Send what waits, for as long as a stop may take: a receiver that hangs holds up nobody."""
    ending = threading.Thread(target=provider.shutdown, name="tracing-stop", daemon=True)
    ending.start()
    ending.join(STOP_SECONDS)
    if ending.is_alive():
        _log.warning("spans were not sent within %g s; they are dropped", STOP_SECONDS)
