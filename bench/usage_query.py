"""A month of usage by every level, from DynamoDB Local's rollups and from the server's calls.

`python -m bench.usage_query --metrics 1000000`: both are filled with so many metrics of 30 days (3
services, 10 models, 2 operations and environments, 200 users, 100 jobs, 50 batches; one in 50
failed), then each level is asked for ten times, and all at once, of days that are kept, by who has
no answer yet; on the server also after each of ten new calls. How long it takes to make all days is
told beside it. DynamoDB Local is the shared one of `make services`; its items go in by
BatchWriteItem and its rollups by the document, as one transaction a batch would take an hour. What
they hold is what the sink makes of these metrics.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from nilometer.clickhouse.store import Store
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import rollups, table
from nilometer.dynamodb.reader import Reader
from nilometer.dynamodb.rollups import Cells, Place
from nilometer.dynamodb.writer import Entry, entry
from nilometer.query.usage import Usage
from nilometer.query.usage_days import UsageDays
from nilometer.usage.answers import answer
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.groups import Groups
from nilometer.usage.query import UsageQuery
from tests.servers import shared
from tests.services import DynamoDBService

START = datetime(2025, 6, 1, tzinfo=UTC)
DAYS = 30
LEVELS = DIMENSIONS[:10]
ROUNDS = 10
AIM_MS = {"dynamodb": 500, "server": 100}
_SERVICES = ("openai", "anthropic", "google")

_FILL = """
INSERT INTO calls (project_id, call_id, identity, event_uuid, source_rank, revision, accepted_at,
    timestamp, distinct_id, model, provider, operation, operation_name, is_error, latency,
    mapping_version, vector_input, vector_output, vector_total, cost_total, user_id, job_id,
    batch_id, environment)
SELECT 1, concat('chatcmpl-', hex(sipHash64(number + {offset}))), 'response', generateUUIDv4(), 10,
    1, at, at, user, concat('model-', toString(cityHash64(number, 1) % 10)),
    ['openai', 'anthropic', 'google'][1 + cityHash64(number, 1) % 3], 'generation',
    ['completion', 'embedding'][1 + cityHash64(number, 2) % 2], cityHash64(number, 3) % 50 = 0,
    (cityHash64(number, 4) % 5000000) / 1e6, 5, cityHash64(number, 5) % 4000 AS entered,
    cityHash64(number, 6) % 800 AS left, entered + left,
    toDecimal128(cityHash64(number, 7) % 1000000, 18) / 1000000000,
    concat('user-', toString(cityHash64(number, 8) % 200)) AS user,
    concat('job-', toString(cityHash64(number, 9) % 100)),
    concat('batch-', toString(cityHash64(number, 10) % 50)),
    ['production', 'staging'][1 + cityHash64(number, 11) % 2]
FROM (SELECT number, fromUnixTimestamp64Micro({start} + intDiv(number * {span}, {metrics}), 'UTC')
    AS at FROM numbers({first}, {rows}))
"""


def query(levels: tuple[str, ...]) -> UsageQuery:
    """The whole month by these levels."""
    return UsageQuery(START.date(), START.date() + timedelta(days=DAYS - 1), {}, levels)


def measure(metrics: int) -> dict[str, Any]:
    """Milliseconds by host and level: median and worst of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "clickhouse")
        store.open()
        fill_server(store, metrics)
        made = _seconds(lambda: _make(store))
        server = _ask(lambda asked: Usage(store).groups(1, asked))
        changing = _changing(store, metrics)
        store.close()
    running = shared.start("dynamodb")
    client, name = DynamoDBService(running.address).client(), f"bench-{uuid4().hex}"
    table.create(client, name)
    filled = _seconds(lambda: fill_dynamodb(client, name, metrics))
    reader = Reader(client, name)
    made_dynamodb = _seconds(lambda: reader.groups(query(LEVELS)))
    dynamodb = _ask(reader.groups)
    reader.close()
    client.delete_table(TableName=name)
    return {
        "metrics": metrics,
        "aim_ms": AIM_MS,
        "server_ms": server,
        "dynamodb_ms": dynamodb,
        "server_after_a_call_ms": changing,
        "server_made_s": made,
        "dynamodb_made_s": made_dynamodb,
        "dynamodb_filled_s": filled,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 1)


def _make(store: Store) -> None:
    days, asked = UsageDays(store), query(LEVELS)
    days.refresh(1, days.marks(1, asked.start, asked.end))


