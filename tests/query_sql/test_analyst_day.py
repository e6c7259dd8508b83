"""A data analyst's day: 20 questions about the sample traffic, asked of a running server in SQL
that docs/sql.md is enough to write. Each answer is computed again in Python, from what was sent."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import accumulate, groupby
from statistics import fmean, median, pstdev
from typing import Any

import pyarrow.parquet
import pytest

from nilometer.query.sql.errors import SqlError
from tests.query_sql.analyst_traffic import FIRST_DAY, TEAMS, Sent, traffic
from tests.running import running, wait_until

EVENTS = traffic()
# A call told of twice is one call.
CALLS = list(
    {
        each["response_id"] or each.uuid: each
        for each in EVENTS
        if each.event in ("$ai_generation", "$ai_embedding")
    }.values()
)
GENERATIONS = [each for each in CALLS if each.event == "$ai_generation"]

Rows = list[list[Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory) -> Iterator[Callable[..., Rows]]:
    with running(tmp_path_factory.mktemp("analyst")) as server, server.client() as client:
        for event in EVENTS:
            client.post("/i/v0/ai", files=event.parts).raise_for_status()

        def post(sql: str, output: str = "", **values: Any) -> Any:
            query = {"kind": "HogQLQuery", "query": sql, "values": values}
            answer = client.post(f"/api/projects/1/query/{output}", json={"query": query})
            assert answer.status_code == 200, answer.text
            return answer.content if output else answer.json()["results"]

        wait_until(lambda: post("SELECT count() FROM events") == [[len(EVENTS)]])
        wait_until(lambda: post("SELECT count() FROM calls") == [[len(CALLS)]])  # stored after them
        yield post


def by(rows: Iterable[Sent], key: Callable[[Sent], Any]) -> list[tuple[Any, list[Sent]]]:
    """The rows by a key, in its order."""
    return [(k, list(group)) for k, group in groupby(sorted(rows, key=key), key)]


def cost_of(rows: Iterable[Sent]) -> Decimal | None:
    """The sum of the costs that are known; None when none is."""
    costs = [each.cost for each in rows if each.cost is not None]
    return sum(costs, Decimal(0)) if costs else None


def monday(event: Sent) -> str:
    return str((event.at - timedelta(days=event.at.weekday())).date())


def day(event: Sent) -> str:
    return str(event.at.date())


def percentile(values: Iterable[float], share: float) -> float:
    """Between the two nearest values, as a spreadsheet's PERCENTILE.INC."""
    ordered = sorted(values)
    below, part = divmod((len(ordered) - 1) * share, 1)
    above = ordered[min(int(below) + 1, len(ordered) - 1)]
    return ordered[int(below)] * (1 - part) + above * part


def teams_costs() -> Rows:
    mine = [each for each in GENERATIONS if each.user in TEAMS]
    found = [
        [team, cost_of(rows), sum(each.cost is None for each in rows)]
        for team, rows in by(mine, lambda each: TEAMS[each.user])
    ]
    return sorted(found, key=lambda row: -row[1])


def cached_shares() -> Rows:
    return [
        [
            model,
            sum(each["cache_read_input_tokens"] or 0 for each in rows)
            / sum(each["input_tokens"] or 0 for each in rows),
        ]
        for model, rows in by(GENERATIONS, lambda each: each["model"])
    ]


def worst_hour() -> Rows:
    hours = by(CALLS, lambda each: each.at.replace(minute=0, second=0, microsecond=0))
    counted = [(hour, sum(bool(each["is_error"]) for each in rows), rows) for hour, rows in hours]
    hour, errors, rows = max(counted, key=lambda each: each[1])
    return [[hour.strftime("%Y-%m-%d %H:%M:%S"), len(rows), errors, errors / len(rows)]]


