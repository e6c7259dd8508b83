"""A time that is compared with a text: in every table, as the API prints it and as SQL does."""

import json

import pytest

TIMES = {
    "events": "timestamp",
    "ai_events": "timestamp",
    "calls": "timestamp",
    "traces": "started_at",
    "sessions": "ended_at",
}
EARLIER = [
    "2025-07-01T11:59:59Z",
    "2025-07-01T11:59:59.999999Z",
    "2025-07-01T13:59:59+02:00",
    "2025-07-01T11:59:59",
    "2025-07-01T11:59Z",
    "2025-07-01 11:59",
    "2025-07-01 11:59:59",
    "2025-07-01",
]


def count(queries, project_id, sql, **values):
    return json.loads(queries.run(project_id, sql, values).rows[0])[0]


@pytest.mark.parametrize("table", TIMES)
@pytest.mark.parametrize("moment", EARLIER)
def test_a_text_is_a_time_in_every_table(queries, ours, table, moment):
    time = TIMES[table]
    everything = count(queries, ours, f"SELECT count() FROM {table}")
    assert everything > 0
    for condition, expected in [
        (f"{time} >= '{moment}'", everything),
        (f"'{moment}' < t.{time}", everything),
        (f"{time} < '{moment}'", 0),
        (f"{time} BETWEEN '{moment}' AND '2025-07-02T00:00:00Z'", everything),
        (f"{time} >= '{moment}' AND {time} <= '{moment}'", 0),
    ]:
        assert count(queries, ours, f"SELECT count() FROM {table} AS t WHERE {condition}") == (
            expected
        ), condition


@pytest.mark.parametrize("table", ["events", "calls"])
def test_a_moment_is_found_by_its_text(queries, ours, table):
    at = "2025-07-01T12:00:00.000000Z"
    for condition in (f"timestamp = '{at}'", f"timestamp IN ('{at}', '2025-01-01T00:00:00Z')"):
        assert count(queries, ours, f"SELECT count() FROM {table} WHERE {condition}") > 0
    joined = f"SELECT count() FROM events AS e, calls AS c WHERE e.timestamp = '{at}'"
    assert count(queries, ours, f"{joined} AND c.timestamp >= '{at}'") == 4


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM (SELECT '{}' AS timestamp) WHERE timestamp = '{}'",
        "SELECT length('{}' AS timestamp) + (timestamp = '{}') - 20 FROM events LIMIT 1",
        "SELECT arrayCount(timestamp -> timestamp = '{}', ['{}']) FROM events LIMIT 1",
        "WITH '{}' AS timestamp SELECT timestamp = '{}' FROM events LIMIT 1",
        "SELECT max(x = '{}') FROM (SELECT '{}' AS x, timestamp FROM events)",
    ],
)
def test_a_text_beside_something_else_of_that_name_stays_as_it_is(queries, ours, sql):
    assert count(queries, ours, sql.replace("{}", "2025-07-01T12:00:00Z")) == 1
