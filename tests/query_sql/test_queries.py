"""Answers, exports, parameters, and the sentences about what cannot run."""

import json

import pytest

from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.queries import ExportFormat

NUMBERS = "SELECT arrayJoin(range({n})) AS x"


def refused(queries, project_id, sql, **values):
    with pytest.raises(SqlError) as caught:
        queries.run(project_id, sql, values)
    return caught.value


def rows(queries, project_id, sql, **values):
    return [json.loads(row) for row in queries.run(project_id, sql, values).rows]


def test_a_hundred_rows_unless_limit_says_otherwise(queries, ours):
    for sql, count, more in [
        (NUMBERS.format(n=100), 100, False),
        (NUMBERS.format(n=101), 100, True),
        (NUMBERS.format(n=500) + " LIMIT 200", 200, True),
        (NUMBERS.format(n=200) + " LIMIT 200", 200, False),
        (NUMBERS.format(n=60_000) + " LIMIT 60000", 50_000, True),
        (NUMBERS.format(n=500) + " LIMIT 0", 0, True),
        (f"SELECT x FROM ({NUMBERS.format(n=150)}) UNION ALL SELECT 1", 100, True),
    ]:
        answer = queries.run(ours, sql)
        assert (len(answer.rows), answer.has_more) == (count, more), sql
    answer = queries.run(ours, NUMBERS.format(n=50) + " ORDER BY x LIMIT 10 OFFSET 45")
    assert (answer.limit, answer.offset) == (10, 45)
    assert [json.loads(row) for row in answer.rows] == [[45], [46], [47], [48], [49]]


def test_columns_are_named_as_written_and_types_are_clickhouses(queries, ours):
    answer = queries.run(
        ours,
        "SELECT properties.$ai_model, upper(properties['$ai_model']), count(*), toFloat64(1) AS f "
        "FROM events GROUP BY 1, 2 ORDER BY 1",
    )
    assert answer.columns == ["$ai_model", "upper(properties['$ai_model'])", "count(*)", "f"]
    assert [kind for _, kind in answer.types] == [
        "Nullable(String)",
        "Nullable(String)",
        "UInt64",
        "Float64",
    ]
    assert json.loads(answer.rows[0]) == ["model-0", "MODEL-0", 6, 1]
    assert set(answer.timings) == {"guard", "execute"}


def test_money_keeps_every_digit(queries, ours):
    (row,) = rows(queries, ours, "SELECT sum(total_cost_usd) FROM events")
    assert row == ["0.000000000000000078"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties.n", "1"),
        ("properties.deep", '{"list":[1,2,0]}'),
        ("properties.deep.list", "[1,2,0]"),
        ("properties['deep']['list'][2]", "2"),
        ("e.properties.deep['list']", "[1,2,0]"),
        ("events.properties.text", None),
        ("properties.nothing", None),
        ("properties[concat('te', 'xt')]", "word 0"),
        ("properties.`$ai_input`", '[{"role":"user"}]'),
    ],
)
def test_a_path_into_the_properties(queries, ours, path, value):
    if path.startswith("events."):
        path, value = path.replace("events.", ""), "word 0"
    sql = f"SELECT {path} AS v FROM events AS e ORDER BY timestamp LIMIT 1"
    assert rows(queries, ours, sql) == [[value]]


def test_parameters_are_values_and_never_sql(queries, ours):
    sql = "SELECT {a:String}, {n:UInt32} + 1, {l:Array(String)}, {z:Nullable(Int8)}, {f:Float64}"
    hostile = "x' OR 1 -- \\ {b:String} \t\n"
    assert rows(queries, ours, sql, a=hostile, n=41, l=["a'", "b"], z=None, f=1.5) == [
        [hostile, 42, ["a'", "b"], None, 1.5]
    ]
    limited = NUMBERS.format(n=50) + " LIMIT {n:UInt8} OFFSET {m:UInt8}"
    assert len(rows(queries, ours, limited, n=7, m=2)) == 7
    assert "no value" in refused(queries, ours, sql).detail
    assert "text, a number" in refused(queries, ours, "SELECT {a:String}", a={"b": 1}).detail
    assert "does not fit" in refused(queries, ours, "SELECT {a:Int8}", a="x").detail


