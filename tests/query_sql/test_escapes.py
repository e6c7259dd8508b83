"""No query reads a row of another project, a file, the server, or a table that is not virtual.

Each escape either is refused or answers from our rows only: neither the answer nor the error has
the marker that every row of the others is full of.
"""

import pytest

from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.queries import SqlQueries
from tests.query_sql.tenants import MARKER

# What the engine or the machine would say if a query got through.
TELLTALES = (MARKER, "root:", "DB::", "nilometer.", "formatQuery", "In scope", "version 2")

# Each tried to leave the fence. The first group are those that once got through (tried.md).
HISTORY = r"""
SELECT 1 WHERE 'x' IN events
SELECT 1 WHERE '1' IN nilometer.events
SELECT 1 WHERE ('x', 1) IN (nilometer.events)
SELECT 1 WHERE 'x' IN (events)
SELECT 1 WHERE 'x' NOT IN nilometer.event_ids
SELECT 1 WHERE 'x' GLOBAL IN nilometer.event_ids
SELECT s FROM events ARRAY JOIN (SELECT groupArray(distinct_id) FROM nilometer.events) AS s
SELECT s FROM events LEFT ARRAY JOIN (SELECT groupArray(distinct_id) FROM events) AS s
SELECT * FROM (WITH ev AS (SELECT 1 AS s) SELECT * FROM ev) x CROSS JOIN (SELECT s FROM ev)
SELECT * FROM (WITH event_ids AS (SELECT 1) SELECT * FROM event_ids) AS a, event_ids
SELECT * FROM merge('nilometer', '^events$')
SELECT * FROM merge('nilometer', 'e')
SELECT file('/etc/hostname')
SELECT * FROM file('/etc/passwd', 'LineAsString')
SELECT * FROM events INTO OUTFILE 'escape.csv'
KILL QUERY WHERE 1
USE nilometer
SHOW CREATE TABLE nilometer.events
SELECT * FROM mergeTreeIndex('nilometer', 'events')
SELECT * FROM events SETTINGS additional_table_filters = {}
SELECT * FROM (SELECT * FROM events SETTINGS additional_table_filters = {'nilometer.events':'1'})
EXPLAIN SELECT * FROM events
EXPLAIN QUERY TREE run_passes = 1 SELECT (SELECT max(distinct_id) FROM nilometer.events)
"""
PREDICATES = r"""
SELECT count() FROM events WHERE toInt64(distinct_id) > 0
SELECT count() FROM events WHERE toInt64(trace_id) > 0 AND toInt64(session_id) > 0
SELECT count() FROM events WHERE intDiv(1, input_tokens) >= 0
SELECT count() FROM (SELECT * FROM events) WHERE toInt64(distinct_id) > 0
SELECT count() FROM events e JOIN events f ON toInt64(e.distinct_id) = toInt64(f.distinct_id)
SELECT count() FROM events HAVING sum(toInt64(distinct_id)) > 0
SELECT max(intDiv(1, input_tokens)) FROM events
SELECT count() FROM events WHERE toDecimal32(toUnixTimestamp(timestamp), 0) > 0
SELECT count() FROM events WHERE intDiv(1, toUnixTimestamp(timestamp)) >= 0
SELECT count() FROM traces WHERE toInt64(trace_id) > 0
SELECT count() FROM sessions WHERE toInt64(session_id) > 0
SELECT count() FROM calls WHERE toInt64(call_id) > 0
SELECT count() FROM ai_events WHERE toInt64(distinct_id) > 0
SELECT throwIf(distinct_id = 'OTHERS' || '-SECRET', distinct_id) FROM events
SELECT count() FROM events WHERE throwIf(distinct_id LIKE '%SECRET%') = 0
SELECT count() FROM events PREWHERE toInt64(distinct_id) > 0
SELECT accurateCast(distinct_id, 'Int64') FROM events
SELECT CAST(distinct_id, 'Enum8(\'a\' = 1)') FROM events
SELECT 1 FROM events WHERE 1 OR 1
SELECT * FROM events WHERE 1 OR project_id > 0
SELECT project_id FROM events
SELECT events.project_id FROM events
SELECT _table, _part, _partition_id FROM events
SELECT * FROM events WHERE 1) OR (1
SELECT * FROM events WHERE 1; SELECT * FROM nilometer.events
SELECT * FROM events -- ) AS events; SELECT * FROM nilometer.events
SELECT * FROM events /* */ WHERE /* ' */ 1 OR /* ' */ 1
SELECT '\') UNION ALL SELECT distinct_id FROM nilometer.events --'
SELECT 1 AS `x\`) UNION ALL SELECT distinct_id FROM nilometer.events --`
SELECT 1 AS "x\") UNION ALL SELECT distinct_id FROM nilometer.events --"
"""
NEWER = r"""
SELECT grouping(distinct_id) FROM nilometer.events GROUP BY distinct_id WITH ROLLUP
SELECT dayName(throwIf(1))
SELECT dayName((SELECT max(timestamp) FROM nilometer.events))
SELECT NVL(hostName(), getSetting('max_threads'))
SELECT 1 FROM events WHERE 'x' IN events UNION SELECT 1
SELECT distinct_id FROM events UNION SELECT distinct_id FROM nilometer.events
SELECT distinct_id FROM events UNION SELECT * FROM event_ids
WITH top AS (SELECT 1) SELECT 1 WHERE 'x' IN nilometer.top
WITH events AS (SELECT 'x' AS distinct_id) SELECT 1 WHERE 'x' IN events
SELECT CAST(1 AS VARCHAR(1)) FROM nilometer.events
SELECT CAST(distinct_id, 'VARCHAR(1), String) FROM nilometer.events --')
SELECT count() FROM events WHERE timestamp < '1970-01-02T00:00Z' OR timestamp > '2299-12-30T00:00Z'
SELECT count() FROM events WHERE timestamp IN ('1970-01-01T00:00:00Z', '2299-12-31T00:00:00Z')
SELECT toUnixTimestamp(timestamp) FROM events WHERE timestamp < '1970-01-02T00:00:00Z'
SELECT cost_total * cost_total * cost_total * cost_total * 1000000 FROM calls
SELECT sum(cost_total) FROM calls WHERE cost_total > 1000000
"""
NAMES = r"""
SELECT * FROM nilometer.events
SELECT * FROM `nilometer`.`events`
SELECT * FROM "nilometer"."events"
SELECT * FROM `nilometer.events`
SELECT * FROM event_ids
SELECT * FROM schema_migrations
SELECT * FROM system.tables
SELECT * FROM system.one
SELECT * FROM `system`.query_log
SELECT * FROM information_schema.tables
SELECT * FROM INFORMATION_SCHEMA.COLUMNS
SELECT nilometer.events.distinct_id FROM events
SELECT x FROM events AS nilometer, nilometer.events AS x
SELECT * FROM events AS e JOIN nilometer.events AS f ON 1 = 1
SELECT * FROM events, nilometer.events
SELECT * FROM (SELECT * FROM nilometer.events)
SELECT (SELECT max(distinct_id) FROM nilometer.events)
SELECT * FROM events WHERE distinct_id IN (SELECT distinct_id FROM nilometer.events)
SELECT * FROM events WHERE exists(SELECT 1 FROM nilometer.events)
SELECT distinct_id FROM events UNION ALL SELECT distinct_id FROM nilometer.events
SELECT distinct_id FROM events EXCEPT SELECT distinct_id FROM nilometer.events
SELECT distinct_id FROM nilometer.events INTERSECT SELECT distinct_id FROM nilometer.events
WITH events AS (SELECT * FROM nilometer.events) SELECT * FROM events
WITH events AS (SELECT * FROM events) SELECT * FROM events
WITH x AS (SELECT * FROM y), y AS (SELECT * FROM nilometer.events) SELECT * FROM x
WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT * FROM r) SELECT * FROM r
WITH events AS (SELECT 1 AS distinct_id) SELECT * FROM (SELECT * FROM events) UNION ALL SELECT 1
WITH 1 AS events SELECT * FROM events
WITH (SELECT max(distinct_id) FROM nilometer.events) AS m SELECT m
WITH x -> file(x) AS lower SELECT lower('/etc/hostname')
SELECT * FROM events AS events(project_id)
SELECT * FROM ꓰvents
SELECT * FROM ｅｖｅｎｔｓ
SELECT * FROM nilometer．events
SELECT＊FROM nilometer.events
FROM nilometer.events SELECT *
TABLE nilometer.events
DESCRIBE TABLE nilometer.events
SELECT {x:Identifier} FROM events
SELECT * FROM {t:Identifier}
SELECT * FROM {t:Identifier}.events
SELECT * FROM events WHERE distinct_id IN {t:Identifier}
SELECT {x:String} FROM events
SELECT {x:AggregateFunction(count)} FROM events
"""
STARS = r"""
SELECT * EXCEPT (distinct_id) FROM events
SELECT * EXCEPT (`distinct_id`) REPLACE (1 AS event) FROM nilometer.events
SELECT * REPLACE (file('/etc/hostname') AS event) FROM events
SELECT * APPLY(toString) FROM events
SELECT * APPLY(file) FROM events
SELECT * APPLY(x -> file('/etc/hostname')) FROM events
SELECT COLUMNS('.*') FROM events
SELECT COLUMNS('project_id') FROM events
SELECT COLUMNS(project_id, distinct_id) FROM events
SELECT events.COLUMNS('.*') FROM events
SELECT nilometer.events.* FROM events
SELECT nilometer.* FROM events
SELECT untuple(tuple(*)) FROM events
"""
FUNCTIONS = r"""
SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')
SELECT * FROM s3('http://127.0.0.1:1/x', 'CSV')
SELECT * FROM remote('127.0.0.1', nilometer.events)
SELECT * FROM cluster('default', nilometer.events)
SELECT * FROM numbers(10)
SELECT * FROM view(SELECT * FROM nilometer.events)
SELECT * FROM input('a String')
SELECT * FROM executable('id', 'TSV', 'a String')
SELECT * FROM generateRandom('a String')
SELECT * FROM loop(nilometer.events)
SELECT * FROM values('a String', 'b')
SELECT * FROM dictionary('x')
SELECT * FROM sqlite('x', 'y')
SELECT * FROM python('x')
SELECT dictGet('x', 'y', 1)
SELECT joinGet('nilometer.events', 'distinct_id', 1)
SELECT hasColumnInTable('nilometer', 'events', 'project_id')
SELECT in('x', nilometer.events)
SELECT in('x', events)
SELECT globalIn('x', nilometer.events)
SELECT nullIn('x', nilometer.events)
SELECT getSetting('additional_table_filters')
SELECT getServerSetting('path')
SELECT getMacro('x')
SELECT currentDatabase(), currentUser(), hostName(), version(), uptime(), serverUUID()
SELECT FQDN(), tcpPort(), filesystemAvailable(), buildId(), queryID()
SELECT sleep(3)
SELECT sleepEachRow(1) FROM events
SELECT runningDifference(1), neighbor(1, 1), runningAccumulate(1), rowNumberInAllBlocks()
SELECT addressToLine(1), demangle('x'), tid(), logTrace('x')
SELECT initializeAggregation('count'), finalizeAggregation(countState()) FROM events
SELECT arrayReduce('groupArray', [1])
SELECT arrayMap(x -> file(x), ['/etc/hostname'])
SELECT arrayMap(x -> arrayMap(y -> (SELECT max(distinct_id) FROM nilometer.events), [1]), [1])
SELECT arrayFilter(x -> x IN nilometer.events, ['1'])
SELECT arraySort(x -> joinGet('nilometer.events', 'distinct_id', x), [1])
SELECT groupArrayState(distinct_id) FROM events
SELECT countMerge(x) FROM (SELECT CAST('x', 'AggregateFunction(count)') AS x)
SELECT reinterpret('x', 'AggregateFunction(count)')
SELECT formatRow('CSV', *) FROM events
SELECT aiGenerate('x', 'y')
SELECT chdb('SELECT * FROM nilometer.events')
SELECT __getScalar('x'), __applyFilter('x', 1), _CAST(1, 'Int8')
SELECT evalMLMethod(1), catboostEvaluate('/etc/passwd', 1)
SELECT fuzzQuery('SELECT * FROM nilometer.events')
SELECT lag(distinct_id, -1) OVER (), nth_value(distinct_id, 1) OVER () FROM events
SELECT groupArray(model) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM events
"""
# The engine calls a function for a name that it does not know: `SELECT user` got through.
BARE = r"""
SELECT user
SELECT "user", USER, Session_User, database, schema FROM events
SELECT currentUser FROM events
SELECT lower(user)
SELECT user AS user
SELECT user AS a, a AS user
SELECT a AS user, b AS a, user AS b
SELECT (SELECT 1 AS user), user
SELECT 1 AS user, (SELECT user)
SELECT 1 AS "USER", user
SELECT arrayMap(q -> (q AS user), [1]), user
SELECT user FROM (SELECT * EXCEPT (user) FROM (SELECT 1 AS user, 2 AS x))
SELECT * FROM events WHERE distinct_id = user
SELECT * FROM events ORDER BY user
SELECT count() FROM events GROUP BY user
SELECT count() FROM events HAVING user = 'default'
SELECT count() OVER (PARTITION BY user) FROM events
SELECT s FROM events ARRAY JOIN [user] AS s
SELECT e.model FROM events e JOIN calls c ON c.model = user
SELECT * FROM events LIMIT 1 BY user
WITH user AS x SELECT x
WITH user AS user SELECT user
WITH user AS user, 1 AS b SELECT user
SELECT toString(properties[user]['user'])  FROM events
SELECT properties[user] FROM events
SELECT user FROM (SELECT f.user FROM (SELECT 1 AS user) e JOIN (SELECT 1 AS user) f ON 1)
SELECT user FROM (SELECT f.* FROM (SELECT 1 AS user) e JOIN (SELECT 1 AS user) f ON 1)
WITH c AS (SELECT user AS x) SELECT 1 AS user, x FROM c
SELECT 1 AS user, x FROM (SELECT user AS x)
SELECT user FROM events WHERE (1 AS user) = 1
SELECT e.session_user FROM events AS e
SELECT formatRow FROM events
SELECT `currentDatabase`, currentHandler, currentRequestURL, localtime
SELECT user, count() FROM events GROUP BY ALL
SELECT 1 WHERE user IN ('default')
SELECT 1 WHERE 'default' IN (SELECT user)
SELECT * FROM events AS e LEFT SEMI JOIN (SELECT 1 AS one) AS f ON e.distinct_id = user
SELECT max(current_user) FROM calls
SELECT model AS b, (b || user) AS c FROM calls
"""
STATEMENTS = r"""
INSERT INTO nilometer.events SELECT * FROM nilometer.events
DROP TABLE nilometer.events
CREATE TABLE x (a Int8) ENGINE = Memory
ALTER TABLE nilometer.events DELETE WHERE 1
SET readonly = 0
SYSTEM FLUSH LOGS
GRANT ALL ON *.* TO default
ATTACH TABLE x
OPTIMIZE TABLE nilometer.events FINAL
BACKUP TABLE nilometer.events TO Disk('default', 'x')
SELECT 1 FORMAT JSON
SELECT 1 INTO OUTFILE '/dev/null'
SELECT 1 SETTINGS readonly = 0
SELECT * FROM events SAMPLE 1
SELECT * FROM events LIMIT 1 WITH TIES
SELECT * FROM events PARALLEL WITH SELECT * FROM nilometer.events
SELECT * FROM events FINAL SAMPLE 1/2 OFFSET 1/2
"""
BOMBS = r"""
SELECT arrayJoin(range(10000000000))
WITH x AS (SELECT arrayJoin(range(9000000)) AS a) SELECT sum(x.a + y.a) FROM x, x AS y
SELECT sum(a) FROM events ARRAY JOIN range(9000000) AS a ARRAY JOIN range(9000000) AS b
SELECT repeat(repeat(repeat('x', 1000000), 1000000), 1000000)
SELECT arrayMap(x -> range(1000000), range(1000000))
WITH x AS (SELECT 1 FROM events a, events b, events c) SELECT count() FROM x, x y, x z, x w
SELECT arrayFold((a, x) -> arrayConcat(a, a), range(100), [1])
SELECT toStartOfDay(timestamp) d FROM events ORDER BY d WITH FILL FROM 0 TO 4000000000 STEP 1
"""
GROUPS = {
    "history": HISTORY,
    "predicates": PREDICATES,
    "newer": NEWER,
    "names": NAMES,
    "stars": STARS,
    "functions": FUNCTIONS,
    "bare": BARE,
    "statements": STATEMENTS,
}
ESCAPES = [
    pytest.param(line, id=f"{group}-{number}")
    for group, text in GROUPS.items()
    for number, line in enumerate(text.strip().splitlines())
]
STOPPED = {
    "timeout_exceeded",
    "memory_limit_exceeded",
    "argument_out_of_bound",
    "too_large_array_size",
    "too_large_string_size",
    "too_many_rows_or_bytes",
    "invalid_query",
}
VALUES = {"x": "distinct_id", "t": "nilometer.events"}


