"""Attempts at another tenant's rows, written from the documentation alone: by somebody who had not
read the guard. Each is refused, or answers with the asker's rows only; and it answers the same
whether the other tenant has rows or not, so that no error tells of them either."""

import json
from uuid import uuid4

import pytest

from nilometer.domain import clock
from nilometer.domain.ai_record import AiRecord
from nilometer.log.envelope import Envelope

SECRET = "nile-secret"
SHARED = "shared-trace"
FUTURE = "2099-12-31T00:00:00Z"
OF_AN_ANSWER = {"columns", "results", "types", "hasMore", "limit", "offset", "error", "is_cached"}
POISON = "11111111-1111-4111-8111-111111111111"  # the uuid of a row that only the other has

# What is asked, and the values of its parameters. `{other}` is the other tenant's id.
REFUSED = {
    "a table by an escaped name": ("SELECT * FROM `event\\x5fids`", None),
    "a database in quotes": ('SELECT * FROM "system"."tables"', None),
    "a database in one name": ("SELECT * FROM `system.tables`", None),
    "a name of other letters": ("SELECT * FROM ѕystem.tables", None),
    "a table right of IN": ("SELECT count() FROM events WHERE uuid IN event_ids", None),
    "a table right of in()": ("SELECT in(uuid, event_ids) FROM events", None),
    "a table in EXISTS": ("SELECT EXISTS (SELECT 1 FROM system.tables)", None),
    "a table by a parameter": ("SELECT * FROM {t:Identifier}", {"t": "event_ids"}),
    "a value with SQL in it": ("SELECT {n:UInt64}", {"n": "(SELECT count() FROM system.tables)"}),
    "a limit with SQL in it": ("SELECT 1 LIMIT {n:UInt64}", {"n": "1 SETTINGS readonly = 0"}),
    "a table beyond a CTE's scope": (
        "SELECT * FROM (WITH event_ids AS (SELECT 1 AS a) SELECT * FROM event_ids) AS z, event_ids",
        None,
    ),
    "a CTE of a database's name": ("WITH system AS (SELECT 1) SELECT * FROM system.tables", None),
    "a view of a table": ("SELECT * FROM view(SELECT * FROM system.tables)", None),
    "all tables merged": ("SELECT * FROM merge(currentDatabase(), '.*')", None),
    "the index of a table": ("SELECT * FROM mergeTreeIndex(currentDatabase(), events)", None),
    "a quoted table function": ("SELECT * FROM `numbers`(10)", None),
    "the host, as a lambda": ("SELECT arrayMap(hostName, [1])", None),
    "a global of MySQL": ("SELECT @@version", None),
    "a stored scalar": ("SELECT __getScalar('1')", None),
    "an escaped function": ("SELECT `sl\\x65ep`(1)", None),
    "a state": ("SELECT finalizeAggregation(initializeAggregation('countState', 1))", None),
    "a hidden function in TRIM": ("SELECT TRIM(BOTH hostName() FROM 'x')", None),
    "a function in a frame": (
        "SELECT count() OVER (ROWS BETWEEN hostName() PRECEDING AND CURRENT ROW) FROM events",
        None,
    ),
    "a function in INTERPOLATE": (
        "SELECT a, b FROM (SELECT 1 AS a, 2 AS b) ORDER BY a WITH FILL TO 3 "
        "INTERPOLATE (b AS hostName())",
        None,
    ),
    "a column of storage": ("SELECT events.`_part` FROM events", None),
    "a join by a hidden column": ("SELECT 1 FROM events JOIN calls USING (project_id)", None),
    "a type with code": ("SELECT JSONExtract('{}', 'a', concat('Dyna', 'mic'))", None),
    "settings in a subquery": ("SELECT * FROM (SELECT 1 SETTINGS readonly = 0)", None),
    "a plan as a table": ("SELECT * FROM (EXPLAIN SELECT 1)", None),
    "a heredoc that hides quotes": ("SELECT $$'$$, hostName(), $$'$$", None),
    "a comment that ends early": ("SELECT 1 /* */ */ FROM system.tables", None),
    "a range of a JSONPath": ("SELECT JSON_QUERY('{\"a\":[1]}', '$.a[0 to 99999999999]')", None),
    "a chain of CTEs": (
        "WITH c0 AS (SELECT 1 AS a), "
        + ", ".join(f"c{n} AS (SELECT * FROM c{n - 1})" for n in range(1, 1000))
        + " SELECT * FROM c999",
        None,
    ),
    "the zone of the host": ("SELECT toTimeZone(now(), 'localtime')", None),
    "a zone beside the zones": ("SELECT toTimeZone(now(), 'posix/localtime')", None),
    "an exception by a parameter": ("SELECT * EXCEPT ({y:Identifier}) FROM events", {"y": "uuid"}),
    "a table below properties": ("SELECT properties[(SELECT 1 FROM system.one)] FROM events", None),
}
ANSWERED = {
    "everything": ("SELECT * FROM events ORDER BY uuid", None),
    "all prompts": ("SELECT * FROM ai_events ORDER BY uuid", None),
    "all calls": ("SELECT * FROM calls ORDER BY event_uuid", None),
    "a trace of both": (f"SELECT * FROM traces WHERE trace_id = '{SHARED}'", None),
    "a session of both": ("SELECT * FROM sessions ORDER BY session_id", None),
    "a row by its uuid": (f"SELECT * FROM events WHERE uuid = toUUID('{POISON}')", None),
    "a cell of the sort key": (
        f"SELECT count() FROM events WHERE intDiv(1, toInt64(uuid != toUUID('{POISON}'))) = 7",
        None,
    ),
    "a month of the partition key": (
        "SELECT count() FROM events WHERE intDiv(1, toYYYYMM(timestamp) - 209912) = 7",
        None,
    ),
    "the ends of time": ("SELECT min(timestamp), max(timestamp), count() FROM events", None),
    "an overflowing time": (
        "SELECT count() FROM events WHERE addYears(timestamp, 200) < timestamp",
        None,
    ),
    "their words": ("SELECT arraySort(groupUniqArray(model)) FROM events", None),
    "the tenant as an alias": (
        "SELECT count(), {other} AS project_id FROM events HAVING project_id = {other}",
        None,
    ),
    "the tenant as a value": (
        "SELECT count() FROM events",
        {"project_id": "{other}", "project": "{other}", "param_project_id": "{other}"},
    ),
    "names exchanged by CTEs": (
        "WITH calls AS (SELECT * FROM events), events AS (SELECT * FROM calls) "
        "SELECT * FROM calls ORDER BY uuid",
        None,
    ),
    "names exchanged by aliases": (
        "SELECT count() FROM calls AS events JOIN events AS calls ON 1 = 1",
        None,
    ),
    "an alias that closes brackets": ("SELECT count() FROM events AS `) OR 1=1 --`", None),
    "a property that closes brackets": (
        "SELECT properties['a\\')) OR 1=1 --'], count() FROM events GROUP BY 1",
        None,
    ),
    "a comment that may end": ("SELECT 1 --\u2028, hostName()", None),
    "rows beyond a join": (
        "SELECT a.uuid FROM events AS a ANTI JOIN calls AS b ON a.uuid = b.event_uuid",
        None,
    ),
    "a regular expression of theirs": (
        "SELECT count() FROM events WHERE match(event, distinct_id)",
        None,
    ),
    "a division by their zero": ("SELECT count() FROM events WHERE intDiv(9, input_tokens)", None),
    "a text too long to repeat": (
        "SELECT max(length(repeat(distinct_id, 1000000))) FROM events",
        None,
    ),
}
# It converts each of the asker's users, and fails at any of the other's.
CONVERTED = "toInt64(distinct_id)"
PLACES = {
    "WHERE": f"SELECT count() FROM events WHERE {CONVERTED} > 5",
    "WHERE of calls": f"SELECT count() FROM calls WHERE {CONVERTED} > 5",
    "WHERE of traces": f"SELECT count() FROM traces WHERE {CONVERTED} > 5",
    "WHERE of sessions": f"SELECT count() FROM sessions WHERE {CONVERTED} > 5",
    "WHERE of ai_events": f"SELECT count() FROM ai_events WHERE {CONVERTED} > 5",
    "WHERE above": f"SELECT count() FROM (SELECT * FROM events) WHERE {CONVERTED} > 5",
    "beside a time": f"SELECT 1 FROM events WHERE timestamp > '2099-01-01' AND {CONVERTED} > 5",
    "HAVING": f"SELECT event FROM events GROUP BY event HAVING max({CONVERTED}) > 5",
    "GROUP BY": f"SELECT {CONVERTED} AS n, count() FROM events GROUP BY n ORDER BY n",
    "JOIN": "SELECT count() FROM events AS a LEFT JOIN events AS b "
    "ON a.uuid = b.uuid AND toInt64(b.distinct_id) > 5",
    "ASOF JOIN": "SELECT count() FROM traces AS t ASOF JOIN events AS e "
    "ON t.trace_id = e.trace_id AND t.started_at >= e.timestamp "
    "WHERE toInt64(e.distinct_id) > 5",
    "QUALIFY": f"SELECT 1 FROM events QUALIFY row_number() OVER (ORDER BY {CONVERTED}) = 1",
    "a frame": f"SELECT sum({CONVERTED}) OVER (ORDER BY uuid ROWS 1 PRECEDING) AS n FROM events "
    "ORDER BY n",
    "a lambda": f"SELECT arrayMap(x -> x + {CONVERTED}, [1]) AS n FROM events ORDER BY n",
    "arrayJoin": f"SELECT count() FROM events WHERE arrayJoin([{CONVERTED}]) > 5",
    "a condition": f"SELECT sum(if(distinct_id > '1', {CONVERTED}, 0)) FROM events",
    "IN": f"SELECT count() FROM events WHERE uuid IN (SELECT uuid FROM events WHERE {CONVERTED})",
    "a value": f"SELECT (SELECT max({CONVERTED}) FROM events)",
}
ATTEMPTS = REFUSED | ANSWERED | {name: (query, None) for name, query in PLACES.items()}


