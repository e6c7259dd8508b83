"""A month of usage by every level, from the server's calls and from DynamoDB Local's rollups.

`python -m bench.usage_query --metrics 1000000`: both are filled with so many metrics of 30 days (3
services, 10 models, 2 operations and environments, 200 users, 100 jobs, 50 batches; one in 50
failed), then each level is asked for ten times, and all at once, of days that are kept, by who has
no answer yet; on the server also after each of ten new calls, as are budgets of the month. How long
it takes to make all days is told beside it. `--only server` and `--only dynamodb` measure one host;
each is told when it is done.

DynamoDB Local is one of its own, in memory. `usage_table` fills it in bulk, and shows on a sample
that the product's writers leave the same, item for item. It has every rollup, addition and version
of all metrics, and the own items of `--items` of them (20,000): no question that is measured reads
those, and the measurement ends with an error where one does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench import usage_table
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.spend import Span
from nilometer.clickhouse.store import Store
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import rollups, schema, table
from nilometer.dynamodb.reader import Reader
from nilometer.query.spend import CallSpend
from nilometer.query.usage import Usage
from nilometer.query.usage_days import UsageDays
from nilometer.usage.answers import answer
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.groups import Groups
from nilometer.usage.query import UsageQuery
from tests.private_servers import private
from tests.servers.dynamodb import DynamoDBInMemory
from tests.services import DynamoDBService

START = datetime(2025, 6, 1, tzinfo=UTC)
DAYS = 30
LEVELS = DIMENSIONS[:10]
ROUNDS = 10
AIM_MS = {"dynamodb": 500, "server": 100}
HOSTS = ("server", "dynamodb")
ITEMS = 20_000
SAMPLE, SAMPLE_LANES = 1_600, 2
"""Metrics that the product's writers store, too: of two days; each lane folds and keeps a rest."""
BUDGETS = (
    BudgetScope(ScopeKind.PROJECT),
    BudgetScope(ScopeKind.SERVICE, "openai"),
    BudgetScope(ScopeKind.MODEL, "model-3"),
    BudgetScope(ScopeKind.USER, "user-7"),
    BudgetScope(ScopeKind.JOB, "job-5"),
)
_SUMMED = ("AI_USAGE_ROLLUP#", "AI_USAGE_KEPT#", "AI_USAGE_ADDITIONS#", rollups.VERSIONS)
_SERVICES = ("openai", "anthropic", "google")
_VERSION_7 = 7 << 76 | 0b10 << 62
"""What makes an id one as the library draws them."""

Told = Callable[[dict[str, Any]], object]
Times = dict[str, float]

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


def measure(
    metrics: int, items: int = ITEMS, hosts: Collection[str] = HOSTS, tell: Told = lambda _: None
) -> dict[str, Any]:
    """Milliseconds by host and level: median, worst and least of the rounds, and processor time.
    `tell` hears of each host when it is done."""
    found: dict[str, Any] = {"metrics": metrics, "aim_ms": AIM_MS}
    for host, measured in (
        ("server", lambda: _server(metrics)),
        ("dynamodb", lambda: _dynamodb(metrics, items)),
    ):
        if host in hosts:
            part = measured()
            found |= part
            tell({"metrics": metrics} | part)
    return found


def _server(metrics: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "clickhouse")
        store.open()
        fill_server(store, metrics)
        made = _seconds(lambda: _make(store))
        found = {
            "server_made_s": made,
            "server_ms": _ask(lambda asked: Usage(store).groups(1, asked)),
            "server_after_a_call_ms": _changing(store, metrics),
            "server_budgets_ms": _budgets(store, metrics),
        }
        store.close()
        return found


def _dynamodb(metrics: int, items: int) -> dict[str, Any]:
    with private(DynamoDBInMemory) as server:
        return _in_table(DynamoDBService(server.address).client(), metrics, items)


