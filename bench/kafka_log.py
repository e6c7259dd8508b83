"""Durable acknowledgements a second on Kafka, beside a bare librdkafka loop with the same bytes.

    python -m bench kafka            # starts a broker and a PostgreSQL of its own

Two measurements, both against a topic of 16 partitions on one broker, which keeps a single copy.

- `log`: the log alone, without HTTP. 256 tasks of one event loop, each of which awaits its
  acknowledgement before the next.
- `http`: one and two capture processes, from the socket to the answer: authenticated, parsed,
  checked. Requests with one event of 2 kB, and with 100. Each process has a load generator of its
  own, which is a process too.

The bare loop sends the very records that were measured, with the same options (`acks=all`,
idempotent, the log's compression and linger) from one process: it calls `produce` as fast as it
can with a callback that counts, and polls; it waits for nobody. The fastest of its rounds counts,
because whatever else the machine does can only slow one down.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from typing import Any
from uuid import uuid4

import uvloop
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from bench.batch import EVENTS, batch
from bench.distributed import PARTITIONS, Stage, peak_mb, processor_seconds, stage
from bench.load import MakeRequest, ai_request, closed_loop
from nilometer.log.envelope import Envelope
from nilometer.log.kafka import KafkaConnection, KafkaLog, Sending, TopicPlan
from tests.running import KEY, Server

ROUNDS = 3
SENDERS = 256
_PAYLOAD_BYTES = 1600
_BODIES = 200
"""Batches that a generator makes before it begins: each is new to the server once, and making one
costs more than answering it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as the topic has it."""

    headers: bytes
    payload: bytes


def measure(seconds: float, records: int = 40_000) -> dict[str, Any]:
    """The log alone with so many records, and each load over HTTP for so many seconds."""
    with stage() as found:
        log = _measure_log(found.kafka.address, records)
        http = [
            _measure_http(found, shape, processes, seconds)
            for shape in _SHAPES
            for processes in (1, 2)
        ]
    return {"log": log, "http": http}


def _measure_log(bootstrap: str, number: int) -> dict[str, Any]:
    envelopes = _envelopes(number)
    raw = [Raw(each.headers(), each.payload) for each in envelopes]
    topic = f"bench-{uuid4().hex}"
    plan = TopicPlan(topic, partitions=PARTITIONS, allow_single_replica=True, retention_hours=1)
    log = KafkaLog(KafkaConnection(bootstrap), plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_append(log, envelopes[:2000], SENDERS))  # connections, leaders
        bare_rates: list[float] = []
        rounds: list[tuple[float, list[float]]] = []
        for _ in range(ROUNDS):
            bare_rates.append(_bare(bootstrap, topic, raw))
            rounds.append(runner.run(_append(log, envelopes, SENDERS)))
        _, alone = runner.run(_append(log, envelopes[:1000], 1))
    log.close()
    rate, took = max(rounds)
    return {
        "record_bytes": _mean_bytes(raw),
        "bare_per_second": round(max(bare_rates)),
        "per_second": round(rate),
        "of_bare": round(rate / max(bare_rates), 2),
        "senders": SENDERS,
        "p50_ms": _milliseconds(took, 0.5),
        "p99_ms": _milliseconds(took, 0.99),
        "alone_p50_ms": _milliseconds(alone, 0.5),
        "alone_p99_ms": _milliseconds(alone, 0.99),
    }


def _envelopes(number: int) -> list[Envelope]:
    """Records like those of a capture: JSON with words and numbers, about 1.6 kB."""
    chosen = random.Random(7)
    words = [f"{chosen.getrandbits(40):x}" for _ in range(4000)]
    made: list[Envelope] = []
    for each in range(number):
        text = " ".join(chosen.choice(words) for _ in range(_PAYLOAD_BYTES // 10))
        body = json.dumps({"event": "$ai_generation", "number": each, "text": text})
        made.append(
            Envelope(
                project_id=1,
                uuid=str(uuid4()),
                door="posthog",
                door_version=1,
                accepted_at=time.time_ns() // 1000,
                config_version=1,
                payload=body.encode(),
            )
        )
    return made


async def _append(
    log: KafkaLog, records: Sequence[Envelope], senders: int
) -> tuple[float, list[float]]:
    """Records a second through the log, and the seconds of each append."""
    waiting = iter(records)
    took: list[float] = []

    async def sender() -> None:
        for each in waiting:
            began = time.perf_counter()
            await log.append(each)
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(senders)))
    return len(records) / (time.perf_counter() - began), sorted(took)


def _bare(bootstrap: str, topic: str, records: Sequence[Raw]) -> float:
    """Records a second of the bare loop."""
    delivered = 0

    def delivery(error: KafkaError | None, _: Message) -> None:
        nonlocal delivered
        assert error is None, error
        delivered += 1

    producer = Producer(KafkaConnection(bootstrap).options() | Sending().options(32 * 1024 * 1024))
    producer.list_topics(topic, timeout=10)
    began = time.perf_counter()
    for each in records:
        headers: list[tuple[str, str | bytes | None]] = [("nilometer", each.headers)]
        while True:
            try:
                producer.produce(topic, each.payload, headers=headers, on_delivery=delivery)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    producer.flush()
    seconds = time.perf_counter() - began
    assert delivered == len(records)
    return len(records) / seconds


_SHAPES = {"one event": 1, f"{EVENTS} events": EVENTS}
_CONNECTIONS = {"one event": 32, f"{EVENTS} events": 8}


def _measure_http(found: Stage, shape: str, processes: int, seconds: float) -> dict[str, Any]:
    """So many capture processes under load, then their records by the bare loop."""
    settings = found.topic()
    with ExitStack() as stack:
        captures = [found.server("capture", **settings).start() for _ in range(processes)]
        for each in captures:
            stack.callback(each.kill)
            each.wait_ready("capture")
        pool = stack.enter_context(ProcessPoolExecutor(processes, get_context("spawn")))
        drive(pool, captures, shape, 1)  # keys, connections, leaders
        used = [processor_seconds(each.process.pid) for each in captures]
        results = drive(pool, captures, shape, seconds)
        used = [
            processor_seconds(each.process.pid) - b for each, b in zip(captures, used, strict=True)
        ]
        memory = max(peak_mb(each.process.pid) for each in captures)
        for each in captures:
            assert each.stop() == 0
    events = _SHAPES[shape]
    requests = sum(result["per_second"] for result in results)
    raw = _read(found.kafka.address, settings["KAFKA_TOPIC"], 20_000 // events)
    bare = max(_bare(found.kafka.address, settings["KAFKA_TOPIC"], raw) for _ in range(ROUNDS))
    return {
        "shape": shape,
        "processes": processes,
        "events_per_second": round(requests * events),
        "bare_events_per_second": round(bare * events),
        "of_bare": round(requests / bare, 3),
        "p50_ms": max(result["p50_ms"] for result in results),
        "p99_ms": max(result["p99_ms"] for result in results),
        "refused": sum(result["refused"] for result in results),
        "processor_us_per_event": round(sum(used) / (requests * seconds * events) * 1e6, 1),
        "record_bytes": _mean_bytes(raw),
        "peak_mb": memory,
    }


def drive(
    pool: ProcessPoolExecutor, captures: Sequence[Server], shape: str, seconds: float
) -> list[dict[str, Any]]:
    """What one generator a capture process saw."""
    ports = [each.port for each in captures]
    return list(pool.map(_drive, ports, [shape] * len(ports), [seconds] * len(ports)))


def _drive(port: int, shape: str, seconds: float) -> dict[str, Any]:
    make = ai_request(KEY) if _SHAPES[shape] == 1 else _batches()
    result = closed_loop(port, make, connections=_CONNECTIONS[shape], seconds=seconds)
    return result.summary() | {"refused": result.requests - result.statuses[200]}


def _batches() -> MakeRequest:
    """Requests of 100 events to `/batch`, a few made beforehand."""
    requests = [_request(batch()) for _ in range(_BODIES)]
    numbers = count()
    return lambda: requests[next(numbers) % len(requests)]


def _request(body: bytes) -> bytes:
    head = (
        "POST /batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _read(bootstrap: str, topic: str, most: int) -> list[Raw]:
    """Records of a topic, so many at most."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": uuid4().hex, "enable.partition.eof": False}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    records: list[Raw] = []
    while len(records) < most and (messages := consumer.consume(1000, 3)):
        for message in messages:
            headers: dict[str, Any] = dict(message.headers() or {})
            records.append(Raw(headers["nilometer"], message.value() or b""))
    consumer.close()
    return records[:most]


def _mean_bytes(records: Sequence[Raw]) -> int:
    return round(sum(len(each.headers) + len(each.payload) for each in records) / len(records))


def _milliseconds(took: Sequence[float], share: float) -> float:
    return round(took[int(len(took) * share)] * 1000, 2)