class Tenants:
    """The asker, whose rows are plain; what it was answered while the other had none; the other."""

    def __init__(self, world):
        self.asker, self.other = world.project(), world.foreign_project()
        for n in range(1, 4):
            send(self.asker, "own", n, distinct_id=str(n))
        world.settle()
        self.before = {name: self.ask(name) for name in ATTEMPTS}
        send(self.other, SECRET, 0, distinct_id=SECRET, uuid=POISON)
        send(self.other, SECRET, 0, distinct_id="(((", timestamp=FUTURE)
        send(self.other, SECRET, 2**63 - 1, distinct_id=SECRET * 100)
        world.settle()

    def ask(self, name, **parameters):
        sql, values = ATTEMPTS[name]
        number = str(self.other.id)
        sql = sql.replace("{other}", number)
        values = {k: v.replace("{other}", number) for k, v in (values or {}).items()}
        body = {"query": {"kind": "HogQLQuery", "query": sql, "values": values}}
        path, key = self.asker.path("query/"), self.asker.reader
        answer = self.asker.world.ask("POST", path, key, json=body, params=parameters)
        if parameters:
            return answer.status_code, answer.text
        said = answer.json()
        said.pop("timings", None)  # it differs each time
        said.pop("hogql", None)  # it is what was asked
        return answer.status_code, said