def _in_table(client: Any, metrics: int, items: int) -> dict[str, Any]:
    same = _same(client)
    name = f"bench-{uuid4().hex}"
    table.create(client, name)
    started, step = time.perf_counter(), max(1, metrics // items)
    shares = [range(day * metrics // DAYS, (day + 1) * metrics // DAYS) for day in range(DAYS)]
    filled = usage_table.fill(
        client, name, _days(DAYS), shares, lambda number: _metric(number, metrics), step
    )
    seconds = round(time.perf_counter() - started, 1)
    watched = usage_table.Watched(client)
    reader = Reader(watched, name)
    made = _seconds(lambda: reader.groups(query(LEVELS)))
    found = _ask(reader.groups)
    reader.close()
    single = {each for each in watched.partitions if not each.startswith(_SUMMED)}
    if single - {schema.LEGACY_COST}:
        raise RuntimeError(f"metrics were read one by one, of which few are there: {min(single)}")
    return {
        "dynamodb_ms": found,
        "dynamodb_made_s": made,
        "dynamodb_filled_s": seconds,
        "dynamodb_items": filled,
        "dynamodb_items_of_metrics": -(-metrics // step),
        "dynamodb_same_as_written": same,
    }


def _same(client: Any) -> int:
    """How many items a sample has, filled and written: the same. Raises RuntimeError for one that
    is in one of them alone."""
    names = [f"bench-{uuid4().hex}" for _ in range(2)]
    for name in names:
        table.create(client, name)
    day = SAMPLE * DAYS // 2  # metrics of a month, of which two days are taken
    shares = [range(SAMPLE // 2), range(SAMPLE // 2, SAMPLE)]
    count, alone = usage_table.difference(
        client, names, _days(2), shares, lambda n: _metric(n, day), SAMPLE_LANES
    )
    if alone:
        raise RuntimeError(f"what is filled is not what is written: {alone[0]['PK']}")
    return count


def _days(count: int) -> list[date]:
    return [START.date() + timedelta(days=day) for day in range(count)]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 1)


def _make(store: Store) -> None:
    days, asked = UsageDays(store), query(LEVELS)
    days.refresh(1, days.marks(1, asked.start, asked.end))


def _changing(store: Store, metrics: int) -> Times:
    """Every level, each time after one more call of the last day."""
    asked, rounds = query(LEVELS), _Rounds()
    for number in range(ROUNDS):
        _insert(store, metrics, metrics - 1, 1, offset=number + 1)
        rounds.take(lambda: answer(asked, Usage(store).groups(1, asked)))
    return rounds.told()


def _budgets(store: Store, metrics: int) -> dict[str, Times]:
    """What a check of five budgets of the month asks, each time after one more call of the last
    day, and without one."""
    spans = [Span(scope, START, START + timedelta(days=DAYS)) for scope in BUDGETS]
    spend, found = CallSpend(store), {"after_a_call": _Rounds(), "again": _Rounds()}
    for number in range(ROUNDS):
        _insert(store, metrics, metrics - 1, 1, offset=ROUNDS + number + 1)
        for rounds in found.values():
            rounds.take(lambda: spend.of(1, spans))
    return {name: rounds.told() for name, rounds in found.items()}


def _ask(read: Callable[[UsageQuery], Groups]) -> dict[str, Times]:
    found: dict[str, Times] = {}
    for name, levels in {**{name: (name,) for name in LEVELS}, "every level": LEVELS}.items():
        asked, rounds = query(levels), _Rounds()
        for _ in range(ROUNDS):
            rounds.take(lambda: answer(asked, read(asked)))  # noqa: B023
        found[name] = rounds.told()
    return found


class _Rounds:
    """How long each round took, by the clock and in this process's processor time: the latter is
    nearly the same on a busy machine."""

    def __init__(self) -> None:
        self._taken: list[float] = []
        self._used: list[float] = []

    def take(self, work: Callable[[], object]) -> None:
        """Do it once."""
        start, used = time.perf_counter(), time.process_time()
        work()
        self._used.append((time.process_time() - used) * 1000)
        self._taken.append((time.perf_counter() - start) * 1000)

    def told(self) -> Times:
        """Milliseconds."""
        taken, used = self._taken, self._used
        told = {"p50": statistics.median(taken), "max": max(taken), "least": min(taken)}
        told["processor_p50"] = statistics.median(used)
        return {name: round(value, 1) for name, value in told.items()}


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
        request_id=str(UUID(int=mixed << 96 | _VERSION_7 | number)),
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


def main() -> None:
    """Print the results as JSON, of each host when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--metrics", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=ITEMS, help="metrics with their own items")
    parser.add_argument("--only", choices=HOSTS, help="measure one host")
    options = parser.parse_args()
    hosts = [options.only] if options.only else HOSTS
    tell = lambda part: print(json.dumps(part, indent=2), flush=True)  # noqa: E731
    measure(options.metrics, options.items, hosts, tell)


if __name__ == "__main__":
    main()
