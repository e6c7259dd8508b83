"""A second outsider's attempts at another tenant's rows, from the documentation alone, over HTTP.

What is refused is refused; what is answered tells of the asker's rows only; and no answer, error or
status depends on what another tenant has stored, side by side with the asker's in one part of the
store: that is how the outsider read a model's name, letter by letter, by the errors of functions
that the engine called on every word of the part (see `nilometer.query.sql.tables`).
"""

import pytest

from tests.query.rows import aligned, call_row, event_row, insert

SECRET = "SECRETB"
OWN = 24  # rows of the asker
TEXTS = ("model", "provider", "framework", "base_url", "stop_reason", "error_type")
FOREIGN = 48

REFUSED = {
    "a database in quotes": ("SELECT count() FROM `nilometer`.`events`", None),
    "a database inside one name": ("SELECT count() FROM `nilometer.events`", None),
    "the temporary tables": ("SELECT * FROM _temporary_and_external_tables.events", None),
    "a database behind a comma": ("SELECT count() FROM events AS e, nilometer.events AS f", None),
    "FROM first": ("FROM system.tables SELECT *", None),
    "an alias for a database": ("WITH system.tables AS t SELECT * FROM t", None),
    "a text as a table": ("WITH 'event_ids' AS t SELECT count() FROM t", None),
    "a scalar as a table": ("WITH (SELECT 1) AS event_ids SELECT count() FROM event_ids", None),
    "a CTE that names itself": ("WITH event_ids AS (SELECT * FROM event_ids) SELECT 1", None),
    "a CTE before its time": ("WITH x AS (SELECT * FROM y), y AS (SELECT 1) SELECT * FROM x", None),
    "a table in IN of a tuple": ("SELECT 1 FROM events WHERE (uuid) IN (nilometer.events)", None),
    "GLOBAL IN": ("SELECT 1 FROM events WHERE uuid GLOBAL IN (SELECT uuid FROM events)", None),
    "ANY of a subquery": ("SELECT 1 = ANY (SELECT 1 FROM system.one)", None),
    "ALL of a table function": ("SELECT 1 > ALL (SELECT number FROM numbers(3))", None),
    "EXCEPT from elsewhere": ("SELECT 1 EXCEPT SELECT count() FROM system.one", None),
    "a table in a lambda": ("SELECT arrayMap(x -> (SELECT 1 FROM nilometer.events), [1])", None),
    "a table in an interval": ("SELECT INTERVAL (SELECT count() FROM system.one) DAY", None),
    "a table in a window": (
        "SELECT count() OVER w FROM events WINDOW w AS (PARTITION BY (SELECT 1 FROM system.one))",
        None,
    ),
    "a table in a frame": (
        "SELECT count() OVER (ROWS (SELECT 1 FROM system.one) PRECEDING) FROM events",
        None,
    ),
    "a table in WITH FILL": (
        "SELECT 1 AS n ORDER BY n WITH FILL FROM 1 TO (SELECT count() FROM system.one)",
        None,
    ),
    "a table in LIMIT": ("SELECT 1 LIMIT (SELECT count() FROM system.tables)", None),
    "a table as an aggregate's parameter": (
        "SELECT groupConcat((SELECT max(uuid) FROM event_ids))(model) FROM events",
        None,
    ),
    "an arrow that takes the place of equals": (
        "WITH (x, y) -> 1 AS equals SELECT count() FROM events",
        None,
    ),
    "an arrow that takes the place of and": (
        "WITH (x, y) -> 1 AS `and` SELECT count() FROM events",
        None,
    ),
    "a lambda's argument as a function": (
        "SELECT arrayMap(file -> file('/etc/passwd'), [1])",
        None,
    ),
    "a file in backticks": ("SELECT `file`('/etc/passwd')", None),
    "a file behind an invisible letter": ("SELECT `file\u200b`('/etc/passwd')", None),
    "a name that ends in a zero": ("SELECT `lower\x00`('A')", None),
    "a file in full-width letters": ("SELECT ｆile('/etc/passwd')", None),
    "a ligature": ("SELECT ﬁle('/etc/passwd')", None),
    "a table in Cyrillic": ("SELECT count() FROM еvents", None),
    "a long s": ("SELECT count() FROM ſystem.one", None),
    "a file as a table": ("SELECT * FROM file('/etc/passwd', CSV, 'a String')", None),
    "a URL": ("SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')", None),
    "another server": ("SELECT * FROM remote('127.0.0.1:9000', nilometer, events)", None),
    "a loop over a table": ("SELECT * FROM loop(events)", None),
    "the tables that match": ("SELECT * FROM merge(REGEXP('.*'), 'events')", None),
    "a view with a parameter": ("SELECT count() FROM calls(p=3)", None),
    "a table that is called": ("SELECT count() FROM `events`()", None),
    "a dictionary": ("SELECT dictGet('x', 'y', 1)", None),
    "a Join table": ("SELECT joinGet('nilometer.events', 'model', 1)", None),
    "a model file": ("SELECT catboostEvaluate('/etc/passwd', 1)", None),
    "a setting": ("SELECT getSetting('additional_table_filters')", None),
    "a server's setting": ("SELECT getServerSetting('max_server_memory_usage')", None),
    "a header of the request": ("SELECT getClientHTTPHeader('Authorization')", None),
    "a global of MySQL": ("SELECT @@hostname", None),
    "the user": ("SELECT currentUser(), currentRoles()", None),
    "the dictionary of a column": ("SELECT lowCardinalityKeys(model) FROM events", None),
    "a position within a dictionary": ("SELECT lowCardinalityIndices(model) FROM events", None),
    "a wait": ("SELECT sum(1) FILTER (WHERE sleep(1)) FROM events", None),
    "a failure on purpose": ("SELECT count() FROM events WHERE throwIf(1)", None),
    "an aggregate by name": ("SELECT arrayReduce('count', [1])", None),
    "a state of an aggregate": ("SELECT CAST('', 'AggregateFunction(count)')", None),
    "a type that computes": ("SELECT CAST('1', concat('Int', '8'))", None),
    "a type by a subquery": (
        "SELECT JSONExtract('{}', 'a', (SELECT any(model) FROM events))",
        None,
    ),
    "all columns by a pattern": ("SELECT COLUMNS('.*') FROM events", None),
    "an alias from the storage": ("SELECT `_part_offset` FROM calls", None),
    "a subcolumn of the storage": ("SELECT `distinct_id.size` FROM events", None),
    "an internal alias": ("SELECT __table1.model FROM events", None),
    "PASTE JOIN": ("SELECT count() FROM events e PASTE JOIN events f", None),
    "SETTINGS": ("SELECT * FROM events SETTINGS additional_table_filters = {}", None),
    "a file behind": ("SELECT 1 INTO OUTFILE 'outsider.csv'", None),
    "a second statement": ("SELECT 1; DROP TABLE events", None),
    "a second statement behind a zero": ("SELECT 1\x00; SELECT 2", None),
    "a name as a parameter": ("SELECT {x:Identifier} FROM events", {"x": "model"}),
    "a list with a function in it": ("SELECT {x:Array(String)}", {"x": "['a', hostName()]"}),
    "a number with SQL in it": ("SELECT {x:UInt64}", {"x": "1; SELECT 2"}),
    "a parameter that ends early": ("SELECT {x:String) -- }", {"x": "1"}),
    "a CTE bomb": (
        "WITH c0 AS (SELECT 1 AS x), "
        + ", ".join(f"c{n + 1} AS (SELECT a.x FROM c{n} a, c{n} b)" for n in range(16))
        + " SELECT count() FROM c16",
        None,
    ),
    "a tuple bomb": (
        "WITH (1, 1) AS a0, "
        + ", ".join(f"(a{n}, a{n}) AS a{n + 1}" for n in range(22))
        + " SELECT a22",
        None,
    ),
    "deep brackets": ("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, None),
    "a long text": ("SELECT length(leftPad('a', 100000000000, 'b'))", None),
    "a nested repetition": ("SELECT match('a', '(((a{1000}){1000}){1000})')", None),
}

# Answered, and with no row but the asker's: the query, its parameters and the one row.
ANSWERED = {
    "columns by likely names of the tenant": (
        "WITH 2 AS project_id, 2 AS team_id, 2 AS tenant_id SELECT count() FROM events",
        None,
        [OWN],
    ),
    "an array in the tenant's place": (
        "SELECT count() FROM events ARRAY JOIN [1] AS project_id",
        None,
        [OWN],
    ),
    "a parameter of the tenant's name": (
        "SELECT count() FROM events WHERE {project_id:Int64} = {project_id:Int64}",
        {"project_id": 3},
        [OWN],
    ),
    "any tenant": ("SELECT count() FROM ai_events WHERE 1 OR team_id = 3", None, [OWN]),
    "tenants that are not mine": (
        "SELECT uniq(team_id), countIf(team_id != (SELECT any(team_id) FROM ai_events)) "
        "FROM ai_events",
        None,
        [1, 0],
    ),
    "RIGHT JOIN": ("SELECT count() FROM events e RIGHT JOIN events f ON 0", None, [OWN]),
    "FULL JOIN": (
        "SELECT count() FROM events e FULL JOIN ai_events f ON e.uuid = f.uuid",
        None,
        [OWN],
    ),
    "FINAL": ("SELECT count() FROM events FINAL", None, [OWN]),
    "a shared trace": (
        "SELECT sum(event_count), max(length(models)) FROM traces",
        None,
        [OWN, 1],
    ),
    "a shared session": ("SELECT sum(event_count), count() FROM sessions", None, [OWN, 1]),
    "a table of the storage as a CTE": (
        "WITH `nilometer.events` AS (SELECT 1 AS a) "
        "SELECT a FROM (SELECT * FROM `nilometer.events`)",
        None,
        [1],
    ),
    "a name that draws a tree": ("SELECT 1 AS `x\n  Function file (children 1)`", None, [1]),
    "a name that closes the query": (
        "SELECT count() AS `n) FROM nilometer.events --` FROM events",
        None,
        [OWN],
    ),
    "a property that closes the query": (
        "SELECT any(properties.`a') FROM nilometer.events --`) FROM events",
        None,
        [None],
    ),
    "a comment in a comment": ("SELECT 1 /* /* */ + 5 -- */", None, [1]),
    "a heredoc": ("SELECT $h$ FROM system.one -- $h$", None, [" FROM system.one -- "]),
    "an escape at the end": (
        r"SELECT 'x\\', ' FROM system.one --'",
        None,
        ["x\\", " FROM system.one --"],
    ),
    "a value that is a parameter": (
        "SELECT {x:String}",
        {"x": "{y:Identifier}"},
        ["{y:Identifier}"],
    ),
    "a value that closes a text": ("SELECT {x:String}", {"x": "' OR 1=1 --\\"}, ["' OR 1=1 --\\"]),
}


IF_NULL = "ifNull(model, '')"


def map_foreign(column: str, bad: str) -> str:
    """What is foreign becomes `bad`, what is the asker's own an empty text."""
    own = f"replaceRegexpOne({column}, '^(alfa|.ai_generation).*$', '')"
    return f"replaceRegexpOne({own}, '^{SECRET}.*$', '{bad}')"


def ask_model(bad: str) -> str:
    return map_foreign("assumeNotNull(model)", bad)


# The same answer whether the other tenant has rows or not. No own value makes any of these fail.
DIFFERENTIAL = {
    "base64 of model": f"SELECT max(base64Decode({ask_model('!')})) FROM events",
    "base64 by its second name": f"SELECT max(from_base64({ask_model('!')})) FROM events",
    "base64 in WHERE": f"SELECT max(1) FROM events WHERE base64Decode({ask_model('!')}) = ''",
    "base64 behind a filter": (
        f"SELECT max(base64Decode({ask_model('!')})) FROM events WHERE distinct_id LIKE 'alfa%'"
    ),
    "base64 in ORDER BY": f"SELECT 1 FROM events ORDER BY base64Decode({ask_model('!')}) LIMIT 1",
    "base64 in GROUP BY": f"SELECT 1 FROM events GROUP BY base64Decode({ask_model('!')})",
    "base64 in a window": f"SELECT max(base64Decode({ask_model('!')})) OVER () FROM events LIMIT 1",
    "base64 in a subquery of IN": (
        f"SELECT max('x' IN (SELECT base64Decode({ask_model('!')}) FROM events)) FROM events"
    ),
    "base64 in a join": (
        f"SELECT count() FROM events e JOIN calls c ON base64Decode({ask_model('!')}) = c.call_id"
    ),
    "base64 of ifNull": (f"SELECT max(base64Decode({map_foreign(IF_NULL, '!')})) FROM events"),
    "base64 of the property": (
        f"SELECT max(base64Decode({map_foreign('assumeNotNull(properties.$ai_model)', '!')}))"
        " FROM events"
    ),
    "a pattern of model": f"SELECT max(match('a', {ask_model('(')})) FROM events",
    "a pattern by its second name": (
        f"SELECT max(regexp_matches('a', {ask_model('(')})) FROM events"
    ),
    "a pattern of model in ai_events": f"SELECT max(match('a', {ask_model('(')})) FROM ai_events",
    "a pattern of event": f"SELECT max(match('a', {map_foreign('event', '(')})) FROM events",
    **{
        f"a pattern of {column}": (
            f"SELECT max(match('a', {map_foreign(f'assumeNotNull({column})', '(')})) FROM events"
        )
        for column in ("provider", "framework", "stop_reason", "error_type", "base_url")
    },
    "memory": (
        f"SELECT max(length(replaceAll(repeat({ask_model('!' * 40)}, 40000), '!', '{'z' * 700}')))"
        " FROM events"
    ),
    # Nor do these: the engine computes them from no more values than the rows have.
    "a division": (f"SELECT max(intDiv(1, if(distinct_id LIKE '{SECRET}%', 0, 1))) FROM events"),
    "a division in WHERE": (
        f"SELECT max(1) FROM events WHERE intDiv(1, toUInt8(model NOT LIKE '{SECRET}%')) = 1"
    ),
    "a conversion": f"SELECT max(toInt64(concat('7', {ask_model('!')}))) FROM events",
    "a uuid": (
        "SELECT max(toUUID(concat('61f0c404-5cb3-11e7-907b-a6006ad3dba0', "
        f"{ask_model('!')}))) FROM events"
    ),
    "a fixed text": (
        f"SELECT max(CAST(concat('7', {ask_model('!')}) AS LowCardinality(FixedString(1))))"
        " FROM events"
    ),
    "a range": (
        f"SELECT max(length(range(1000000000 * toUInt64(distinct_id LIKE '{SECRET}%'))))"
        " FROM events"
    ),
    "the models of a trace": "SELECT max(match('a', arrayJoin(models))) FROM traces",
    "a pattern of a trace": "SELECT max(match('a', ifNull(trace_id, ''))) FROM events",
    "a pattern of a property": "SELECT max(match('a', ifNull(properties.plan, ''))) FROM events",
}


# Whether a word that only the other has fits a pattern, which the outsider asked 434 times.
ORACLE = (
    "SELECT max(base64Decode(replaceRegexpOne(replaceRegexpOne(assumeNotNull(model), {rx:String}, "
    "'!'), '^[^!].*$', 'YWxm'))) FROM events"
)
PATTERNS = (f"^{SECRET[:1]}.*$", f"^{SECRET[:6]}.*$", f"^{SECRET}-model$", "^Q.*$")


class Tenants:
    """Three projects: the asker, the asker's rows again without anybody beside them, the other."""

    def __init__(self, world, store):
        self.world = world
        self.asker, self.alone, self.other = (world.foreign_project() for _ in range(3))
        own = [_row(self.asker.id, "alfa", n) for n in range(OWN)]
        others = [_row(self.other.id, SECRET, n) for n in range(FOREIGN)]
        for n in range(0, FOREIGN, 2):
            others[n]["event"] = f"{SECRET}_event"
        rows = [row for n in range(OWN) for row in (others[2 * n], own[n], others[2 * n + 1])]
        _insert(store, rows)
        _insert(store, [_row(self.alone.id, "alfa", n) for n in range(OWN)])

    def ask(self, project, query, values=None, *, key=None, path=None, form=None):
        path = path or project.path("query/") + (f"?format={form}" if form else "")
        body = {"query": {"kind": "HogQLQuery", "query": query, "values": values or {}}}
        return self.world.ask("POST", path, project.reader if key is None else key, json=body)

    def told(self, project, query, values=None):
        """Everything that a project is told, but for the time it took."""
        body = self.ask(project, query, values).json()
        return body.get("code"), body.get("detail"), body.get("types"), body.get("results")


def _row(project_id, word, number):
    return event_row(
        project_id,
        **{name: f"{word}-{name}" for name in TEXTS},
        at=number,
        event="$ai_generation",
        distinct_id=f"{word}-user",
        trace_id="shared",
        session_id="shared",
        is_error=True,
        properties=f'{{"$ai_model":"{word}-model","plan":"{word}"}}',
    )


def _insert(store, rows):
    insert(store, rows)
    calls = [call_row(row) for row in rows if row["event"] == "$ai_generation"]
    store.insert("calls", aligned(calls))


@pytest.fixture(scope="module")
def tenants(world, store):
    return Tenants(world, store)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(tenants, name):
    query, values = REFUSED[name]
    answer = tenants.ask(tenants.asker, query, values)
    assert answer.status_code == 400
    assert answer.json()["type"] == "validation_error"
    assert SECRET not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("name", ANSWERED)
def test_it_is_answered_with_the_askers_rows_only(tenants, name):
    query, values, row = ANSWERED[name]
    answer = tenants.ask(tenants.asker, query, values)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == [row]
    assert SECRET not in answer.text


@pytest.mark.parametrize("name", DIFFERENTIAL)
def test_it_is_answered_the_same_whether_the_other_has_rows(tenants, name):
    query = DIFFERENTIAL[name]
    alone = tenants.told(tenants.alone, query)
    assert alone[0] is None, alone
    assert tenants.told(tenants.asker, query) == alone


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_asked_of_the_askers_words_only(tenants, pattern):
    alone = tenants.told(tenants.alone, ORACLE, {"rx": pattern})
    assert alone[0] is None, alone
    assert tenants.told(tenants.asker, ORACLE, {"rx": pattern}) == alone
    assert tenants.told(tenants.asker, ORACLE, {"rx": "^alfa.*$"})[0] is not None


@pytest.mark.parametrize("form", ["jsonl", "csv", "arrow", "parquet"])
@pytest.mark.parametrize("table", ["events", "ai_events", "calls", "traces", "sessions"])
def test_a_file_has_the_askers_bytes_only(tenants, table, form):
    own = tenants.ask(tenants.asker, f"SELECT * FROM {table}", form=form)
    assert own.status_code == 200
    assert SECRET.encode() not in own.content
    if form in ("jsonl", "csv"):
        foreign = tenants.ask(tenants.other, f"SELECT * FROM {table}", form=form)
        assert SECRET.encode() in foreign.content


@pytest.mark.parametrize("door", ["projects", "environments"])
@pytest.mark.parametrize(
    "spelling", ["{id}", "0{id}", "+{id}", "%20{id}", "{id}%00", "{id};1", "1/../{id}", "999999"]
)
def test_the_askers_key_opens_no_other_project(tenants, door, spelling):
    path = f"/api/{door}/{spelling.format(id=tenants.other.id)}/query/"
    answer = tenants.ask(tenants.asker, "SELECT count() FROM events", path=path)
    assert answer.status_code == 404


def test_a_key_that_does_not_read_opens_nothing(tenants):
    query = "SELECT count() FROM events"
    reads = tenants.asker.reader
    for key in ("nlm_user_nobody", reads[:-1]):
        assert tenants.ask(tenants.other, query, key=key).status_code == 401
    answer = tenants.world.ask("POST", tenants.other.path("query/"), None, json={})
    assert answer.status_code == 401