def send(project, mark, number, *, distinct_id, uuid=None, timestamp="2025-07-01T00:00:00Z"):
    """Put an event into the log that has the mark wherever text can be."""
    identity = uuid or str(uuid4())
    event = {"event": "$ai_generation", "uuid": identity, "distinct_id": distinct_id}
    ids = {"$ai_trace_id": SHARED, "$ai_session_id": SHARED, "$ai_span_id": f"{mark}-{number}"}
    properties = {"$ai_model": mark, "$ai_input": mark, "$ai_input_tokens": number, mark: mark}
    record = AiRecord(
        event=json.dumps(event | {"timestamp": timestamp}).encode(),
        properties=json.dumps(ids | properties).encode(),
        blobs=(),
        ip="127.0.0.1",
        retention_days=30,
    )
    accepted_at = clock.to_micros(clock.now())
    project.world.services.log.append_blocking(
        Envelope(project.id, identity, "ai", 1, accepted_at, 1, record.encode())
    )


@pytest.fixture(scope="module")
def tenants(world):
    return Tenants(world)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_at_the_rows_of_another_tells_nothing_of_them(tenants, name):
    status, said = tenants.ask(name)
    assert (status, said) == tenants.before[name]
    assert status == (400 if name in REFUSED else 200), said
    assert SECRET not in str(said)
    assert set(said) == ({"type", "code", "detail", "attr"} if status == 400 else OF_AN_ANSWER)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("name", ["everything", "WHERE", *list(REFUSED)[:6]])
def test_a_file_has_no_more_than_the_answer(tenants, name, form):
    status, text = tenants.ask(name, format=form)
    assert (status == 400) == (name in REFUSED), text
    assert SECRET not in text
    if name == "everything":
        assert all(row in text for row in ("own-1", "own-2", "own-3"))
        assert text.count("$ai_generation") == 3


def test_the_other_does_have_what_is_sought(tenants):
    """Or the attempts would miss it for want of a thing to find."""
    asked = {"query": {"query": f"SELECT uuid FROM events WHERE model = '{SECRET}'"}}
    path, key = tenants.other.path("query/"), tenants.other.reader
    found = tenants.other.world.ask("POST", path, key, json=asked).json()["results"]
    assert len(found) == 3
    assert [POISON] in found
    asked["query"]["query"] = PLACES["WHERE"]
    assert tenants.other.world.ask("POST", path, key, json=asked).status_code == 400
    assert (
        tenants.other.world.ask("POST", path, tenants.asker.reader, json=asked).status_code == 404
    )
