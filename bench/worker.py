"""How fast workers store what waits in Kafka: by batch size, and a backlog of ten minutes.

    python -m bench worker           # starts Kafka, PostgreSQL and ClickHouse of its own

Records are written straight into the topic, as capture writes them: one event of 2 kB each, and
100 each as `/batch` makes them. Then workers start, and what they have stored is read from their
metrics until it is everything. ClickHouse is its engine behind the tests' HTTP server.

`per_second` is from the first stored batch to the last; `cleared_s` of the backlog is everything,
from the launch of the processes to the commit of the last record.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import httpx
import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.batch import event
from bench.distributed import PARTITIONS, Stage, peak_mb, processor_seconds, stage
from nilometer.domain.ai_record import AiRecord
from nilometer.domain.posthog_record import PostHogEvent, PostHogRecord
from nilometer.log.envelope import Envelope
from tests.private_servers import ClickHouseServer, private
from tests.running import Server
from tests.servers.clickhouse import PASSWORD, USER

BATCHES = (500, 2000, 5000, 10_000)
_STORED = re.compile(r'nilometer_pipeline_events_total\{outcome="stored"\} (\S+)')
_LAG = re.compile(r'nilometer_log_lag_records\{group="store"\} (\S+)')
_TEMPLATES = 2000
_PROMPT_WORDS = 190
_VOCABULARY = 400


def measure(events: int, backlog: int, longest: float = 240) -> dict[str, Any]:
    """So many events for each batch size, and a backlog of so many; none takes longer than so many
    seconds, whatever is then left."""
    with stage() as found:
        return {
            "by_batch": [
                {"batch": size, **_clear(found, events, 1, 1, longest, size)} for size in BATCHES
            ],
            "backlog": [
                _clear(found, backlog, workers, each, longest)
                for each in (1, 100)
                for workers in (1, 2)
            ],
        }


def _clear(
    found: Stage, events: int, workers: int, each: int, longest: float, batch: int | None = None
) -> dict[str, Any]:
    """Write `events` with `each` in a record, start workers, and wait until all are stored."""
    settings = found.topic()
    if batch is not None:
        settings |= {"PIPELINE_BATCH_RECORDS": batch, "PIPELINE_BATCH_EVENTS": batch}
        settings |= {"PIPELINE_BATCH_BYTES": 1 << 26}
    fill(found.kafka.address, settings["KAFKA_TOPIC"], events, each)
    with ExitStack() as stack:
        clickhouse = stack.enter_context(private(ClickHouseServer))
        settings |= {"CLICKHOUSE_URL": clickhouse.url()}
        store = clickhouse.process.pid
        assert store is not None
        began, used = time.perf_counter(), processor_seconds(store)
        started = [found.server("worker", **settings) for _ in range(workers)]
        for server in started:
            server.start()
            stack.callback(server.kill)
        pids = [server.process.pid for server in started]
        starting = sum(map(processor_seconds, pids))  # imports, connections: not of any event
        seen = list(_watch(started, events, began + longest))
        took = time.perf_counter() - began
        own = sum(map(processor_seconds, pids)) - starting
        memory = max(map(peak_mb, pids))
        used = processor_seconds(store) - used
        kept = store_bytes(clickhouse.port)
    first, last = next(each for each in seen if each[1]), seen[-1]
    stored = last[1]
    steady = (stored - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0
    return {
        "workers": workers,
        "events": events,
        "events_per_record": each,
        "stored": stored,
        "per_second": round(steady),
        "cleared_s": round(took, 1),
        "worker_processor_us_per_event": round(own / stored * 1e6),
        "store_processor_us_per_event": round(used / stored * 1e6),
        "log_bytes_per_event": round(log_bytes(found, settings["KAFKA_TOPIC"]) / events),
        "store_bytes_per_event": round(kept / stored),
        "peak_mb": memory,
    }


def _watch(workers: Sequence[Server], events: int, deadline: float) -> Iterator[tuple[float, int]]:
    """The time and how many events are stored, again and again, until all are and are committed."""
    with httpx.Client(timeout=60) as client:
        while time.perf_counter() < deadline:
            pages = [client.get(f"{each.url}/metrics").text for each in workers]
            stored = sum(int(float(_sample(_STORED, page))) for page in pages)
            yield time.perf_counter(), stored
            lag = min(float(_sample(_LAG, page, "1")) for page in pages)
            if stored >= events and not lag:
                return
            time.sleep(0.1)


def _sample(pattern: re.Pattern[str], page: str, absent: str = "0") -> str:
    found = pattern.search(page)
    return found[1] if found else absent


def log_bytes(found: Stage, topic: str) -> int:
    """What a topic's messages take on the broker's disk, one copy of them."""
    segments = (found.kafka.folder / "data").glob(f"{topic}-*/*.log")
    return sum(segment.stat().st_size for segment in segments)


def store_bytes(port: int) -> int:
    """What the rows take in the store, one copy of them."""
    asked = httpx.post(
        f"http://127.0.0.1:{port}/",
        content="SELECT sum(bytes_on_disk) FROM system.parts "
        "WHERE active AND database = 'nilometer' FORMAT TSV",
        headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD},
        timeout=60,
    )
    return int(asked.raise_for_status().text)


def fill(bootstrap: str, topic: str, events: int, each: int) -> None:
    """Write events into a new topic, `each` in a record."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    limits = {"max.message.bytes": str(32 << 20), "message.timestamp.type": "LogAppendTime"}
    made = NewTopic(topic, PARTITIONS, 1, config=limits | {"min.insync.replicas": "1"})
    admin.create_topics([made])[topic].result(20)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.max.bytes": 32 << 20,
            "queue.buffering.max.kbytes": 1 << 18,
        }
    )
    for envelope in _envelopes(events, each):
        while True:
            try:
                headers: list[tuple[str, Any]] = [("nilometer", envelope.headers())]
                producer.produce(topic, envelope.payload, headers=headers)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(120) == 0