def _changing(store: Store, metrics: int) -> dict[str, float]:
    """Every level, each time after one more call of the last day."""
    asked, taken = query(LEVELS), list[float]()
    for number in range(ROUNDS):
        _insert(store, metrics, metrics - 1, 1, offset=number + 1)
        start = time.perf_counter()
        answer(asked, Usage(store).groups(1, asked))
        taken.append((time.perf_counter() - start) * 1000)
    return _told(taken)


def _ask(read: Callable[[UsageQuery], Groups]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, levels in {**{name: (name,) for name in LEVELS}, "every level": LEVELS}.items():
        asked, taken = query(levels), list[float]()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            answer(asked, read(asked))
            taken.append((time.perf_counter() - start) * 1000)
        found[name] = _told(taken)
    return found


def _told(taken: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(taken), 1), "max": round(max(taken), 1)}


def fill_server(store: Store, metrics: int) -> None:
    """Calls, inside the engine."""
    step = 100_000
    for first in range(0, metrics, step):
        _insert(store, metrics, first, min(step, metrics - first))


def _insert(store: Store, metrics: int, first: int, rows: int, offset: int = 0) -> None:
    """Calls from this number on; `offset` makes other ones of the same times."""
    store.command(
        _FILL.format(
            start=int(START.timestamp()) * 1_000_000 + offset,
            span=DAYS * 86_400_000_000,
            metrics=metrics,
            first=first,
            rows=rows,
            offset=offset * metrics,
        )
    )


def fill_dynamodb(client: Any, name: str, metrics: int) -> None:
    """Items and rollups, a day after the other; neighbours are of one lane."""
    with ThreadPoolExecutor(4) as threads:
        for day in range(DAYS):
            share = range(day * metrics // DAYS, (day + 1) * metrics // DAYS)
            entries = [entry(_metric(number, metrics), None) for number in share]
            batches = [entries[start : start + 25] for start in range(0, len(entries), 25)]
            list(threads.map(lambda batch: _put(client, name, [e.item for e in batch]), batches))
            documents = list(_documents(entries)) + _versions(START + timedelta(days=day))
            list(threads.map(lambda each: _put(client, name, [each]), documents))


def _metric(number: int, metrics: int) -> AIUsageMetric:
    at = START + timedelta(days=DAYS) * number / metrics
    mixed = number * 2_654_435_761 % 2**32
    model = mixed // 7 % 10
    failed = mixed // 3 % 50 == 0
    return AIUsageMetric(
        service=_SERVICES[model % 3],
        model=f"model-{model}",
        operation=("completion", "embedding")[mixed // 11 % 2],
        timestamp=at,
        input_tokens=mixed // 5 % 4000,
        output_tokens=mixed // 13 % 800,
        cost_usd=Decimal(mixed // 17 % 1_000_000).scaleb(-9),
        latency=mixed % 5_000_000 / 1e6,
        status="error" if failed else "success",
        user_id=f"user-{mixed // 19 % 200}",
        job_id=f"job-{mixed // 23 % 100}",
        batch_id=f"batch-{mixed // 29 % 50}",
        environment=("production", "staging")[mixed // 31 % 2],
    )


def _documents(entries: list[Entry]) -> Iterator[dict[str, Any]]:
    share = -(-len(entries) // rollups.LANES) or 1
    for lane in range(rollups.LANES):
        part = entries[lane * share : (lane + 1) * share]
        for place, cells in rollups.added(each.row for each in part).items():
            yield _document(place, lane, cells)


def _versions(day: datetime) -> list[dict[str, Any]]:
    return [
        rollups.version_key(day.date().isoformat(), lane) | {"version": {"N": "1"}}
        for lane in range(rollups.LANES)
    ]


def _document(place: Place, lane: int, cells: Cells) -> dict[str, Any]:
    key = rollups.lane_key(place.partition, lane)
    return rollups.item(key, rollups.sort_key(place.day, 0), rollups.pack(cells), 1)


def _put(client: Any, name: str, items: list[dict[str, Any]]) -> None:
    left = {name: [{"PutRequest": {"Item": item}} for item in items]}
    while left:
        left = client.batch_write_item(RequestItems=left)["UnprocessedItems"]


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--metrics", type=int, default=1_000_000)
    print(json.dumps(measure(parser.parse_args().metrics), indent=2))


if __name__ == "__main__":
    main()