def retried() -> Rows:
    found: Rows = []
    for trace, rows in by(GENERATIONS, lambda each: each["trace_id"]):
        failed = [each for each in rows if each["is_error"]]
        if failed:
            answered = min(each.at for each in rows if not each["is_error"])
            waited = (answered - min(each.at for each in failed)).total_seconds()
            found.append([trace, len(failed), waited])
    return found


def slow_hours() -> Rows:
    return [
        [hour, percentile([each["latency"] for each in rows], 0.95), len(rows)]
        for hour, rows in by(CALLS, lambda each: each.at.hour)
    ]


def users_sessions() -> Rows:
    found: Rows = []
    for user, rows in by(EVENTS, lambda each: each.user):
        sessions = by(rows, lambda each: each["session_id"])
        traces = [len({each["trace_id"] for each in session}) for _, session in sessions]
        found.append([user, len(sessions), fmean(traces)])
    return found


def longest_prompts() -> Rows:
    lengths = {
        each["trace_id"]: sum(len(message["content"]) for message in each["input"])
        for each in GENERATIONS
        if each["input"]
    }
    return [list(each) for each in sorted(lengths.items(), key=lambda each: -each[1])[:3]]


def funnel() -> Rows:
    levels: Counter[int] = Counter()
    for _, rows in by(EVENTS, lambda each: each["trace_id"]):
        answered = any(
            each.event == "$ai_generation" and not each["is_error"] for each in rows
        )  # fmt: skip
        spoken = any(each.event == "$ai_feedback" for each in rows)
        levels[1 + answered + (answered and spoken)] += 1
    return [list(each) for each in sorted(levels.items())]


def weeks() -> Rows:
    costs = [(week, cost_of(rows)) for week, rows in by(CALLS, monday)]
    before = [None, *(cost for _, cost in costs)]
    return [
        [week, cost, None if last is None else cost - last]
        for (week, cost), last in zip(costs, before, strict=False)
    ]


def outliers() -> Rows:
    counted = [each for each in GENERATIONS if each["input_tokens"]]
    tokens = [each["input_tokens"] for each in counted]
    mean, deviation = fmean(tokens), pstdev(tokens)
    return [
        [each["trace_id"], each["input_tokens"], (each["input_tokens"] - mean) / deviation]
        for each in counted
        if each["input_tokens"] > mean + 3 * deviation
    ]


def model_of_trace() -> dict[str, str]:
    return {each["trace_id"]: each["model"] for each in GENERATIONS}


def accuracies() -> Rows:
    measured = [each for each in EVENTS if each["metric_name"] == "accuracy"]
    return [
        [model, fmean(float(each["metric_value"]) for each in rows), len(rows)]
        for model, rows in by(measured, lambda each: model_of_trace()[each["trace_id"]])
    ]


def costs_by_feedback() -> Rows:
    costs = dict(by(CALLS, lambda each: each["trace_id"]))
    said = [each for each in EVENTS if each["feedback_text"] in ("good", "bad")]
    return [
        [text, len(rows), cost_of(call for each in rows for call in costs[each["trace_id"]])]
        for text, rows in by(said, lambda each: each["feedback_text"])
    ]


def pivoted() -> Rows:
    def tokens(rows: list[Sent], model: str) -> int:
        return sum(each["input_tokens"] or 0 for each in rows if each["model"].startswith(model))

    return [
        [each, tokens(rows, "gpt"), tokens(rows, "claude")] for each, rows in by(GENERATIONS, day)
    ]


def shares() -> Rows:
    total = cost_of(CALLS)
    costs = [(model, cost_of(rows)) for model, rows in by(CALLS, lambda each: each["model"])]
    known = [[model, cost, float(100 * cost / total)] for model, cost in costs if cost is not None]
    return sorted(known, key=lambda row: -row[1])


def running_total() -> Rows:
    days = [(each, cost_of(rows) or Decimal(0)) for each, rows in by(CALLS, day)]
    totals = accumulate(cost for _, cost in days)
    return [[each, cost, total] for (each, cost), total in zip(days, totals, strict=True)]