@pytest.mark.parametrize(
    ("sql", "place", "words"),
    [
        ("SELECT event\nFORM events", "Line 2, column 6", "“events”"),
        ("SELECT 'é',\n  modle FROM events", "Line 2, column 3", "Did you mean model?"),
        ("SELECT event FROM evnts", "Line 1, column 19", "Did you mean events?"),
        ("SELECT\n\n  toStartOfDey(timestamp) FROM events", "Line 3, column 3", "toStartOfDay()"),
        ("SELECT event, count() FROM events GROUP BY model", "Line 1, column 8", "GROUP BY"),
        ("SELECT properties.$ai_model, count() FROM events", "Line 1, column 19", "$ai_model`"),
        ("SELECT properties.plan, count() FROM events", "Line 1, column 8", "Put `properties`"),
        ("SELECT lower(1)", "Line 1, column 8", "toString()"),
        ("SELECT 1; SELECT 2", "", "Send one query"),
        ("SELECT 'it", "Line 1, column 8", "cannot be read"),
        ("", "", "cannot be read"),
        ("SELECT 1 FROM events PREWHERE 1", "Line 1, column 22", "write WHERE"),
        ("SELECT 1 WHERE 1 IN events", "Line 1, column 21", "IN (SELECT"),
        ("SELECT toInt64('x')", "", "OrNull"),
        ("SELECT (SELECT arrayJoin([1, 2]))", "", "more than one row"),
        ("SELECT intDiv(1, 0)", "", "divided by zero"),
        (
            "SELECT a.x FROM events AS a JOIN traces AS b USING (trace_id)",
            "Line 1, column 10",
            "x`",
        ),
        ("DROP TABLE events", "", "Only a SELECT"),
        ("SELECT * FROM events LIMIT -1", "Line 1, column 22", "whole numbers"),
    ],
)
def test_an_error_says_where_and_what_to_change(queries, ours, sql, place, words):
    error = refused(queries, ours, sql)
    assert words in error.detail
    assert error.detail.startswith(place)
    assert error.attr == "query"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 3000 + "1" + ")" * 3000,
        "SELECT " + "1 + " * 20_000 + "1",
        "SELECT '" + "x" * 70_000 + "'",
        "SELECT " + "NOT " * 5000 + "1",
        "SELECT * FROM " + "(SELECT * FROM " * 60 + "events" + ")" * 60,
        "WITH a0 AS (SELECT 1 AS x), "
        + ", ".join(f"a{n + 1} AS (SELECT p.x FROM a{n} AS p, a{n} AS q)" for n in range(20))
        + " SELECT * FROM a20",
    ],
)
def test_a_monstrous_query_is_refused(queries, ours, sql):
    refused(queries, ours, sql)


def test_every_part_of_a_query(queries, ours):
    sql = """
    WITH per_user AS (SELECT distinct_id, count() AS n FROM events GROUP BY distinct_id),
         (SELECT max(n) FROM per_user) AS most, 2 AS two
    SELECT u.distinct_id AS user, u.n / most AS share, arraySum(arrayMap(x -> x * two, [1, 2])),
           row_number() OVER w AS place, quantile(0.5)(e.input_tokens) AS half
    FROM per_user AS u
    LEFT JOIN (SELECT * FROM events WHERE input_tokens > 0) AS e ON e.distinct_id = u.distinct_id
    ARRAY JOIN [1] AS one
    WHERE u.distinct_id IN ('1', '2') AND u.distinct_id NOT IN (SELECT '9') AND one IS NOT NULL
    GROUP BY u.distinct_id, u.n
    HAVING count() BETWEEN 1 AND 100
    WINDOW w AS (ORDER BY u.distinct_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ORDER BY user DESC NULLS LAST
    LIMIT 1 BY user
    LIMIT 5
    """
    assert rows(queries, ours, sql.replace("ARRAY JOIN [1] AS one", "").replace(
        " AND one IS NOT NULL", ""
    )) == [["2", 1, 6, 2, 6.5], ["1", 1, 6, 1, 5.5]]  # fmt: skip


def test_a_call_is_there_once_with_its_best_source(store, queries, project_id):
    from tests.query_sql.tenants import call_row

    better = call_row(project_id, "one") | {"source_rank": 0, "model": None}
    store.insert("calls", [call_row(project_id, "one"), better, call_row(project_id, "two")])
    assert rows(queries, project_id, "SELECT call_id, model FROM calls ORDER BY call_id") == [
        ["one", None],
        ["two", "two"],
    ]


def test_exports_have_all_rows_in_every_format(queries, ours):
    sql = (
        "SELECT number AS n, toString(number) AS s FROM (SELECT arrayJoin(range(70000)) AS number)"
    )

    def export(output, text=sql):
        return b"".join(queries.export(ours, text, output=ExportFormat(output)))

    lines = export("jsonl").splitlines()
    assert len(lines) == 70_000
    assert json.loads(lines[-1])["s"] == str(json.loads(lines[-1])["n"])
    table = export("csv").decode().splitlines()
    assert table[0] == '"n","s"'
    assert len(table) == 70_001
    assert table.count('"n","s"') == 1
    assert export("parquet")[:4] == b"PAR1"
    assert export("arrow")[:4] == b"\xff\xff\xff\xff"
    assert len(export("jsonl", sql + " LIMIT 5").splitlines()) == 5
    assert export("csv", sql + " WHERE n < 0") == b'"n","s"\n'
    assert export("jsonl", sql + " WHERE n < 0") == b""


def test_an_export_that_is_closed_early_stops(queries, ours):
    sql = "SELECT arrayJoin(range(9000000)) AS n"
    pieces = queries.export(ours, sql, output=ExportFormat.JSONL)
    assert next(pieces).startswith(b'{"n":0}')
    pieces.close()
    assert rows(queries, ours, "SELECT 1") == [[1]]


def test_an_error_of_an_export_is_told_as_elsewhere(queries, ours):
    for output in ExportFormat:
        with pytest.raises(SqlError):
            list(queries.export(ours, "SELECT intDiv(1, 0)", output=output))
        with pytest.raises(SqlError, match="Did you mean model"):
            list(queries.export(ours, "SELECT modle FROM events", output=output))


def test_a_slow_query_ends_in_its_time(store, ours):
    from nilometer.query.sql.queries import SqlQueries

    cross = "WITH x AS (SELECT arrayJoin(range(5000000)) AS a) SELECT sum(x.a + y.a) FROM x, x AS y"
    error = refused(SqlQueries(store, seconds=1), ours, cross)
    assert error.code == "timeout_exceeded"
    assert error.detail.startswith("This takes too long")
