"""What the sink does when DynamoDB refuses, is slow, or answers nothing."""

import threading
from datetime import date
from decimal import Decimal

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from nilometer.dynamodb import rollups, writer
from nilometer.dynamodb.sink import DynamoSink
from nilometer.dynamodb.writer import MAX_ATTEMPTS, Writer, entry
from nilometer.usage.answers import answer
from nilometer.usage.query import parse
from tests.usage.metrics import metric

ASKED = {"start_date": ["2025-07-01"], "end_date": ["2025-07-02"], "aggregation": ["user,hour"]}


def totals(table):
    query = parse(ASKED, today=date(2025, 7, 2))
    return answer(query, table.reader().groups(query))


def refusal(code):
    error = {"Error": {"Code": code, "Message": "no"}, "CancellationReasons": []}
    return ClientError(error, "TransactWriteItems")


class Faulty:
    """DynamoDB behind a seam: `faults` are raised by the next transactions, each before it is done
    or, where named so, after."""

    def __init__(self, dynamodb, *faults):
        self._dynamodb = dynamodb
        self.faults = list(faults)
        self.transactions = 0

    def __getattr__(self, name):
        return getattr(self._dynamodb, name)

    def transact_write_items(self, **request):
        self.transactions += 1
        fault, after = self.faults.pop(0) if self.faults else (None, False)
        if fault and not after:
            raise fault
        self._dynamodb.transact_write_items(**request)
        if fault:
            raise fault


def lost():
    return EndpointConnectionError(endpoint_url="http://nowhere")


def test_an_answer_that_is_lost_adds_nothing_twice(local):
    metrics = [metric(user_id="u") for _ in range(30)]
    sink = DynamoSink(local.name, dynamodb=Faulty(local.dynamodb, (lost(), True)))
    with pytest.raises(EndpointConnectionError):
        sink.store(metrics)
    assert sink.store(metrics) == []
    assert totals(local)["summary"]["call_count"] == 30


def test_throttling_is_waited_out(local):
    pauses = []
    faulty = Faulty(local.dynamodb, *[(refusal("ThrottlingException"), False)] * 3)
    sink = DynamoSink(local.name, dynamodb=faulty, sleep=pauses.append)
    assert sink.store([metric()]) == []
    assert (len(pauses), faulty.transactions) == (3, 4)
    assert max(pauses) < 0.5


def test_what_stays_throttled_comes_back_to_be_sent_again(local):
    faults = [(refusal("ProvisionedThroughputExceededException"), False)] * MAX_ATTEMPTS
    sink = DynamoSink(local.name, dynamodb=Faulty(local.dynamodb, *faults), sleep=lambda _: None)
    one = metric()
    [failed] = sink.store([one])
    assert (failed.metric, failed.permanent) == (one, False)
    assert failed.reason == "ProvisionedThroughputExceededException"
    assert failed.retry_after > 0
    assert local.items() == []
    assert sink.store([one]) == []


def test_another_error_is_an_outage(local):
    faulty = Faulty(local.dynamodb, (refusal("ResourceNotFoundException"), False))
    with pytest.raises(ClientError):
        DynamoSink(local.name, dynamodb=faulty).store([metric()])


def test_a_metric_that_no_item_can_hold_fails_alone(local):
    large = metric(metadata={"text": "x" * 400_000})
    fine = [metric(user_id="u") for _ in range(3)]
    [failed] = local.sink().store([*fine[:1], large, *fine[1:]])
    assert (failed.metric, failed.reason, failed.permanent) == (large, "item_too_large", True)
    assert totals(local)["summary"]["call_count"] == 3


def test_a_batch_that_is_invalid_is_halved_to_the_metric_that_is(local):
    class Picky(Faulty):
        def transact_write_items(self, **request):
            items = [each["Put"]["Item"] for each in request["TransactItems"] if "Put" in each]
            if any(item.get("job_id") == {"S": "bad"} for item in items):
                raise refusal("ValidationException")
            super().transact_write_items(**request)

    metrics = [metric(user_id="u", job_id="bad" if n == 3 else None) for n in range(6)]
    [failed] = DynamoSink(local.name, dynamodb=Picky(local.dynamodb)).store(metrics)
    assert (failed.metric, failed.permanent) == (metrics[3], True)
    assert totals(local)["summary"]["call_count"] == 5


def test_writers_of_one_lane_lose_nothing(local):
    """They replace the same documents; each finds that it was overtaken and reads again."""
    metrics = [metric(user_id=f"u-{n % 2}", cost_usd=Decimal(1)) for n in range(32)]
    refused = []

    def write(part):
        own = Writer(local.dynamodb, local.name, 3)
        for each in part:
            refused.extend(own.write([entry(each, None)]))

    threads = [threading.Thread(target=write, args=(metrics[n::4],)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    missing = 32 - len(refused)
    assert totals(local)["summary"]["total_cost_usd_exact"] == str(missing)
    assert local.sink().store([each.metric for each in refused]) == []
    found = totals(local)
    assert found["summary"]["call_count"] == 32
    assert found["aggregations"]["by_user"]["u-0"]["cost_usd_exact"] == "16"


def test_a_full_document_is_followed_by_another_one(local, monkeypatch):
    monkeypatch.setattr(rollups, "MAX_BYTES", 120)
    monkeypatch.setattr(writer, "FOLD_AT", 1)
    sink = local.sink(writers=1)
    for n in range(6):
        sink.store([metric(user_id=f"user-{n}-{m}", model=f"model-{n}-{m}") for m in range(5)])
    numbers = {
        item["SK"]["S"].rpartition("#")[2]
        for item in local.items()
        if item["PK"]["S"].startswith("AI_USAGE_ROLLUP#ALL")
    }
    assert len(numbers) > 1
    found = totals(local)
    assert found["summary"]["call_count"] == 30
    assert len(found["aggregations"]["by_user"]) == 30


def test_a_large_batch_is_stored_by_several_writers(local):
    sink = local.sink(writers=2)
    metrics = [metric(user_id=f"u-{n % 5}", job_id="j") for n in range(250)]
    assert sink.store(metrics) == []
    assert totals(local)["summary"]["call_count"] == 250
    sink.close()


def test_the_last_batch_of_a_process_is_stored_when_no_thread_can_be_started(local):
    sink = local.sink(writers=2)
    sink._threads.shutdown()
    assert sink.store([metric(user_id="u") for _ in range(150)]) == []
    assert totals(local)["summary"]["call_count"] == 150