def largest_calls() -> Rows:
    found: Rows = []
    for user, rows in by(GENERATIONS, lambda each: each.user):
        tokens = sorted((each["input_tokens"] or 0 for each in rows), reverse=True)
        found += [[user, each] for each in tokens[:2]]
    return found


def first_tokens() -> Rows:
    streamed = [each for each in CALLS if each["time_to_first_token"] is not None]
    return [
        [model, median(times), percentile(times, 0.9), len(times)]
        for model, times in (
            (model, [each["time_to_first_token"] for each in rows])
            for model, rows in by(streamed, lambda each: each["model"])
        )
    ]


def cohorts() -> Rows:
    first = {user: min(map(monday, rows)) for user, rows in by(CALLS, lambda each: each.user)}
    users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for each in CALLS:
        users[first[each.user], monday(each)].add(each.user)
    return [[*key, len(names)] for key, names in sorted(users.items())]


def roles() -> Rows:
    spoken = Counter(
        message["role"] for each in GENERATIONS for message in each["input"] or ()
    )  # fmt: skip
    spoken.update(
        message["role"]
        for twice in EVENTS
        if twice["response_id"] and twice not in GENERATIONS
        for message in twice["input"]
    )
    return [list(each) for each in sorted(spoken.items())]


def tagged() -> Rows:
    traces: defaultdict[str, set[str]] = defaultdict(set)
    for each in EVENTS:
        for tag in each.properties.get("tags", ()):
            traces[tag].add(each["trace_id"])
    return [[tag, len(found)] for tag, found in sorted(traces.items())]


def asked_for() -> Rows:
    since = FIRST_DAY + timedelta(days=7)
    return [[sum(each.user in ("ada", "bo") and each.at >= since for each in CALLS)]]


