"""Paths into `properties` read a column where one has the value, and mean the same everywhere else.

The rule, as docs/sql.md tells it: where `properties` is a table's own, a property with a typed
column is that column; every other value is what the JSON text has.
"""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.clickhouse import migrate
from nilometer.conventions import ai_event
from nilometer.conventions.ai_properties import PROPERTIES
from nilometer.query.sql import grammar
from nilometer.query.sql.selects import Rows, compiled
from nilometer.query.sql.tables import HEAVY, TYPED
from tests.projects import new_project_id
from tests.query.rows import event_row, insert

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number or 0.0)
    | st.sampled_from([0, 1, 1.0, 1e5, 1e22, 0.1, "", "1", "1.5", "true", "0.00012"])
    | st.text(st.characters(codec="utf-8"), max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
OTHERS = ["plan", "a'b", "a\\b", "a/b", "a.b", "é", '"', "$lib", "properties", "events", "1", ""]
NAMES = st.sampled_from([*TYPED, *HEAVY, *OTHERS])
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=12)
INNER = "(SELECT uuid, properties AS text FROM events)"


def quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def rows(queries, project_id, sql):
    return [json.loads(row) for row in queries.run(project_id, sql).rows]


def written(sql: str) -> str:
    return compiled(grammar.parse(sql), 7, {}, Rows(1, 1)).sql.partition(" FROM (SELECT")[0]


def stored(project_id: int, number: int, properties: dict) -> dict:
    known = ai_event.columns("$ai_generation", properties)
    text = json.dumps(properties, ensure_ascii=False)
    return event_row(project_id, at=number, **known, properties=text)


READERS = [
    "JSONExtract({}, {}, 'Nullable(String)')",
    "JSONExtract({}, {}, 1, 'Nullable(String)')",
    "JSONExtractRaw({}, {})",
    "JSONExtractString({}, {})",
    "JSONExtractFloat({}, {})",
    "JSONExtractBool({}, {})",
    "JSONExtractKeys({}, {})",
    "JSONExtractArrayRaw({}, {})",
    "JSONExtract({}, {}, 'Array(Nullable(Float64))')",
    "JSONLength({}, {})",
    "JSONHas({}, {})",
]


@settings(max_examples=3)
@given(st.lists(OBJECTS, min_size=40, max_size=40))
def test_a_path_gives_the_column_or_what_the_text_has(store, queries, many):
    project_id = new_project_id()
    insert(store, [stored(project_id, number, each) for number, each in enumerate(many)])
    for name, column in TYPED.items():
        path = f"properties[{quoted(name)}]"
        same = f"toTypeName({path}) = toTypeName({column})"
        sql = f"SELECT DISTINCT {path} IS NOT DISTINCT FROM {column}, {same} FROM events"
        assert rows(queries, project_id, sql) == [[1, 1]], name
    for name in [*OTHERS, *HEAVY]:
        for text, table in [("properties", "events"), ("text", INNER)]:
            reads = ", ".join(each.format(text, quoted(name)) for each in READERS)
            sql = f"SELECT {reads} FROM {table} ORDER BY uuid"
            if text == "properties":
                read = rows(queries, project_id, f"SELECT properties[{quoted(name)}], {sql[7:]}")
            else:
                assert [[row[0], *row] for row in rows(queries, project_id, sql)] == read, name
    keys = [
        rows(queries, project_id, f"SELECT JSONExtractKeys({text}) FROM {table} ORDER BY uuid")
        for text, table in [("properties", "events"), ("text", INNER)]
    ]
    assert keys[0] == keys[1]


