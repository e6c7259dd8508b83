"""A name means a column, an alias or a parameter in scope, and never a function of the engine."""

import json

import pytest

from nilometer.query.sql import functions
from nilometer.query.sql.errors import SqlError


def test_no_function_of_the_engine_runs_for_its_bare_name(store, queries, ours):
    listed = store.query("SELECT DISTINCT name FROM system.functions", {}).rows
    tried = sorted({form for (name,) in listed for form in (name, name.upper())})
    assert len(tried) > 1500
    answered = {name for name in tried if _answers(queries, ours, f"SELECT `{name}`")}
    assert {functions.canonical(name) for name in answered} == {"now", "today"}


def test_each_function_that_the_engine_calls_so_is_known(store, connection):
    listed = store.query("SELECT DISTINCT name FROM system.functions", {}).rows
    called = {name for (name,) in listed if _is_called(connection, name)}
    assert {"user", "currentDatabase", "now"} <= called
    assert {name for name in called if not functions.is_niladic(name)} == set()


def _answers(queries, project_id, sql):
    try:
        return queries.run(project_id, sql).rows
    except SqlError:
        return None


def _is_called(connection, name):
    try:
        connection.query(f"SELECT `{name}`", "TSV", params={})
    except Exception as error:
        return "identifier" not in str(error) and "UNKNOWN_IDENTIFIER" not in str(error)
    return True


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 AS user, user + 1", [1, 2]),
        ("SELECT arrayMap(user -> user + 1, [1])", [[2]]),
        ("WITH 3 AS user SELECT user", [3]),
        ("SELECT user FROM (SELECT 4 AS user) AS t", [4]),
        ("SELECT user FROM (SELECT 5 AS user UNION ALL SELECT 6) ORDER BY user LIMIT 1", [5]),
        ("WITH c AS (SELECT 7 AS user) SELECT user FROM c", [7]),
        ("SELECT user FROM (SELECT * FROM (SELECT 8 AS user))", [8]),
        ("SELECT 9 AS user, s FROM (SELECT 1) ARRAY JOIN [user] AS s", [9, 9]),
        ("SELECT user FROM (SELECT 1) ARRAY JOIN [10] AS user", [10]),
        (
            "SELECT distinct_id AS user, count() FROM events WHERE user = '1' GROUP BY user",
            ["1", 4],
        ),
        (
            "SELECT t.user FROM (SELECT 11 AS user) AS t JOIN (SELECT 11 AS b) AS u ON user = b",
            [11],
        ),
        ("SELECT lower(user) AS user FROM (SELECT 'X' AS user)", ["x"]),
        ("SELECT user.x FROM (SELECT 12 AS x) AS user", [12]),
        ("WITH 1 AS a, c AS (SELECT a + 1 AS b) SELECT a, b FROM c", [1, 2]),
        ("SELECT `count()` FROM (SELECT count() FROM events)", [12]),
        ("SELECT 2 AS x, (SELECT x)", [2, 2]),
    ],
)
def test_a_name_in_scope_is_what_it_is(queries, ours, sql, expected):
    assert json.loads(queries.run(ours, sql).rows[0]) == expected


@pytest.mark.parametrize(
    ("sql", "detail"),
    [
        ("SELECT modl FROM events", "Line 1, column 8: There is no such column here: `modl`."),
        ("SELECT\n e.modl FROM events e", "Line 2, column 4: There is no such column here: `e.m"),
        (
            "SELECT (SELECT e.model) FROM events e",
            "column 18: There is no such column here: `e.mod",
        ),
        ("SELECT user FROM events", "write properties.user."),
    ],
)
def test_an_unknown_name_is_placed_and_a_like_one_named(queries, ours, sql, detail):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql)
    assert detail in caught.value.detail
    assert caught.value.code == "unknown_identifier"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("INSERT INTO x VALUES (1)", "Line 1, column 1: Only a SELECT"),
        ("SELECT 1,\n sum(*) FROM events", "Line 2, column 2: * may only stand alone"),
        ("SELECT 1 FROM events GROUP BY GROUPING SETS ((model), ())", "column 31: GROUPING SETS"),
        (
            "SELECT 1 FROM events AS e WHERE EXISTS (SELECT 1 WHERE e.uuid = uuid)",
            "column 58: There is no",
        ),
        ("SELECT properties.x FROM calls", "calls, traces and sessions have no properties"),
        ("SELECT {n:Int64}", "Line 1, column 9: The value of `n` does not fit"),
    ],
)
def test_each_refusal_has_a_place(queries, ours, sql, told):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql, {"n": "one"})
    assert told in caught.value.detail


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("SELECT COUNT(*) FILTER (WHERE input_tokens > 6) FROM events", 6),
        ("SELECT count(*) FILTER (WHERE input_tokens > 6) FROM events", 6),
        ("SELECT countIf(*) FROM events", 12),
    ],
)
def test_a_count_of_everything_may_be_filtered(queries, ours, sql, count):
    assert json.loads(queries.run(ours, sql).rows[0]) == [count]


@pytest.mark.parametrize(
    ("kind", "value", "seen"),
    [
        ("DateTime", "2025-06-09T00:00:00Z", "2025-06-09 00:00:00"),
        ("DateTime", "2025-06-09T02:00:00+02:00", "2025-06-09 00:00:00"),
        ("DateTime", "2025-06-09T00:00:00", "2025-06-09 00:00:00"),
        ("DateTime64(3)", "2025-06-09T00:00:00.125Z", "2025-06-09 00:00:00.125"),
        ("DateTime('Europe/Berlin')", "2025-06-09T00:00:00Z", "2025-06-09 02:00:00"),
        ("Array(DateTime)", ["2025-06-09T00:00:00Z"], ["2025-06-09 00:00:00"]),
        ("String", "2025-06-09T00:00:00Z", "2025-06-09T00:00:00Z"),
    ],
)
def test_a_parameter_takes_iso_times(queries, ours, kind, value, seen):
    (row,) = queries.run(ours, f"SELECT {{t:{kind}}} AS t", {"t": value}).rows
    assert json.loads(row) == [seen]
