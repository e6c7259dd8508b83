"""What a new analyst wrote that could not work: the place of it, and what to write instead."""

import json

import pytest

from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.queries import ExportFormat

TOP = "WITH top AS (SELECT distinct_id FROM calls)\n"
TOLD = [
    ("SELECT avg(properties.rating) FROM events", 1, 23, "toFloat64OrNull(properties.rating)"),
    ("SELECT sumIf(properties.rating, 1) FROM events", 1, 25, "toFloat64OrNull"),
    ("SELECT quantile(0.5)(properties.n) FROM events", 1, 33, "toFloat64OrNull(properties.n)"),
    ("SELECT round(e.properties['n'], 1) FROM events AS e", 1, None, "toFloat64OrNull("),
    ("SELECT 1 FROM events WHERE properties.n >= 4", 1, 39, "toFloat64OrNull(properties.n)"),
    ("SELECT 1 FROM events WHERE -4.5 < properties.n", 1, 46, "toFloat64OrNull(properties.n)"),
    ("SELECT properties.n + 1 FROM events", 1, 19, "toFloat64OrNull(properties.n)"),
    ("SELECT properties.n::Int64 FROM ai_events AS a WHERE 0", None, None, None),
    ("SELECT\n  properties.zip::Int64 FROM events", 2, 17, "toInt64OrNull(x)"),
    ("SELECT CAST(properties.zip, 'Int64') FROM events", 1, 8, "x::Nullable(Int64)"),
    (
        "SELECT sum(input_tokens) AS input_tokens, avg(input_tokens) AS a FROM events",
        1, 29, "`input_tokens` is by AS the name of an expression",
    ),
    (
        "SELECT max(timestamp) AS timestamp, model FROM calls WHERE timestamp > '2025-01-14' "
        "GROUP BY model",
        1, 26, "give the expression another name",
    ),
    (
        "SELECT toDate(timestamp) AS timestamp FROM calls WHERE timestamp > '2025-01-14 12:00:00'",
        1, 29, "`timestamp` is by AS",
    ),
    ("SELECT quantile(latency, 0.5) FROM calls", 1, 8, "quantile(0.5)(latency)"),
    ("SELECT quantileExactIf(0.9, latency, 1) FROM calls", 1, 8, "quantileExactIf(0.9)(latency)"),
    ("SELECT sum(coalesce(cost_total, 0.0)) FROM calls", 1, 8, "write 0 for 0.0"),
    (
        "SELECT count() OVER (ORDER BY timestamp RANGE BETWEEN 3600 PRECEDING AND CURRENT ROW) "
        "FROM calls",
        1, 41, "ORDER BY toUnixTimestamp(timestamp)",
    ),
    (
        "SELECT count() OVER (ORDER BY timestamp ROWS BETWEEN INTERVAL 1 HOUR PRECEDING AND "
        "CURRENT ROW) FROM calls",
        1, 46, "toUnixTimestamp(timestamp)",
    ),
    ("SELECT JSONExtract(properties, 'app') FROM events", 1, 8, "JSONExtract(…, 'String')"),
    (
        "SELECT toDate(timestamp) AS d FROM calls GROUP BY d ORDER BY d WITH FILL "
        "INTERPOLATE (d AS 0)",
        1, 74, "INTERPOLATE is not available",
    ),
    (
        "SELECT c.model FROM calls AS c WHERE c.latency > "
        "(SELECT max(latency) FROM calls AS x WHERE x.model = c.model)",
        1, 105, "A subquery sees its own tables only: write a JOIN",
    ),
    (
        "SELECT t.trace_id FROM traces t WHERE EXISTS "
        "(SELECT 1 FROM events e WHERE e.trace_id = t.trace_id)",
        1, 91, "write a JOIN",
    ),
    (TOP + "SELECT 1 FROM calls WHERE distinct_id IN top", 2, 42, "IN (SELECT … FROM top)"),
    (TOP + "SELECT 1 FROM calls WHERE distinct_id NOT IN (top)", 2, 47, "FROM top"),
    ("SELECT event AS x FROM events WHERE 1 IN events", 1, 42, "IN (SELECT … FROM …)"),
    ("SELECT model AS `on` FROM calls GROUP BY `on`", 1, 17, "on is a word of SQL"),
    ("SELECT model AS by_on, JSONExtractArrayRaw(tools) FROM ai_events", 1, 24, "ifNull(x, '[]')"),
    ("SELECT row_number() OVER w AS n FROM calls QUALIFY n = 1 WINDOW w AS (ORDER BY model)",
     1, 58, "WINDOW stands before QUALIFY"),
    ("SELECT arrayReduce('sum', [1])", 1, 8, "arraySum()"),
    ("SELECT sumState(latency) FROM calls", 1, 8, "aggregate that again in a query around it"),
    ("SELECT runningDifference(latency) FROM calls", 1, 8, "lagInFrame"),
    ("SELECT neighbor(latency, 1) FROM calls", 1, 8, "lagInFrame"),
    ("SELECT printf('%.2f', latency) FROM calls", 1, 8, "format()"),
    ("SELECT 1 FROM events WHERE timestamp > '18.11.2026'", None, None, "2025-07-01T12:00:00Z"),
    ("SELECT 1 FROM calls WHERE timestamp > 'yesterday'", None, None, "2025-07-01T12:00:00Z"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "line", "column", "advice"), TOLD, ids=range(len(TOLD)))
