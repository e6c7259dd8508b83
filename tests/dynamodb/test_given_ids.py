"""A call that is told of again by the same id counts once, whenever and by whom it is told."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from botocore.exceptions import EndpointConnectionError

from nilometer.domain import clock
from nilometer.domain.identity import uuid7
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import schema, writer
from nilometer.dynamodb.sink import DynamoSink
from nilometer.dynamodb.writer import Writer, entry
from nilometer.sdk.assembly import Assembler
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import NOTHING
from nilometer.sdk.sinks.jsonl import JsonlSink
from nilometer.usage.answers import answer
from nilometer.usage.jsonl import JsonlUsage
from nilometer.usage.query import parse
from tests.dynamodb.conftest import Table
from tests.dynamodb.test_sink import Faulty
from tests.usage.metrics import JULY, metric

LINE = str(uuid5(NAMESPACE_URL, "batch_req_1"))
ASKED = {
    "start_date": ["2025-07-01"],
    "end_date": ["2025-07-20"],
    "aggregation": ["day,hour,user,model"],
}
NOON = JULY + timedelta(hours=12)
LATER = [timedelta(), timedelta(minutes=5), timedelta(days=1), timedelta(microseconds=-1)]


def told(request_id: str | None, at: datetime = NOON, **seen: Any) -> AIUsageMetric:
    """The metric of a call that is recorded with this id at this moment."""
    found = {
        "service": "openai",
        "model": "m",
        "operation": "completion",
        "cost_usd": Decimal(1),
        "user_id": "ada",
        "request_id": request_id,
    }
    return Assembler(NOTHING, None).metric(Observation(found | seen, NOTHING, at.timestamp()))


def counted(table: Table) -> tuple[int, str, int]:
    """Calls and dollars by the summary, which each level adds up to; and how many metrics there
    are one by one."""
    query = parse(ASKED, today=date(2025, 7, 20))
    reader = table.reader(keeps=False)
    found = answer(query, reader.groups(query))
    for level in found["aggregations"].values():
        assert sum(each["call_count"] for each in level.values()) == found["summary"]["call_count"]
    single = len(list(reader.metrics(query.start, query.end)))
    reader.close()
    summary = found["summary"]
    return summary["call_count"], summary["total_cost_usd_exact"], single


def of_type(table: Table, kind: str) -> int:
    return sum(item["TYPE"]["S"] == kind for item in table.items())


@pytest.mark.parametrize(
    "request_id",
    [LINE, "invoice 7 # 1", "é" * 400, uuid7(clock.to_micros(NOON))],
    ids=["a line of a batch", "a text", "a long text", "a fresh id of the caller's"],
)
def test_it_counts_once_whenever_it_is_told(made: Table, request_id: str):
    for later in LATER:
        sink = made.sink()
        assert sink.store([told(request_id, NOON + later)]) == []
        assert sink.store([told(request_id, NOON + later)]) == []
        sink.close()
    assert counted(made) == (1, "1", 1)
    assert of_type(made, schema.TYPE) == of_type(made, schema.MARKER_TYPE) == 1


def test_it_counts_once_when_its_service_or_model_is_told_otherwise(local: Table):
    for name in ("unknown", "gpt-4o"):
        assert local.sink().store([told(LINE, model=name)]) == []
    assert counted(local) == (1, "1", 1)


def test_it_counts_once_in_one_batch(made: Table):
    """Of two sizes: what one writer stores, and what several do."""
    for count in (3, 60):
        ids = [f"{count}-{n}" for n in range(count)]
        batch = [told(each, NOON + later) for later in LATER for each in ids]
        sink = made.sink()
        assert sink.store(batch) == []
        sink.close()
    assert counted(made) == (63, "63", 63)


def test_an_id_that_was_not_given_has_no_marker(local: Table):
    """It is another one for each metric, which keeps it where it is sent from again."""
    drawn = told(None)
    again = AIUsageMetric.from_json(drawn.to_json())
    assert local.sink().store([drawn]) == local.sink().store([again]) == []
    assert counted(local)[0] == 1
    assert of_type(local, schema.MARKER_TYPE) == 0


def test_a_metric_that_is_made_with_an_id_of_another_kind_has_one(local: Table):
    for later in LATER:
        one = metric(timestamp=NOON + later, request_id=LINE, user_id="ada")
        assert local.sink().store([one]) == []
    assert counted(local)[0] == 1


def test_what_was_given_is_kept_by_the_spool():
    given, drawn = told(LINE), told(None)
    assert (given.id_given, drawn.id_given) == (True, False)
    assert AIUsageMetric.from_json(given.to_json()).id_given


def test_repeated_ids_are_told_from_the_others_of_their_transaction(local: Table):
    """Reasons are in the order of the actions: of metrics with a marker and without one, of two
    days whose numbers another writer of the lane has taken meanwhile."""
    day, next_day = NOON, NOON + timedelta(days=1)
    faulty = Faulty(local.dynamodb)
    own, other = Writer(faulty, local.name, 3), Writer(local.dynamodb, local.name, 3)
    drawn = told(None, next_day)
    batches = [
        (own, [told("a", day), drawn, told("b", next_day)]),
        (other, [told(None, day), told(None, next_day)]),
        (
            own,
            [
                *(told(None, day), told("a", day + timedelta(hours=1)), told("c", day), drawn),
                *(told("b", next_day + timedelta(hours=1)), told(None, next_day)),
            ],
        ),
    ]
    for by, batch in batches:
        assert by.write([entry(each, None) for each in batch]) == []
    assert counted(local) == (8, "8", 8)
    assert faulty.transactions == 3  # one is refused, and what is left of it is stored at once


def test_a_full_transaction_of_other_days_has_room(local: Table):
    seen: list[int] = []

    class Counting(Faulty):
        def transact_write_items(self, **request: Any) -> None:
            seen.append(len(request["TransactItems"]))
            super().transact_write_items(**request)

    batch = [told(f"line {n}", NOON + timedelta(days=n)) for n in range(writer.MAX_METRICS)]
    assert DynamoSink(local.name, dynamodb=Counting(local.dynamodb)).store(batch) == []
    assert max(seen) == 4 * writer.MAX_METRICS <= 100
    assert counted(local)[0] == writer.MAX_METRICS


def test_writers_at_once_store_it_once(local: Table):
    """As processes that read the same results: each has its own times of the same lines."""
    failed: list[Any] = []
    together = threading.Barrier(4)

    def read(number: int) -> None:
        sink = local.sink()
        batch = [told(f"line {n}", NOON + timedelta(hours=9 * number)) for n in range(40)]
        together.wait(60)
        while batch:
            failed.append(sink.store(batch))
            batch = [each.metric for each in failed[-1]]
        sink.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not any(each.permanent for found in failed for each in found)
    assert counted(local) == (40, "40", 40)
    assert of_type(local, schema.MARKER_TYPE) == 40


def test_an_answer_that_is_lost_adds_nothing_twice(local: Table):
    lost = EndpointConnectionError(endpoint_url="http://nowhere")
    sink = DynamoSink(local.name, dynamodb=Faulty(local.dynamodb, (lost, True)))
    batch = [told(f"line {n}") for n in range(5)]
    with pytest.raises(EndpointConnectionError):
        sink.store(batch)
    assert sink.store(batch) == []
    assert counted(local) == (5, "5", 5)


def test_a_marker_expires_with_its_metric(made: Table):
    made.sink(ttl_days=10).store([told(LINE)])
    made.sink(ttl_days=None).store([told("for ever")])
    until = {
        (item["TYPE"]["S"], item.get(schema.TTL, {}).get("N"))
        for item in made.items()
        if item["TYPE"]["S"] in (schema.TYPE, schema.MARKER_TYPE)
    }
    (expires_at,) = {each for _, each in until} - {None}
    kinds = (schema.TYPE, schema.MARKER_TYPE)
    assert until == {(kind, at) for kind in kinds for at in (expires_at, None)}
    assert datetime.fromtimestamp(int(expires_at), UTC) > clock.now() + timedelta(days=9)


def test_a_file_has_it_on_its_first_day_alone_as_a_table_has(tmp_path: Path):
    path = tmp_path / "usage.jsonl"
    JsonlSink(path).store([told(LINE, NOON + later) for later in LATER[:3]])
    for first, calls in ((JULY, 1), (JULY + timedelta(days=1), 0)):
        usage = JsonlUsage(path, first.date())
        usage.refresh()
        query = parse(ASKED | {"start_date": [f"{first:%Y-%m-%d}"]}, today=date(2025, 7, 20))
        assert answer(query, usage.ledger.groups(query))["summary"]["call_count"] == calls
