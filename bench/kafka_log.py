"""Durable acknowledgements a second on Kafka, beside a bare librdkafka loop with the same bytes.

    python -m bench.kafka_log [--bootstrap localhost:9093] [--records 40000] [--senders 256]

Both send to a topic of 16 partitions on the same broker from one process, with the same options
(`acks=all`, idempotent, the log's compression and linger), rounds alternating; the fastest of each
counts, because whatever else the machine does can only slow one down. The bare loop calls `produce`
as fast as it can with a callback that counts, and polls; it waits for nobody. The log is appended
to by `senders` tasks of one event loop, each of which awaits its acknowledgement before
the next: what a capture process does, without HTTP.

Prints JSON: records a second of both and their ratio; p50 and p99 of an append in milliseconds, at
that load and with one sender.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from uuid import uuid4

import uvloop
from confluent_kafka import KafkaError, Message, Producer

from nilometer.log.envelope import Envelope
from nilometer.log.kafka import KafkaConnection, KafkaLog, Sending, TopicPlan

ROUNDS = 3
PAYLOAD_BYTES = 1600
PARTITIONS = 16


def envelopes(count: int) -> list[Envelope]:
    """Records like those of a capture: JSON with words and numbers, about 1.6 kB."""
    chosen = random.Random(7)
    words = [f"{chosen.getrandbits(40):x}" for _ in range(4000)]
    made: list[Envelope] = []
    for number in range(count):
        text = " ".join(chosen.choice(words) for _ in range(PAYLOAD_BYTES // 10))
        body = json.dumps({"event": "$ai_generation", "number": number, "text": text})
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


def bare(bootstrap: str, topic: str, records: list[Envelope]) -> float:
    """Records a second of the bare loop."""
    delivered = 0

    def count(error: KafkaError | None, _: Message) -> None:
        nonlocal delivered
        assert error is None, error
        delivered += 1

    producer = Producer(KafkaConnection(bootstrap).options() | Sending().options(32 * 1024 * 1024))
    producer.list_topics(topic, timeout=10)
    began = time.perf_counter()
    for each in records:
        headers: list[tuple[str, str | bytes | None]] = [("nilometer", each.headers())]
        producer.produce(topic, each.payload, headers=headers, on_delivery=count)
        producer.poll(0)
    producer.flush()
    seconds = time.perf_counter() - began
    assert delivered == len(records)
    return len(records) / seconds


async def ours(log: KafkaLog, records: list[Envelope], senders: int) -> tuple[float, list[float]]:
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


def milliseconds(took: list[float], share: float) -> float:
    return round(took[int(len(took) * share)] * 1000, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--bootstrap", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9093")
    )
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--senders", type=int, default=256)
    options = parser.parse_args()
    records = envelopes(options.records)
    topic = f"bench-{uuid4().hex}"
    plan = TopicPlan(topic, partitions=PARTITIONS, allow_single_replica=True, retention_hours=1)
    log = KafkaLog(KafkaConnection(options.bootstrap), plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ours(log, records[:2000], options.senders))  # connections, leaders
        bare_rates: list[float] = []
        rounds: list[tuple[float, list[float]]] = []
        for _ in range(ROUNDS):
            bare_rates.append(bare(options.bootstrap, topic, records))
            rounds.append(runner.run(ours(log, records, options.senders)))
        _, alone = runner.run(ours(log, records[:1000], 1))
    log.close()
    rate, took = max(rounds)
    print(
        json.dumps(
            {
                "record_bytes": len(records[0].payload) + len(records[0].headers()),
                "bare_per_second": round(max(bare_rates)),
                "log_per_second": round(rate),
                "ratio": round(rate / max(bare_rates), 2),
                "senders": options.senders,
                "p50_ms": milliseconds(took, 0.5),
                "p99_ms": milliseconds(took, 0.99),
                "alone_p50_ms": milliseconds(alone, 0.5),
                "alone_p99_ms": milliseconds(alone, 0.99),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