def test_a_query_that_cannot_work_is_told_what_to_write(queries, ours, sql, line, column, advice):
    if advice is None:
        queries.run(ours, sql)  # it can, where no row fails it
        return
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql)
    assert advice in caught.value.detail
    if column is not None:
        assert caught.value.detail.startswith(f"Line {line}, column {column}: ")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT avg(toFloat64OrNull(properties.n)) FROM events",
        "SELECT avg(properties.$ai_input_tokens) FROM events",
        "SELECT count() FROM events WHERE properties.$ai_input_tokens >= 4",
        "SELECT count() FROM events WHERE properties.n = '4'",
        "SELECT max(properties.n), uniq(properties.n), any(properties.n) FROM events",
        "SELECT quantileExactWeighted(0.5)(input_tokens, 2) FROM events",
        "SELECT quantileIf(0.5)(input_tokens, 1) FROM events",
        "SELECT arraySum(properties -> properties + 1, [1]) FROM events",
        "SELECT sum(input_tokens) AS input_tokens FROM events",
    ],
)
def test_what_works_is_left_alone(queries, ours, sql):
    assert queries.run(ours, sql).rows


def test_a_bare_union_is_that_of_the_standard(queries, ours):
    """Its parts are written as those of UNION DISTINCT, so it can do no more than that."""
    for sql, expected in [
        ("SELECT 1 AS x UNION SELECT 1", [[1]]),
        ("SELECT 1 AS x UNION ALL SELECT 1 UNION SELECT 1", [[1]]),
        ("SELECT 1 AS x UNION SELECT 1 UNION ALL SELECT 1", [[1], [1]]),
        ("SELECT 1 AS x EXCEPT SELECT 2", [[1]]),
    ]:
        assert [json.loads(row) for row in queries.run(ours, sql).rows] == expected, sql


def test_a_standard_type_converts(queries, ours):
    sql = "SELECT CAST('7' AS INTEGER), CAST(1 AS DOUBLE PRECISION), 7::VARCHAR(3), 1::BIGINT"
    answer = queries.run(ours, sql)
    assert json.loads(answer.rows[0]) == [7, 1, "7", 1]
    assert [kind for _, kind in answer.types] == ["Int32", "Float64", "String", "Int64"]


def test_an_export_is_advised_as_an_answer_is(queries, ours):
    sql = "SELECT sum(latency) AS latency, avg(latency) FROM events"
    for output in ExportFormat:
        with pytest.raises(SqlError, match="`latency` is by AS"):
            list(queries.export(ours, sql, output=output))
