"""The body of an answer that is still coming: who reads it, and how it ends.

A caller may read it as events or as a document, which the library parses and the adapter hears of,
or as bytes, of which nobody else makes sense: then they are kept, up to a bound, and read at the
end. Lines of a file of results are handed on as they pass.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from typing import Any

import anyio

from nilometer.integrations.call import Call
from nilometer.integrations.results import Results

_LOG = logging.getLogger(__name__)
_MAX_KEPT = 2 * 1024 * 1024
"""Bytes of an answer kept to be read at its end. Of a longer one the usage is not known."""


def listen(response: Any, call: Call) -> None:
    """Hear the response's body pass, and its end."""
    stream = response.stream
    listener = _Listener(call, response)
    bases = {base.__name__: base for base in type(stream).__mro__}
    if hasattr(stream, "__aiter__") and "AsyncByteStream" in bases:
        response.stream = _kind(_AsyncHeard, bases["AsyncByteStream"])(stream, listener)
    else:
        response.stream = _kind(_Heard, bases["SyncByteStream"])(stream, listener)


def read_body(call: Call, response: Any) -> Iterable[float]:
    """Hear a body that was read whole, and that the library has not parsed (yet). Gives seconds to
    wait, as `Results.take` does; of what is no file of results none."""
    if call.endpoint.lines is not None:
        return _hear_lines(Results(call, call.endpoint.lines), response.content)
    _hear_whole(call, response.content, events=_is_events(response))
    return ()


class _Listener:
    """Hears chunks of a body and its end. It holds the call, and nothing holds it but the body's
    stream: a body that is dropped unread ends the call."""

    def __init__(self, call: Call, response: Any) -> None:
        self._call = call
        self._decoder = _decoder(response)
        self._events = _is_events(response)
        self._kept: bytearray | None = bytearray()
        lines = call.endpoint.lines
        self._results = None if lines is None else Results(call, lines)

    def chunk(self, chunk: bytes) -> Iterable[float]:
        """Some bytes, as they came. Gives seconds to wait, as `Results.take` does."""
        if self._kept is None or self._call.ended:
            return ()
        if self._call.heard and self._results is None:
            self._kept = None  # the library reads it
            return ()
        try:
            told = self._decoder(chunk)
        except Exception:  # noqa: BLE001  (a coding that only the caller's library knows)
            _LOG.debug("a body could not be decoded", exc_info=True)
            self._kept = None
            return ()
        if self._results is not None:
            return self._results.take(told)
        self._kept += told
        if len(self._kept) > _MAX_KEPT:
            self._kept = None
        return ()

    def fail(self, error: BaseException) -> None:
        """The body broke off."""
        self._call.fail(error)

    def end(self) -> None:
        """The body is at its end, or was closed before it."""
        call, kept = self._call, self._kept
        if call.ended:
            return
        self._kept = None
        self._hear_error()
        if self._results is not None:
            self._results.end()
        elif kept and not call.heard:
            _hear_whole(call, bytes(kept), events=self._events)
        if call.heard or call.stream or call.error is not None or not call.endpoint.billed:
            call.end()
        else:  # a document that the library parses after its end
            call.late = True

    def _hear_error(self) -> None:
        """Whether the library itself closes the body because of an error in an event of it. Errors
        of the caller's, which leave the block that reads the body, are none of the provider's."""
        error = sys.exc_info()[1]
        if error is None or isinstance(error, GeneratorExit) or error.__traceback__ is None:
            return
        raised_in = error.__traceback__.tb_frame.f_globals.get("__name__", "")
        if raised_in.partition(".")[0] == type(error).__module__.partition(".")[0]:
            self._call.fail(error)


def _hear_lines(results: Results, body: bytes) -> Iterator[float]:
    yield from results.take(body)
    results.end()


def _hear_whole(call: Call, body: bytes, *, events: bool) -> None:
    if not events:
        _hear_json(call, body)
        return
    for line in body.splitlines():
        if line.startswith(b"data:"):
            _hear_json(call, line[5:])


def _hear_json(call: Call, text: bytes | bytearray) -> None:
    text = text.strip()
    if not text.startswith(b"{"):
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    call.hear(found)


class _Heard:
    """A body's stream, listened to."""

    def __init__(self, stream: Any, listener: _Listener) -> None:
        self._stream = stream
        self._listener = listener

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._stream:
                for pause in self._listener.chunk(chunk):
                    time.sleep(pause)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._listener.fail(error)
            raise

    def close(self) -> None:
        """The caller, or its library, is done with it."""
        try:
            self._stream.close()
        finally:
            self._listener.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _AsyncHeard:
    """The same, asynchronous."""

    def __init__(self, stream: Any, listener: _Listener) -> None:
        self._stream = stream
        self._listener = listener

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                for pause in self._listener.chunk(chunk):
                    await anyio.sleep(pause)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._listener.fail(error)
            raise

    async def aclose(self) -> None:
        """The caller, or its library, is done with it."""
        try:
            await self._stream.aclose()
        finally:
            self._listener.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@cache
def _kind(heard: type, base: type) -> type:
    """`heard` as a stream of httpx or httpx2, whose responses want one of their own."""
    return type(heard.__name__, (heard, base), {})


def _is_events(response: Any) -> bool:
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _decoder(response: Any) -> Callable[[bytes], bytes]:
    """What undoes the body's compression: the library's own decoders, on a response of its own that
    shares nothing with the caller's but the headers that say which."""
    if not response.headers.get("content-encoding"):
        return bytes
    coding = {"content-encoding": response.headers["content-encoding"]}
    own: Any = type(response)(200, headers=coding)
    decode = own._get_content_decoder().decode  # noqa: SLF001

    def decoded(data: bytes) -> bytes:
        found = decode(data)
        return found if isinstance(found, bytes) else b"".join(found)  # httpx2 gives pieces

    return decoded