def outcome(queries, project_id, sql):
    try:
        answer = queries.run(project_id, sql, VALUES)
    except SqlError as error:
        return f"{error.code} {error.detail}"
    return f"{answer.columns} {answer.types} {answer.rows}"


def test_there_are_more_than_sixty():
    assert len(ESCAPES) > 150


@pytest.mark.parametrize("sql", ESCAPES)
def test_an_escape_shows_nothing_of_others(queries, ours, sql):
    shown = outcome(queries, ours, sql)
    told = [word for word in TELLTALES if word in shown and word not in sql]
    assert not told, shown
    assert MARKER not in shown


@pytest.mark.parametrize("sql", ESCAPES)
def test_what_names_something_outside_is_refused(queries, ours, sql):
    quoted = ("SELECT '\\", "SELECT 1 AS", "SELECT * FROM events --")
    if "nilometer" in sql and not sql.startswith(quoted):
        with pytest.raises(SqlError):
            queries.run(ours, sql, VALUES)


@pytest.mark.parametrize("sql", BARE.strip().splitlines())
def test_a_name_that_nothing_has_calls_no_function(queries, ours, sql):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql, VALUES)
    assert caught.value.code == "unknown_identifier"
    assert caught.value.detail.startswith("Line 1, column ")


@pytest.mark.parametrize("sql", BOMBS.strip().splitlines())
def test_a_bomb_is_stopped_by_a_limit(store, ours, sql):
    with pytest.raises(SqlError) as caught:
        SqlQueries(store, seconds=1).run(ours, sql)
    assert caught.value.code in STOPPED


def test_the_others_are_there_to_be_leaked(store):
    rows = store.query("SELECT count() FROM events WHERE distinct_id = {m:String}", {"m": MARKER})
    assert rows.rows[0][0] >= 24
