"""How many tracked calls a second one process brings into DynamoDB Local, and what a write takes.

    python -m bench.tracker_store [--calls 10000] [--writers 2]

Through the queue, the spool and the sink of production, from the first `record` until all are
stored: a burst of all at once, then as many at a steady 1,000 a second. `request` is the time of
one write, as the sink's thread sees it; `amortised` is the burst's time by the call, and `process`
the processor's of this process, with all of its threads. Beside it, the
limit that DynamoDB Local itself sets: the same items, written by bare boto3 in BatchWriteItem
requests of 25 from as many threads, without rollups, conditions, spool or tracker, and in
transactions of 100 with the sink's condition (DynamoDB Local does one at a time). `instant` is the
process' own limit: the burst again, whose requests are made, signed and then answered at once.

DynamoDB Local is a private one that keeps its tables in memory (`-inMemory`), on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from botocore.awsrequest import AWSResponse

from nilometer import ClientConfig, ClientManager, usage_context
from nilometer.dynamodb import client, schema, table
from nilometer.dynamodb.sink import DynamoSink
from tests.private_servers import private
from tests.servers.dynamodb import DynamoDBInMemory
from tests.services import DynamoDBService

CALLS = 10_000
RATE = 1_000
WRITERS = 1
"""Of the sink, which has two by default: DynamoDB Local does one request after the other."""
THREADS = 2
MAX_BATCH = 25
"""Items of a BatchWriteItem, a limit of DynamoDB's."""
LEAST_PER_SECOND, MOST_MS = 1_000, 10.0
CALL: dict[str, Any] = {
    "service": "openai",
    "model": "gpt-4o-mini-2024-07-18",
    "operation": "completion",
    "usage": {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500},
    "convention": "openai_chat",
    "latency": 0.8,
    "response_id": "chatcmpl-0123456789abcdef",
    "http_status": 200,
}


class Timed:
    """A client whose writes are timed."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self._lock = threading.Lock()
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)

    def transact_write_items(self, **request: Any) -> Any:
        begun = time.perf_counter()
        done = self._dynamodb.transact_write_items(**request)
        with self._lock:
            self.seconds.append(time.perf_counter() - begun)
        return done


def measure(calls: int = CALLS, writers: int = WRITERS) -> dict[str, Any]:
    """The burst, the steady load, and the bare limit."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "nilometer", "AWS_SECRET_ACCESS_KEY": "nilometer"}
    with private(DynamoDBInMemory) as server:
        local = DynamoDBService(server.address)
        for _ in range(2):  # the Java machine warms up
            _through(local, calls, writers, pause=0)
        burst = _through(local, calls, writers, pause=0)
        steady = _through(local, min(calls, 5 * RATE), writers, pause=1 / RATE)
        instant = _through(local, calls, writers, pause=0, instant=True)
        bare, transactions = _bare(local, calls, 25), _bare(local, calls, 100)
    return {
        "burst": burst,
        "steady": steady,
        "instant": instant,
        "bare": bare,
        "bare_transactions": transactions,
    }


def _through(
    local: DynamoDBService, calls: int, writers: int, pause: float, *, instant: bool = False
) -> dict[str, Any]:
    admin, name = local.client(), f"bench-{uuid4().hex}"
    table.create(admin, name, sleep=lambda _: None)
    production = _production(local)
    if instant:
        production.meta.events.register("before-send.dynamodb", _answered)
    timed = Timed(production)
    with tempfile.TemporaryDirectory() as folder:
        sink = DynamoSink(name, dynamodb=timed, writers=writers)
        manager = ClientManager(ClientConfig(sink=sink, spool_dir=folder))
        manager.tracker.record(**CALL)  # the prices are loaded
        assert manager.flush(60)
        timed.seconds.clear()
        begun, worked = time.perf_counter(), time.process_time()
        for number in range(calls):
            with usage_context(job_id=f"job-{number % 20}", user_id=f"user-{number % 50}"):
                manager.tracker.record(**CALL)
            if pause and (ahead := begun + number * pause - time.perf_counter()) > 0:
                time.sleep(ahead)
        assert manager.flush(300)
        taken, work = time.perf_counter() - begun, time.process_time() - worked
        stats = manager.stats()
        assert (stats.stored, stats.dropped) == (calls + 1, {}), stats
        manager.close()
    admin.delete_table(TableName=name)
    seconds = sorted(timed.seconds)
    return {
        "calls": calls,
        "per_second": calls / taken,
        "amortised_ms": taken / calls * 1e3,
        "process_ms": work / calls * 1e3,
        "requests": len(seconds),
        "request_mean_ms": statistics.fmean(seconds) * 1e3,
        "request_p99_ms": seconds[int(len(seconds) * 0.99)] * 1e3,
    }


class _Body:
    def stream(self) -> list[bytes]:
        return [b'{"Items": []}']


def _answered(request: Any, **_: Any) -> AWSResponse:
    """In place of the network: done, and nothing found."""
    return AWSResponse(request.url, 200, {"content-type": "application/x-amz-json-1.0"}, _Body())


def _bare(local: DynamoDBService, calls: int, of_each: int) -> dict[str, float]:
    admin, name = local.client(), f"bench-{uuid4().hex}"
    table.create(admin, name, sleep=lambda _: None)
    writer = _production(local)
    items = _items(calls)
    requests = [items[start : start + of_each] for start in range(0, len(items), of_each)]

    def write(items: list[Any]) -> None:
        if of_each > MAX_BATCH:
            put = {"TableName": name, "ConditionExpression": "attribute_not_exists(PK)"}
            writer.transact_write_items(TransactItems=[{"Put": put | {"Item": i}} for i in items])
            return
        puts = [{"PutRequest": {"Item": item}} for item in items]
        assert not writer.batch_write_item(RequestItems={name: puts})["UnprocessedItems"]

    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, requests))
    taken = time.perf_counter() - begun
    admin.delete_table(TableName=name)
    return {"per_second": calls / taken, "request_mean_ms": taken * THREADS / len(requests) * 1e3}


def _items(calls: int) -> list[Any]:
    """The items of such calls."""
    with tempfile.TemporaryDirectory() as folder:
        manager = ClientManager(ClientConfig(sink="memory://", spool_dir=folder))
        for number in range(calls):
            with usage_context(job_id=f"job-{number % 20}", user_id=f"user-{number % 50}"):
                manager.tracker.record(**CALL)
        assert manager.flush(60)
        items = [schema.item(each, expires_at=2_000_000_000) for each in manager.sinks[0].metrics]  # pyright: ignore
        manager.close()
    return items


def _production(local: DynamoDBService) -> Any:
    """The client that the sink makes for itself, with the keys of DynamoDB Local."""
    return client.connect(region=local.region, endpoint_url=local.endpoint)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tracker_store")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--writers", type=int, default=WRITERS)
    given = parser.parse_args()
    found = measure(given.calls, given.writers)
    for name, row in found.items():
        print(f"{name:7} {json.dumps({key: round(value, 2) for key, value in row.items()})}")


if __name__ == "__main__":
    main()
