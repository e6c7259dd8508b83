"""Additions are folded into rollups: every metric counts once, at any moment and whatever fails."""

from __future__ import annotations

import threading
from datetime import date, timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import folding, rollups, writer
from nilometer.dynamodb.folding import Folder
from nilometer.dynamodb.writer import Writer, entry
from nilometer.usage.answers import answer
from nilometer.usage.query import parse
from tests.dynamodb.conftest import Table
from tests.dynamodb.test_sink import ASKED, Faulty, refusal
from tests.usage.metrics import JULY, metric

LANE = 5
DAY = "2025-07-01"


def some(count: int) -> list[AIUsageMetric]:
    return [metric(user_id=f"u-{n % 7}", job_id=f"j-{n % 3}") for n in range(count)]


def store(table: Table, metrics: list[AIUsageMetric], dynamodb: Any = None) -> None:
    own = Writer(dynamodb or table.dynamodb, table.name, LANE)
    assert own.write(entry(each, None) for each in metrics) == []


def folder(table: Table, dynamodb: Any = None) -> Folder:
    return Folder(dynamodb or table.dynamodb, table.name, LANE)


def counted(table: Table) -> tuple[int, int, int]:
    """Calls by the summary, added up by user, and by hour: of what is stored now, as no day is
    kept."""
    query = parse(ASKED, today=date(2025, 7, 2))
    found = answer(query, table.reader(keeps=False).groups(query))
    levels = found["aggregations"]
    by_user, by_hour = levels["by_user"].values(), levels["by_hour"].values()
    return (
        found["summary"]["call_count"],
        sum(each["call_count"] for each in by_user),
        sum(each["call_count"] for each in by_hour),
    )


def of_type(table: Table, kind: str) -> int:
    return sum(item["TYPE"]["S"] == kind for item in table.items())


def test_metrics_count_before_they_are_folded_and_after(made: Table):
    store(made, some(30))
    assert of_type(made, rollups.ADDITION_TYPE) == 3
    assert of_type(made, rollups.TYPE) == 0
    assert counted(made) == (30, 30, 30)
    assert folder(made).waiting() == {DAY: 3}
    assert folder(made).fold(DAY)
    assert of_type(made, rollups.ADDITION_TYPE) == 0
    assert of_type(made, rollups.TYPE) > 0
    assert counted(made) == (30, 30, 30)
    store(made, some(5))
    assert counted(made) == (35, 35, 35)


def test_a_writer_folds_when_there_are_many(local: Table, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "FOLD_AT", 4)
    store(local, some(writer.MAX_METRICS * 6))
    assert of_type(local, rollups.ADDITION_TYPE) == 2
    assert counted(local)[0] == writer.MAX_METRICS * 6


def test_what_a_process_that_is_gone_has_left_is_folded_by_the_next_one(local: Table):
    store(local, some(30))
    store(local, [metric(timestamp=JULY + timedelta(days=1))])
    assert folder(local).waiting() == {"2025-07-02": 1}
    assert counted(local)[0] == 31


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("number", range(5))
def test_a_fold_that_breaks_off_anywhere_counts_nothing_twice_and_loses_nothing(
    local: Table, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
):
    monkeypatch.setattr(folding, "MAX_ACTIONS", 5)
    store(local, some(80))
    lost = EndpointConnectionError(endpoint_url="http://nowhere")
    faulty = Faulty(local.dynamodb, *[(None, False)] * number, (lost, after))
    with pytest.raises(EndpointConnectionError):
        folder(local, faulty).fold(DAY)
    assert counted(local) == (80, 80, 80)
    store(local, some(3))
    assert counted(local) == (83, 83, 83)
    assert folder(local).fold(DAY)
    assert of_type(local, rollups.ADDITION_TYPE) == 0
    assert counted(local) == (83, 83, 83)


def test_a_fold_between_a_readers_two_looks_changes_no_answer(local: Table):
    """One look is for additions, the other for documents."""

    class Late:
        """DynamoDB, where a fold happens between the two, in whichever order they come."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            self._first = ""
            self.folded = False

        def __getattr__(self, name: str) -> Any:
            return getattr(local.dynamodb, name)

        def query(self, **asked: Any) -> Any:
            key = asked["ExpressionAttributeValues"][":key"]["S"]
            look = key[:15]
            with self._lock:
                if look in ("AI_USAGE_ROLLUP", "AI_USAGE_ADDITI") and not self.folded:
                    self._first = self._first or look
                    self.folded = look != self._first and folder(local).fold(DAY)
            return local.dynamodb.query(**asked)

    store(local, some(20))
    late = Late()
    assert counted(Table(late, local.name)) == (20, 20, 20)
    assert late.folded


def test_folders_of_one_lane_that_meet_fold_everything_once(local: Table):
    store(local, some(100))
    barrier = threading.Barrier(3)

    def fold() -> None:
        mine = folder(local)
        barrier.wait()
        mine.fold(DAY)

    threads = [threading.Thread(target=fold) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert counted(local) == (100, 100, 100)
    assert folder(local).fold(DAY)
    assert of_type(local, rollups.ADDITION_TYPE) == 0
    assert counted(local) == (100, 100, 100)


def test_a_folder_that_was_overtaken_reads_again(local: Table):
    mine, other = folder(local), folder(local)
    for _ in range(3):
        store(local, some(12))
        assert mine.fold(DAY)
        store(local, some(12))
        assert other.fold(DAY)
    assert counted(local) == (72, 72, 72)


def test_a_fold_that_fails_is_no_failure_of_the_metrics(
    local: Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "FOLD_AT", 1)

    class Unfoldable(Faulty):
        def transact_write_items(self, **request: Any) -> None:
            items = [each["Put"]["Item"] for each in request["TransactItems"] if "Put" in each]
            if any(item["TYPE"]["S"] == rollups.TYPE for item in items):
                raise refusal("AccessDeniedException")
            super().transact_write_items(**request)

    store(local, some(36), Unfoldable(local.dynamodb))
    assert of_type(local, rollups.ADDITION_TYPE) == 3
    assert counted(local) == (36, 36, 36)


def test_additions_that_cannot_be_deleted_count_no_more(local: Table):
    class Undeletable(Faulty):
        def transact_write_items(self, **request: Any) -> None:
            if any("Delete" in each for each in request["TransactItems"]):
                raise refusal("TransactionCanceledException")
            super().transact_write_items(**request)

    store(local, some(24))
    assert folder(local, Undeletable(local.dynamodb)).fold(DAY)
    assert of_type(local, rollups.ADDITION_TYPE) == 2
    assert counted(local) == (24, 24, 24)
    assert folder(local).fold(DAY)
    assert of_type(local, rollups.ADDITION_TYPE) == 0
    assert counted(local) == (24, 24, 24)