QUESTIONS: dict[str, tuple[str, Callable[[], Rows]]] = {
    "What does each team cost, and how many of its calls have no price?": (
        """SELECT e.properties.team AS team, sum(c.reported_total_cost_usd) AS cost,
                  countIf(c.reported_total_cost_usd IS NULL) AS unpriced
           FROM calls AS c JOIN events AS e ON e.uuid = c.event_uuid
           WHERE c.operation = 'generation' AND team IS NOT NULL
           GROUP BY team ORDER BY cost DESC""",
        teams_costs,
    ),
    "What share of the input comes from the cache?": (
        """SELECT model, sum(cache_read_input_tokens) / sum(input_tokens) AS cached
           FROM calls WHERE operation = 'generation' GROUP BY model ORDER BY model""",
        cached_shares,
    ),
    "In which hour did most calls fail?": (
        """SELECT date_trunc('hour', timestamp) AS hour, count(*) AS calls, sum(is_error) AS errors,
                  errors / calls AS share
           FROM calls GROUP BY hour ORDER BY errors DESC LIMIT 1""",
        worst_hour,
    ),
    "Which answers needed a retry, and how long did the user wait for it?": (
        """SELECT trace_id, countIf(is_error) AS failed,
                  dateDiff('ms', minIf(timestamp, is_error), minIf(timestamp, NOT is_error)) / 1000
           FROM calls WHERE operation = 'generation'
           GROUP BY trace_id HAVING failed > 0 ORDER BY trace_id""",
        retried,
    ),
    "What is the 95th percentile of latency in each hour of the day?": (
        """SELECT hour(timestamp) AS hour, quantileExactInclusive(0.95)(latency) AS p95, count()
           FROM calls GROUP BY hour ORDER BY hour""",
        slow_hours,
    ),
    "How many sessions has each user, of how many traces?": (
        """SELECT distinct_id, count() AS sessions, avg(trace_count) AS traces
           FROM sessions GROUP BY distinct_id ORDER BY distinct_id""",
        users_sessions,
    ),
    "Which prompts are the longest?": (
        """SELECT DISTINCT trace_id,
                  arraySum(m -> lengthUTF8(JSONExtractString(m, 'content')),
                           JSONExtractArrayRaw(ifNull(input, '[]'))) AS characters
           FROM ai_events WHERE event = '$ai_generation'
           ORDER BY characters DESC LIMIT 3""",
        longest_prompts,
    ),
    "How far do traces come: begun, answered, commented?": (
        """SELECT level, count() FROM (
             SELECT trace_id, windowFunnel(3600)(toDateTime(timestamp), event = '$ai_trace',
               event = '$ai_generation' AND NOT is_error, event = '$ai_feedback') AS level
             FROM events GROUP BY trace_id)
           GROUP BY level ORDER BY level""",
        funnel,
    ),
    "How do costs change from week to week?": (
        """SELECT toMonday(timestamp) AS week, sum(reported_total_cost_usd) AS cost,
                  cost - lagInFrame(cost) OVER (ORDER BY week) AS change
           FROM calls GROUP BY week ORDER BY week""",
        weeks,
    ),
    "Which calls read far more tokens than usual?": (
        """WITH usual AS (SELECT avg(input_tokens) AS mean, stddevPop(input_tokens) AS deviation
                          FROM calls WHERE operation = 'generation')
           SELECT trace_id, input_tokens, (input_tokens - mean) / deviation AS z
           FROM calls, usual WHERE operation = 'generation' AND z > 3 ORDER BY z""",
        outliers,
    ),
    "How accurate is each model, by the metrics of its traces?": (
        """SELECT g.model, avg(toFloat64OrNull(m.properties.$ai_metric_value)) AS accuracy, count()
           FROM events AS m
           JOIN (SELECT DISTINCT trace_id, model FROM events WHERE event = '$ai_generation') AS g
             ON g.trace_id = m.trace_id
           WHERE m.event = '$ai_metric' AND m.properties.$ai_metric_name = 'accuracy'
           GROUP BY g.model ORDER BY g.model""",
        accuracies,
    ),
    "What do answers cost that people find good, or bad?": (
        """SELECT f.properties.$ai_feedback_text AS said, uniqExact(f.trace_id) AS traces,
                  sum(c.reported_total_cost_usd) AS cost
           FROM events AS f JOIN calls AS c ON c.trace_id = f.trace_id
           WHERE f.event = '$ai_feedback' AND said IN ('good', 'bad')
           GROUP BY said ORDER BY said""",
        costs_by_feedback,
    ),
    "How many input tokens does each model read, a row a day and a column a model?": (
        """SELECT toDate(timestamp) AS day,
                  ifNull(sumIf(input_tokens, model = 'gpt-4o-mini'), 0) AS mini,
                  ifNull(sumIf(input_tokens, model LIKE 'claude%'), 0) AS claude
           FROM calls WHERE operation = 'generation' GROUP BY day ORDER BY day""",
        pivoted,
    ),
    "What percentage of the bill is each model?": (
        """SELECT model, sum(reported_total_cost_usd) AS cost,
                  100 * toFloat64(cost) / sum(toFloat64(cost)) OVER () AS percent
           FROM calls GROUP BY model HAVING cost IS NOT NULL ORDER BY cost DESC""",
        shares,
    ),
    "How does the bill grow, day by day?": (
        """SELECT toDate(timestamp) AS day, ifNull(sum(reported_total_cost_usd), 0) AS cost,
                  sum(cost) OVER (ORDER BY day) AS total
           FROM calls GROUP BY day ORDER BY day""",
        running_total,
    ),
    "Which two calls of each user read the most?": (
        """SELECT distinct_id, ifNull(input_tokens, 0) AS tokens
           FROM calls WHERE operation = 'generation'
           ORDER BY distinct_id, tokens DESC LIMIT 2 BY distinct_id""",
        largest_calls,
    ),
    "How long until the first token?": (
        """SELECT model, median(time_to_first_token), quantile(0.9)(time_to_first_token), count()
           FROM calls WHERE time_to_first_token IS NOT NULL GROUP BY model ORDER BY model""",
        first_tokens,
    ),
    "Do users come back, by the week in which they began?": (
        """WITH first AS (SELECT distinct_id, min(toMonday(timestamp)) AS week
                          FROM calls GROUP BY distinct_id)
           SELECT f.week AS cohort, toMonday(c.timestamp) AS week, uniqExact(c.distinct_id) AS users
           FROM calls AS c JOIN first AS f ON f.distinct_id = c.distinct_id
           GROUP BY cohort, week ORDER BY cohort, week""",
        cohorts,
    ),
    "Who speaks in the prompts?": (
        """SELECT JSONExtractString(message, 'role') AS role, count()
           FROM ai_events ARRAY JOIN JSONExtractArrayRaw(ifNull(input, '[]')) AS message
           WHERE event = '$ai_generation' GROUP BY role ORDER BY role""",
        roles,
    ),
    "How many traces has each of our own tags?": (
        """SELECT arrayJoin(JSONExtract(properties, 'tags', 'Array(String)')) AS tag,
                  uniqExact(trace_id)
           FROM events GROUP BY tag ORDER BY tag""",
        tagged,
    ),
}


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, Decimal):
        return Decimal(found) == expected
    return found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_there_are_twenty_questions():
    assert len(QUESTIONS) == 20