def _envelopes(events: int, each: int) -> Iterator[Envelope]:
    """Records as the doors write them; every event is another, with a call of its own."""
    chosen = random.Random(11)
    texts = [_text(chosen) for _ in range(_TEMPLATES)]
    run = chosen.getrandbits(48)
    for first in range(0, events, each):
        uuids = [
            str(UUID(int=run << 80 | 4 << 76 | 2 << 62 | n)) for n in range(first, first + each)
        ]
        make = _ai if each == 1 else _posthog
        door, payload = make(uuids, [chosen.choice(texts) for _ in uuids])
        yield Envelope(
            project_id=1,
            uuid=uuids[0],
            door=door,
            door_version=1,
            accepted_at=time.time_ns() // 1000,
            config_version=1,
            payload=payload,
        )


def _text(chosen: random.Random) -> bytes:
    """Properties of a generation whose prompt is words, which compress as words do: to a third."""
    words = [f"{chosen.getrandbits(24):x}" for _ in range(_VOCABULARY)]
    prompt = " ".join(chosen.choices(words, k=_PROMPT_WORDS))
    message = [{"role": "user", "content": prompt}]
    return orjson.dumps(event()["properties"] | {"$ai_input": message, "$ai_span_id": "@@"})


def _ai(uuids: Sequence[str], texts: Sequence[bytes]) -> tuple[str, bytes]:
    head = f'{{"uuid":"{uuids[0]}","event":"$ai_generation","distinct_id":"u1"}}'
    text = texts[0].replace(b"@@", uuids[0].encode())
    return "ai", AiRecord(head.encode(), text, (), "127.0.0.1", 30).encode()


def _posthog(uuids: Sequence[str], texts: Sequence[bytes]) -> tuple[str, bytes]:
    events = tuple(
        PostHogEvent(
            each,
            b'{"uuid":"%s","event":"$ai_generation","distinct_id":"u1","properties":%s}'
            % (each.encode(), text.replace(b"@@", each.encode())),
        )
        for each, text in zip(uuids, texts, strict=True)
    )
    record = PostHogRecord(
        events=events, protocol="v0", sent_at=None, ip="127.0.0.1", retention_days=30
    )
    return "posthog", record.encode()
