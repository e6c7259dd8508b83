"""Sends records and tells each sender when its own is durable.

One client of librdkafka, which batches by itself, and one thread that takes its reports. A report
resolves the sender's future; all futures of a loop are resolved with one wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from nilometer.errors import NilometerError
from nilometer.log.kafka.connection import (
    KafkaConnection,
    client_logger,
    error_of,
    is_fatal,
    sentence,
)
from nilometer.log.kafka.consumer import HEADER
from nilometer.log.port import LogUnavailable, Position, RecordTooLarge
from nilometer.observability import metrics

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_CONNECT_EVERY = 1.0
_CLOSE_UNHEARD = 0.5
_FLUSHES = 3
_MIB = 1024 * 1024
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})


@dataclass(frozen=True, slots=True)
class Sending:
    """How records are sent.

    - `delivery_timeout`: seconds after which a record that no broker acknowledged is refused. It
      may then be read all the same.
    - `linger`: seconds that a batch waits for more records.
    - `compression`: a codec of Kafka (`lz4`, `zstd`, `snappy`, `gzip`) or `none`.
    - `max_queued_bytes`: records waiting for their acknowledgement, above which more are refused.
    """

    delivery_timeout: float = 10
    linger: float = 0.001
    compression: str = "lz4"
    max_queued_bytes: int = 64 * _MIB

    def options(self, largest_message: int) -> dict[str, Any]:
        """The options of the client."""
        return {
            "acks": "all",
            "enable.idempotence": True,
            "delivery.timeout.ms": round(self.delivery_timeout * 1000),
            "linger.ms": self.linger * 1000,
            "compression.type": self.compression,
            # Every process must agree on a key's partition. Records without one fill one
            # partition's batch after the other.
            "partitioner": "murmur2_random",
            "message.max.bytes": largest_message,
            "batch.size": min(_MIB, largest_message),
            # Ours is the limit that is met first.
            "queue.buffering.max.kbytes": max(4 * self.max_queued_bytes // 1024, 65536),
            "queue.buffering.max.messages": 10_000_000,
            # As the time in which a broker must answer at all: a stuck one is given up sooner.
            "socket.timeout.ms": max(1000, round(self.delivery_timeout * 1000)),
        }


class Waiting:
    """A record on its way and the sender that waits for it; `loop` is None for a plain thread."""

    __slots__ = ("future", "loop", "size", "submitted")

    def __init__(
        self,
        size: int,
        future: asyncio.Future[Position] | ThreadFuture[Position],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.size = size
        self.future = future
        self.loop = loop
        self.submitted = time.perf_counter()


_Outcome = Position | NilometerError
_Settled = tuple[Waiting, _Outcome]


class Sender:
    """The client and the thread of its reports. Safe between threads and loops.

    `largest_record` is the limit of headers and payload together, in bytes. `on_trouble` is called,
    from the thread, when no broker can be reached; `answers` says whether the cluster does.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        sending: Sending,
        *,
        topic: str,
        largest_message: int,
        largest_record: int,
        on_trouble: Callable[[], None],
        answers: Callable[[], bool] = lambda: True,
    ) -> None:
        self._options = {
            **connection.options(),
            **sending.options(largest_message),
            "error_cb": self._note,
        }
        self._topic = topic
        self._largest_record = largest_record
        self._max_queued_bytes = sending.max_queued_bytes
        self._close_seconds = sending.delivery_timeout + 5
        self._on_trouble = on_trouble
        self._answers = answers
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._settled: list[_Settled] = []  # of the thread alone
        self._fatal: KafkaError | None = None
        self._closed = False
        self._client = self._connect()
        self._thread = threading.Thread(target=self._run, name="kafka-reports", daemon=True)
        self._thread.start()

    def submit(
        self,
        headers: bytes,
        payload: bytes,
        waiting: Waiting,
        marks: Sequence[tuple[str, bytes]] = (),
        *,
        key: bytes | None = None,
    ) -> None:
        """Send a record; its future is resolved when it is durable or refused.

        `marks` are further headers of the message, which readers of records ignore. Never blocks.
        Raises LogUnavailable when too much is on its way or after `close`, and RecordTooLarge.
        """
        if waiting.size > self._largest_record:
            raise self._too_large(waiting.size)
        with self._lock:
            if self._closed:
                raise LogUnavailable("the log is closed")
            queued = self._queued_bytes + waiting.size
            if self._queued_bytes and queued > self._max_queued_bytes:
                raise LogUnavailable(
                    "too many records are waiting for Kafka; try again shortly", retry_after=1
                )
            self._produce(headers, payload, waiting, marks, key)
            self._queued_bytes = queued

    def close(self) -> None:
        """Wait until everything that was submitted is durable or refused, then stop. What a cluster
        has that is known to be away is refused soon."""
        with self._lock:
            self._closed = True
        self._thread.join()

    def _produce(
        self,
        headers: bytes,
        payload: bytes,
        waiting: Waiting,
        marks: Sequence[tuple[str, bytes]],
        key: bytes | None,
    ) -> None:
        try:
            self._client.produce(
                self._topic,
                payload,
                key=key,
                headers=[(HEADER, headers), *marks],
                on_delivery=partial(self._report, waiting),
            )
        except BufferError:
            raise LogUnavailable(
                "too many records are waiting for Kafka; try again shortly", retry_after=1
            ) from None
        except KafkaException as exception:
            error = error_of(exception)
            if is_fatal(error):
                self._fatal = error
            raise self._refusal(error, waiting.size) from exception

    def _connect(self) -> Producer:
        return Producer(self._options, logger=client_logger)

    def _run(self) -> None:
        closing: float | None = None
        while True:
            self._serve(_POLL_SECONDS)
            if self._fatal is not None:
                self._replace()
            if self._closed:
                closing = closing or time.monotonic()
                patience = self._close_seconds if self._answers() else _CLOSE_UNHEARD
                if len(self._client) == 0 or time.monotonic() - closing > patience:
                    break
        self._abandon()

    def _serve(self, seconds: float) -> None:
        """Take reports. The library raises an error that is fatal from amid them, and tells it to
        no callback."""
        try:
            self._client.poll(seconds)
        except KafkaException as exception:
            self._note(error_of(exception))
        self._settle()

    def _note(self, error: KafkaError) -> None:
        """An error of the client as a whole, reported within `poll`."""
        if is_fatal(error):
            self._fatal = error
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._on_trouble()

    def _replace(self) -> None:
        """After a fatal error this client sends nothing any more: refuse what it has, and begin
        with a new one."""
        logger.error("the client of Kafka has failed and is replaced: %s", self._fatal)
        self._abandon()
        try:
            client = self._connect()
        except KafkaException as exception:
            logger.warning("there is no new client yet: %s", sentence(error_of(exception)))
            time.sleep(_CONNECT_EVERY)
            return
        with self._lock:
            self._client, broken = client, self._client
            self._fatal = None
        self._abandon(broken)  # and what came meanwhile

    def _abandon(self, client: Producer | None = None) -> None:
        """Refuse all that a client has."""
        client = client or self._client
        client.purge()
        for _ in range(_FLUSHES):
            with contextlib.suppress(KafkaException):
                if client.flush(1) == 0:
                    break
        self._settle()

    def _report(self, waiting: Waiting, error: KafkaError | None, message: Message) -> None:
        if error is None:
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            self._settled.append((waiting, Position(partition, offset)))
        else:
            self._settled.append((waiting, self._refusal(error, waiting.size)))

    def _settle(self) -> None:
        settled, self._settled = self._settled, []
        if not settled:
            return
        with self._lock:
            self._queued_bytes -= sum(waiting.size for waiting, _ in settled)
        _resolve_all(settled)
        _observe(settled, time.perf_counter())

    def _refusal(self, error: KafkaError, size: int) -> NilometerError:
        if error.code() in _TOO_LARGE:
            return self._too_large(size)
        return LogUnavailable(f"Kafka did not acknowledge the record: {sentence(error)}")

    def _too_large(self, size: int) -> RecordTooLarge:
        return RecordTooLarge(
            f"the request is {size:,} bytes as a record of the log, which takes "
            f"{self._largest_record:,}; send fewer or smaller events at once"
        )


def _resolve_all(settled: Sequence[_Settled]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Settled]] = {}
    for waiting, outcome in settled:
        if waiting.loop is not None:
            by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
        else:
            _resolve(waiting.future, outcome)
    for loop, each in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
            loop.call_soon_threadsafe(_resolve_here, each)


def _resolve_here(settled: Sequence[_Settled]) -> None:
    for waiting, outcome in settled:
        if not waiting.future.done():  # the sender may have been cancelled
            _resolve(waiting.future, outcome)


def _resolve(future: asyncio.Future[Position] | ThreadFuture[Position], outcome: _Outcome) -> None:
    if isinstance(outcome, Position):
        future.set_result(outcome)
    else:
        future.set_exception(copy.copy(outcome))


def _observe(settled: Sequence[_Settled], now: float) -> None:
    metrics.COMMIT_RECORDS.observe(len(settled))
    observe = metrics.APPEND_SECONDS.observe
    for waiting, outcome in settled:
        if isinstance(outcome, Position):
            observe(now - waiting.submitted)
