"""Conditions on what the store is sorted by are not asked of others' rows, and bounds on time are
asked early.

`LEAK` divides by zero for an event of 1970: ours have none, and the others' are dense enough to
fill whole ranges of the index, over whose bounds the engine evaluates conditions.
"""

import pytest

from nilometer.query.sql import grammar
from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.selects import Rows, compiled
from tests.projects import new_project_id
from tests.query.rows import event_row, insert
from tests.query_sql.tenants import fill_ours, fill_theirs

LEAK = "intDiv(900, toYear(timestamp) - 1970)"
QUERIES = f"""
SELECT count() FROM events WHERE {LEAK} > 0
SELECT count() FROM events AS e WHERE intDiv(900, toYear(e.timestamp) - 1970) > 0
SELECT count() FROM ai_events WHERE {LEAK} > 0
SELECT count() FROM events WHERE timestamp > '1960-01-01' AND {LEAK} > 0
SELECT count() FROM events WHERE timestamp > '1960-01-01' AND NOT ({LEAK} = 3)
SELECT {LEAK} AS a FROM events WHERE a > 0
SELECT {LEAK} FROM events WHERE `{LEAK}` > 0
WITH {LEAK} AS a SELECT count() FROM events WHERE a > 0
SELECT {LEAK} AS a, count() FROM events GROUP BY a HAVING a > 0
SELECT count() FROM events GROUP BY {LEAK} HAVING {LEAK} > 0
SELECT uuid FROM events QUALIFY {LEAK} > 0
SELECT timestamp FROM events ORDER BY {LEAK} LIMIT 3
SELECT {LEAK} AS a FROM events ORDER BY a LIMIT 3
SELECT {LEAK} FROM events ORDER BY 1 LIMIT 3
SELECT count() FROM (SELECT * FROM events) WHERE {LEAK} > 0
SELECT count() FROM (SELECT timestamp AS t FROM events) WHERE intDiv(900, toYear(t) - 1970) > 0
SELECT count() FROM (SELECT * FROM events WHERE timestamp > '1960-01-01') WHERE {LEAK} > 0
WITH c AS (SELECT * FROM events) SELECT count() FROM c WHERE {LEAK} > 0
SELECT count() FROM events AS e JOIN calls AS c USING (trace_id) WHERE {LEAK.replace("(t", "(e.t")}
SELECT count() FROM traces AS t JOIN events AS e USING (trace_id) WHERE {LEAK} > 0
SELECT count() FROM (SELECT * FROM events UNION ALL SELECT * FROM events) WHERE {LEAK} > 0
SELECT count() FROM events UNION ALL SELECT count() FROM events WHERE {LEAK} > 0
SELECT (SELECT count() FROM events WHERE {LEAK} > 0)
SELECT count() FROM events WHERE uuid IN (SELECT uuid FROM events WHERE {LEAK} > 0)
SELECT count() FROM events WHERE intDiv(900, toYYYYMM(accepted_at) - 202507 + 1) > 0
SELECT count() FROM calls WHERE toInt64(call_id) > 0
SELECT count() FROM (SELECT call_id AS c FROM calls) WHERE toInt64(c) > 0
SELECT count() FROM traces WHERE intDiv(900, toYear(started_at) - 1970) > 0
""".strip().splitlines()


@pytest.fixture(scope="module")
def crowded(store) -> int:
    """Our project between two large ones."""
    before, project_id, after = new_project_id(), new_project_id(), new_project_id()
    fill_theirs(store, before, 2500)
    fill_ours(store, project_id)
    fill_theirs(store, after, 2500)
    return project_id


@pytest.mark.parametrize("sql", QUERIES)
def test_a_condition_that_fails_on_others_rows_answers_ours(queries, crowded, sql):
    assert queries.run(crowded, sql).rows


def test_no_condition_is_tried_on_the_ids_of_other_projects(queries, store):
    """In a part of a few rows, whose bounds are the ids of its first and last project."""
    other, ours = new_project_id(), new_project_id()
    insert(store, [event_row(other if n % 2 else ours, event="$ai_span") for n in range(8)])
    for condition in (f"intDiv(1, team_id - {other}) = 1", f"intDiv(1, team_id - {other}) >= -9"):
        assert queries.run(ours, f"SELECT count() FROM ai_events WHERE {condition}").rows


