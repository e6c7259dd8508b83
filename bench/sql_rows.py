"""Fills a store with events for the SQL benchmark, inside the engine: a million in about a minute.

Every value is a hash of the row's number, so two fills are equal. A trace is five events: the
trace, a span, two generations and an embedding; four traces are a session. A generation's
properties are about 1.9 kB and a span's 0.4 kB, 1.2 kB on average: a prompt of 90 to 240 words from
a vocabulary of 80, an answer of a third of that, parameters, tokens and costs as SDKs send them.
One trace in 50 mentions the river; one generation in 50 failed. The events lie evenly over the 30
days before now, accepted a quarter of a second after they happened, in the order of time: as a
stream stores them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nilometer.clickhouse.store import Store

# Rows of one insert. A stream makes smaller parts, which the engine merges meanwhile.
CHUNK = 50_000
PROJECT = 1
DAYS = 30

_WORDS = (
    "the water rose by a cubit and span clerk wrote it down of stone in water flood harvest grain "
    "boat from upper egypt to sea how high is what did year before after our measure gauge step "
    "temple priest tax field canal mud delta north south wind season summer rain mountain lake "
    "when will reach answer briefly give reason list three numbers for each village along bank "
    "please explain why level changed between morning evening compare with last report summary"
)
_ROWS = """
WITH splitByChar(' ', '{words}') AS words, toInt64({rows}) AS total,
    (salt, size) -> arrayStringConcat(arrayMap(
        i -> words[1 + cityHash64(number, salt, i) % length(words)], range(size)), ' ') AS say
SELECT toInt64({project}) AS project_id,
    reinterpretAsUUID(sipHash128('bench', number)) AS uuid,
    intDiv(number, 5) AS trace, number % 5 AS step,
    ['$ai_trace', '$ai_span', '$ai_generation', '$ai_generation', '$ai_embedding'][step + 1]
        AS event,
    step >= 2 AS is_call,
    intDiv(trace, 200) * 50 + trace % 50 AS session,
    toString(toUInt32(5000 * pow(cityHash64(session) % 10000 / 10000, 2))) AS distinct_id,
    fromUnixTimestamp64Micro({start} + intDiv(number * {span}, total), 'UTC') AS timestamp,
    timestamp + toIntervalMillisecond(250) AS accepted_at,
    accepted_at + toIntervalDay(30) AS expires_at,
    concat('trace-', toString(trace)) AS trace_id,
    concat('session-', toString(session)) AS session_id,
    concat('span-', toString(number)) AS span_id,
    if(step = 0, NULL, concat('span-', toString(number - 1))) AS parent_id,
    concat(['answer', 'search', 'plan', 'write', 'embed'][step + 1], '-', toString(trace % 7))
        AS span_name,
    cityHash64(trace) % 12 AS which,
    if(is_call, concat('model-', toString(which)), NULL) AS model,
    if(is_call, ['openai', 'anthropic', 'google'][which % 3 + 1], NULL) AS provider,
    is_call AND cityHash64(number, 'failed') % 50 = 0 AS is_error,
    if(is_error, ['rate limit of <n> reached', 'timed out after <n> s', 'overloaded']
        [cityHash64(number) % 3 + 1], NULL) AS error_normalized,
    if(is_error, replaceOne(error_normalized, '<n>', toString(cityHash64(number) % 100)), NULL)
        AS error,
    if(is_call, toInt64(100 + cityHash64(number, 'in') % 4000), NULL) AS input_tokens,
    if(step IN (2, 3), toInt64(10 + cityHash64(number, 'out') % 900), NULL) AS output_tokens,
    if(is_call, intDiv(input_tokens, 1 + cityHash64(number, 'cached') % 9), NULL)
        AS cache_read_input_tokens,
    if(is_call, toDecimal128(input_tokens, 18) * toDecimal128('0.00000015', 18), NULL)
        AS input_cost_usd,
    if(is_call, input_cost_usd + toDecimal128(ifNull(output_tokens, 0), 18)
        * toDecimal128('0.0000006', 18), NULL) AS total_cost_usd,
    toFloat64(50 + cityHash64(number, 'latency') % 4000) / 1000 AS latency,
    concat('{{"$ai_trace_id":"', trace_id, '","$ai_session_id":"', session_id,
        '","$ai_span_id":"', span_id, '","$ai_span_name":"', span_name, '","$ai_latency":',
        toString(latency), ',"$lib":"posthog-ai","$lib_version":"7.2.1"',
        if(is_call, concat(',"$ai_model":"', assumeNotNull(model), '","$ai_provider":"',
            assumeNotNull(provider), '","$ai_input_tokens":', toString(assumeNotNull(input_tokens)),
            ',"$ai_cache_read_input_tokens":', toString(assumeNotNull(cache_read_input_tokens)),
            ',"$ai_input_cost_usd":', toString(assumeNotNull(input_cost_usd)),
            ',"$ai_total_cost_usd":', toString(assumeNotNull(total_cost_usd)),
            ',"$ai_http_status":', if(is_error, '429', '200'),
            ',"$ai_base_url":"https://api.example.com/v1","$ai_is_error":',
            if(is_error, 'true', 'false'), ',"$ai_input":[{{"role":"system","content":"You keep ',
            'the gauge and answer in one sentence. ',
            if(cityHash64(trace) % 50 = 0, 'The river is high.', ''),
            '"}},{{"role":"user","content":"',
            say('input', 90 + cityHash64(number, 'size') % 150), '"}}]'), ''),
        if(step IN (2, 3), concat(',"$ai_output_tokens":', toString(assumeNotNull(output_tokens)),
            ',"$ai_output_choices":[{{"role":"assistant","content":"',
            say('output', 30 + cityHash64(number, 'size') % 50), '"}}],"$ai_model_parameters":',
            '{{"temperature":', toString(cityHash64(trace) % 11 / 10), ',"max_tokens":1024}}'), ''),
        if(step = 1, concat(',"$ai_input_state":{{"query":"', say('state', 20), '"}}'), ''),
        '}}') AS properties