OTHER = "JSONExtract(`{0}`.`$other`, 'plan'"
TEXT = "JSONExtract(`properties`, "


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("SELECT properties.`$ai_model` FROM events", "`events`.`model` AS `$ai_model`"),
        ("SELECT properties['$ai_model'] FROM events", "`events`.`model` AS `$ai_model`"),
        ("SELECT properties.`$ai_model` FROM events AS e", "`e`.`model`"),
        ("SELECT e.properties.`$ai_model` FROM events AS e", "`e`.`model`"),
        ("SELECT properties.`$ai_model` FROM ai_events", "`ai_events`.`model`"),
        ("SELECT properties.plan FROM events", OTHER.format("events")),
        ("SELECT properties.plan.tier FROM events", "`$other`, 'plan', 'tier'"),
        ("SELECT properties.`$ai_error`.message FROM events", "`.`properties`, '$ai_error'"),
        ("SELECT properties.`$ai_input` FROM events", "(`events`.`properties`, '$ai_input'"),
        ("SELECT properties.`$ai_input` FROM ai_events", "(ifNull(`ai_events`.`input`, ''), 'N"),
        ("SELECT properties.`$ai_input`[1] FROM ai_events", "(ifNull(`ai_events`.`input`, ''), 1"),
        ("SELECT properties[concat('a', 'b')] FROM events", "(`events`.`properties`, concat("),
        ("SELECT properties[1] FROM events", "(`events`.`properties`, 1"),
        ("SELECT *, properties.plan FROM events", "(`events`.`properties`, 'plan'"),
        ("SELECT *, properties.`$ai_model` FROM events", "`events`.`model`"),
        ("SELECT arrayMap(x -> properties.plan, [1]) FROM events", OTHER.format("events")),
        ("SELECT properties.`$ai_model`, count() AS events FROM events", "`events`.`model`"),
        ("WITH properties.`$ai_model` AS m SELECT m FROM events", "WITH `events`.`model` AS `m`"),
        ("WITH e.model AS m SELECT m FROM events AS e", "WITH `e`.`model` AS `m`"),
        ("SELECT properties.plan FROM events AS e JOIN calls USING (trace_id)", "`e`.`$other`"),
        (
            "SELECT properties.plan FROM events AS e JOIN (SELECT trace_id FROM traces) AS t "
            "USING (trace_id)",
            "`e`.`$other`",
        ),
        ("SELECT toInt64OrNull(properties.`$ai_input_tokens`) FROM events", "toString(`events`."),
        ("SELECT JSONExtractString(properties, 'plan') FROM events", "(`events`.`$other`, 'plan')"),
        ("SELECT JSONExtract(properties, 'String') FROM events", "JSONExtract(`properties`, 'Str"),
        ("SELECT JSONExtractRaw(properties, '$ai_model') FROM events", "(`events`.`properties`, "),
    ],
)  # fmt: skip
def test_a_column_is_read_where_it_has_the_value(sql, part):
    assert part in written(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT properties.`$ai_model` FROM (SELECT * FROM events) AS e",
        "WITH e AS (SELECT properties FROM events) SELECT properties.`$ai_model` FROM e",
        "WITH events AS (SELECT '{}' AS properties) SELECT properties.`$ai_model` FROM events",
        "SELECT properties.`$ai_model`, '{}' AS properties FROM events",
        "WITH '{}' AS properties SELECT properties.`$ai_model` FROM events",
        "SELECT properties, properties.`$ai_model` FROM events GROUP BY properties",
        "SELECT properties.`$ai_model` FROM events AS e JOIN events AS f USING (uuid)",
        "SELECT properties.`$ai_model` FROM (SELECT * FROM events) AS x JOIN events USING (uuid)",
        "SELECT properties.`$ai_model` FROM events ARRAY JOIN ['{}'] AS properties",
    ],
)  # fmt: skip
def test_properties_that_are_not_a_tables_own_are_text(sql):
    assert TEXT in written(sql)


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT arrayMap(properties -> properties.1, [('m', 2)]) FROM events", [["m"]]),
        ("SELECT arrayMap(events -> properties.plan, [1]) FROM events", [["free"]]),
        ("SELECT properties.events, properties.plan FROM events", [None, "free"]),
        ("SELECT properties.properties, properties.plan FROM events", ["own", "free"]),
        ("SELECT properties.$ai_input_tokens + 1, properties.$ai_is_error = 'true' FROM events",
         [8, 1]),
        ("SELECT toInt64OrNull(properties.$ai_input_tokens), "
         "toFloat64OrZero(properties.$ai_latency) FROM events", [7, 1.5]),
        ("SELECT properties.$ai_total_cost_usd, properties.$ai_model FROM ai_events",
         ["0.000000000000000001", "m"]),
        ("SELECT properties.$ai_input, properties.$ai_input[1].content, properties.plan "
         "FROM ai_events", ['[{"content":"How high?"}]', "How high?", "free"]),
        ("SELECT JSONExtractKeys(properties) FROM ai_events",
         [["plan", "properties", "$ai_input_tokens", "$ai_model"]]),
        ("SELECT e.properties.$ai_model, f.properties.plan FROM events AS e JOIN events AS f "
         "ON e.uuid = f.uuid WHERE e.properties.$ai_model = 'm' AND f.properties.plan = 'free'",
         ["m", "free"]),
        ("SELECT properties.$ai_model AS model, count() AS events FROM events GROUP BY model "
         "HAVING model = 'm' ORDER BY events", ["m", 1]),
        ("SELECT x.plan FROM (SELECT properties.plan AS plan FROM events) AS x", ["free"]),
        ("SELECT * EXCEPT (properties), properties.plan AS p FROM (SELECT properties FROM events)",
         ["free"]),
    ],
)  # fmt: skip
def test_the_answer_is_the_same_wherever_a_path_stands(store, queries, sql, answer):
    project_id = new_project_id()
    properties = {
        "plan": "free",
        "properties": "own",
        "$ai_input_tokens": 7,
        "$ai_input": [{"content": "How high?"}],
        "$ai_model": "m",
    }
    row = stored(project_id, 0, properties)
    row |= {"is_error": True, "latency": 1.5, "total_cost_usd": Decimal("1e-18")}
    insert(store, [row])
    assert rows(queries, project_id, sql) == [answer]


def test_star_has_the_documented_columns_only(queries, ours):
    answer = queries.run(ours, "SELECT *, properties.n FROM events LIMIT 1")
    assert not [name for name in answer.columns if name in ("$other", "$names")]


def test_the_columns_apart_leave_out_what_has_a_column():
    (text,) = (each.text for each in migrate.migrations() if each.name == "narrow_columns")
    left_out = text.partition("NOT IN (")[2].partition(")")[0]
    names = [each.strip().strip("'") for each in left_out.split(",")]
    assert [name.replace("$$", "$") for name in names] == [
        known.name for known in PROPERTIES if known.name in TYPED or known.name in HEAVY
    ]


def test_a_trace_is_named_by_its_trace_then_a_name_then_its_root(store, queries):
    project_id = new_project_id()
    step = {"event": "$ai_span", "parent_id": "p"}
    named = {
        "a": [step | {"trace_name": "1"}, {"event": "$ai_trace", "span_name": "2"}],
        "b": [step | {"span_name": "1"}, {"span_name": "2"}, step | {"trace_name": "3"}],
        "c": [step | {"span_name": "1"}, {"span_name": "2"}, {"span_name": "3"}],
        "d": [step | {"span_name": "1"}, {"event": "$ai_trace"}],
    }
    insert(
        store,
        [
            event_row(project_id, at=at, trace_id=trace, **each)
            for trace, events in named.items()
            for at, each in enumerate(events)
        ],
    )
    sql = "SELECT trace_id, name FROM traces ORDER BY trace_id"
    assert rows(queries, project_id, sql) == [["a", "2"], ["b", "3"], ["c", "2"], ["d", None]]