def written(sql: str) -> str:
    return compiled(grammar.parse(sql), 7, {}, Rows(1, 1)).sql


HIDDEN = "if(project_id = 7, events.timestamp"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT timestamp, model FROM events ORDER BY timestamp DESC",
        "SELECT * FROM events WHERE (timestamp >= '2025-07-01') AND (model = 'm') "
        "ORDER BY timestamp DESC",
        "SELECT toStartOfDay(timestamp) AS day, count() FROM events GROUP BY day ORDER BY count()",
    ],
)
def test_a_query_that_only_compares_time_reads_it_in_order(sql):
    assert HIDDEN not in written(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT model FROM events ORDER BY toStartOfDay(timestamp) ASC",
        "SELECT toStartOfDay(timestamp) AS day FROM events ORDER BY day ASC",
        "SELECT toStartOfDay(timestamp) FROM events ORDER BY 1 ASC",
        "SELECT timestamp FROM events WHERE timestamp > 5",
        "SELECT timestamp FROM events WHERE timestamp IN (SELECT 1)",
        "SELECT e.timestamp FROM events AS e, traces AS t",
        "SELECT 1 FROM (SELECT timestamp FROM events ORDER BY timestamp ASC)",
        "SELECT timestamp FROM events UNION ALL SELECT timestamp FROM events",
    ],
)
def test_any_other_query_reads_it_hidden(sql):
    assert HIDDEN in written(sql)


@pytest.mark.parametrize(
    ("condition", "bounded"),
    [
        ("timestamp >= '2025-07-01'", True),
        ("(now() - toIntervalDay(1)) < timestamp", True),
        ("(timestamp > toStartOfDay(now())) AND (length(model) > 1)", True),
        ("e.timestamp > toDateTime('2025-07-01 00:00:00')", True),
        ("(timestamp > '2025-07-01') OR (model = 'm')", False),
        ("NOT (timestamp > '2025-07-01')", False),
        ("timestamp > accepted_at", False),
        ("timestamp > 5", False),
        ("timestamp > intDiv(1, 0)", False),
        ("toYear(timestamp) > 2020", False),
        ("timestamp > (SELECT max(timestamp) FROM events)", False),
    ],
)
def test_a_bound_on_time_is_asked_early(condition, bounded):
    inner = f"SELECT * FROM (SELECT uuid FROM events AS e WHERE {condition}) AS x"
    prewhere = written(inner).partition("PREWHERE ")[2].partition(") AS `e`")[0]
    assert (prewhere != "project_id = 7") is bounded


@pytest.mark.parametrize("kind", ["RIGHT", "FULL"])
def test_a_join_that_adds_rows_takes_no_bound(kind):
    condition = "WHERE e.timestamp > '2025-07-01'"
    for word, bounded in [(kind, False), ("LEFT", True), ("INNER", True)]:
        sql = f"SELECT 1 FROM events AS e {word} JOIN traces AS t USING (trace_id) {condition}"
        assert ("AND (`events`.`timestamp` > '2025" in written(sql)) is bounded


def test_a_name_given_to_something_else_is_no_bound(queries, ours):
    sql = "SELECT toDateTime('2030-01-01 00:00:00') AS timestamp FROM events WHERE timestamp > {0}"
    assert "AND (" not in written(sql.format("'2029-01-01'"))
    assert len(queries.run(ours, sql.format("'2029-01-01 00:00:00'")).rows) == 12


def test_a_bound_changes_no_answer(queries, ours):
    for condition, count in [
        ("timestamp >= '2025-07-01 12:00:05'", 7),
        ("timestamp < toDateTime('2025-07-01 12:00:05')", 5),
        ("timestamp = toDateTime64('2025-07-01 12:00:05', 6)", 1),
        ("timestamp > '2025-07-01' AND timestamp <= toDate('2025-07-02')", 12),
    ]:
        sql = f"SELECT count() FROM (SELECT 1 FROM events WHERE {condition})"
        assert queries.run(ours, sql).rows == [f"[{count}]".encode()]
    with pytest.raises(SqlError):
        queries.run(ours, "SELECT 1 FROM events WHERE timestamp > 'yesterday'")