FROM numbers({first}, {count})
"""
_EVENTS = (
    *("project_id", "uuid", "event", "distinct_id", "timestamp", "accepted_at", "expires_at"),
    *("properties", "trace_id", "session_id", "span_id", "parent_id", "span_name", "model"),
    *("provider", "is_error", "error_normalized", "error", "input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "input_cost_usd", "total_cost_usd", "latency"),
)
_CALLS = (
    *("project_id", "accepted_at", "timestamp", "trace_id", "span_id", "session_id", "model"),
    *("distinct_id", "provider", "is_error", "latency", "input_tokens", "output_tokens"),
    "cache_read_input_tokens",
)
_CALL_VALUES = {
    "call_id": "concat(trace_id, '/', span_id)",
    "identity": "'span'",
    "event_uuid": "uuid",
    "source_rank": "10",
    "revision": "1",
    "operation": "if(event = '$ai_embedding', 'embedding', 'generation')",
    "reported_input_cost_usd": "input_cost_usd",
    "reported_total_cost_usd": "total_cost_usd",
    "mapping_version": "1",
}
_EVENT_VALUES = {
    "blobs": "'[]'",
    "door": "'ai'",
    "mapping_version": "1",
    "first_wins": "18446744073709551615 - toUInt64(toUnixTimestamp64Micro(accepted_at))",
}
_IDS = ("project_id", "uuid", "timestamp", "accepted_at", "expires_at")


def fill(directory: Path, rows: int, end_micros: int) -> None:
    """Put so many events, and their calls and ids, into a new store under `directory`."""
    store = Store(directory)
    store.open()
    try:
        for statement in statements(rows, end_micros):
            store.command(statement)
    finally:
        store.close()


def statements(rows: int, end_micros: int) -> Iterator[str]:
    """The inserts, in the order of time."""
    span = DAYS * 86_400 * 1_000_000
    for first in range(0, rows, CHUNK):
        given = _ROWS.format(
            words=_WORDS,
            rows=rows,
            project=PROJECT,
            start=end_micros - span,
            span=span,
            first=first,
            count=min(CHUNK, rows - first),
        )
        yield _insert("events", _EVENTS, _EVENT_VALUES, given)
        yield _insert("calls", _CALLS, _CALL_VALUES, f"{given} WHERE is_call")
        first_wins = {"first_wins": _EVENT_VALUES["first_wins"]}
        yield _insert("event_ids", _IDS, first_wins, given)


def _insert(table: str, names: tuple[str, ...], values: dict[str, str], rows: str) -> str:
    columns = ", ".join((*names, *values))
    selected = ", ".join((*names, *values.values()))
    return f"INSERT INTO {table} ({columns}) SELECT {selected} FROM ({rows})"


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]), time.time_ns() // 1000)
