"""A project's rows are deleted from every table, and nobody else's."""

import threading

import pytest

from nilometer import failpoints
from nilometer.clickhouse.erasure import erase_project
from nilometer.clickhouse.store import StoreUnavailable
from nilometer.log.port import Position, Record
from nilometer.pipeline.batch import map_batch
from nilometer.pipeline.writer import write
from tests.pipeline import rows
from tests.pipeline.records import envelope
from tests.projects import new_project_id

NEVER = threading.Event()
FIRST = 1_751_367_600_000_000
MONTH = 2_600_000_000_000  # microseconds: each row in a partition of its own


def fill(store, project_id, count):
    envelopes = [
        envelope(project_id, f"00000000-0000-4000-8000-{n:012}", accepted_at=FIRST + n * MONTH)
        for n in range(count)
    ]
    records = [
        Record(Position(0, n), each.headers(), each.payload) for n, each in enumerate(envelopes)
    ]
    carried, _ = map_batch(records, max_events=count + 1)
    write(store, [outcome.rows for each in carried for outcome in each.outcomes])


def counts(store, project_id):
    return [len(rows.final(store, table, project_id)) for table in ("events", "calls", "event_ids")]


def test_every_row_of_the_project_goes_and_no_other(store):
    doomed, other = new_project_id(), new_project_id()
    fill(store, doomed, 5)
    fill(store, other, 4)
    assert counts(store, doomed) == [5, 5, 5]
    assert erase_project(store, doomed, NEVER) == 15
    assert counts(store, doomed) == [0, 0, 0]
    assert counts(store, other) == [4, 4, 4]
    assert erase_project(store, doomed, NEVER) == 0


def test_every_table_that_has_projects_is_known(store):
    tables = store.query(
        "SELECT DISTINCT table FROM system.columns "
        "WHERE database = 'nilometer' AND name = 'project_id'"
    )
    project_id = new_project_id()
    fill(store, project_id, 1)
    erase_project(store, project_id, NEVER)
    for (table,) in tables.rows:
        left = store.query(f"SELECT count() FROM {table} WHERE project_id = {project_id}")
        assert left.rows == [(0,)], table


def test_a_store_that_is_down_is_unavailable(store):
    failpoints.configure("store=error")
    try:
        with pytest.raises(StoreUnavailable):
            erase_project(store, new_project_id(), NEVER)
    finally:
        failpoints.configure("")