@pytest.mark.parametrize("question", QUESTIONS)
def test_sql_and_arithmetic_agree(ask, question):
    sql, compute = QUESTIONS[question]
    found, expected = ask(sql), compute()
    assert expected
    assert len(found) == len(expected), (found, expected)
    for row, right in zip(found, expected, strict=True):
        assert all(map(same, row, right)), (row, right)


def test_a_users_own_values_go_in_as_parameters(ask):
    sql = (
        "SELECT count() FROM calls "
        "WHERE distinct_id IN {users:Array(String)} AND timestamp >= {since:DateTime}"
    )
    assert ask(sql, users=["ada", "bo"], since="2025-06-09 00:00:00") == asked_for()


def test_an_export_adds_up_to_the_bill_to_the_last_digit(ask):
    file = ask("SELECT reported_total_cost_usd AS cost, timestamp FROM calls", "?format=parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(file))
    assert table.num_rows == len(CALLS)
    assert sum(cost for cost in table["cost"].to_pylist() if cost is not None) == cost_of(CALLS)


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SELECT * FROM calls WHERE model = \"gpt-4o-mini\"", "'single quotes'"),
        ("SELECT any(properties.team) FROM calls", "calls, traces and sessions have no properties"),
        ("SELECT total_cost_usd FROM calls", "Did you mean reported_total_cost_usd?"),
        ("SELECT input FROM events", "ai_events has it."),
        ("SELECT e.team FROM events AS e", "write properties.team."),
        ("SELECT properties->>'team' FROM events", "a value inside JSON is properties.name"),
        ("SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY latency)", "quantile(0.95)"),
        ("SELECT iff(is_error, 1, 0) FROM calls", "Did you mean if()?"),
        ("SELECT listagg(DISTINCT model) FROM calls", "Line 1, column 8: The function"),
        ("SELECT JSONExtractArrayRaw(input) FROM ai_events", "ifNull(x, '[]')"),
        ("SELECT sumMap(map(model, 1)) FROM calls", "assumeNotNull()"),
        ("SELECT windowFunnel(9)(timestamp, is_error) FROM events", "toDateTime()"),
    ],
)  # fmt: skip
def test_what_another_dialect_would_take_is_refused_with_what_to_write(queries, ours, sql, advice):
    with pytest.raises(SqlError) as caught:
        queries.run(ours, sql)
    assert advice in caught.value.detail
