"""The virtual tables: what a query may name in FROM, their columns, and the fence around them.

A table is a subquery over one stored table with `PREWHERE project_id = …`: rows of another project
are gone before anything that the user wrote sees a row, also after the engine has pushed the user's
conditions down. `optimize_move_to_prewhere = 0` (see `limits`) keeps these behind it.

That holds for rows, and not for what a column shares between rows. A LowCardinality column is
numbers into a dictionary that a whole part of the store has in common: the engine calls a function
once for each word of it, whosever rows the word is from, and no filter takes words out (seen:
`base64Decode(model)` failed at another project's model). So no such column leaves the subquery:
every column is cast to its type here, which none is LowCardinality, and materialized, which makes
it full: one value a row, of these rows only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nilometer.conventions.ai_properties import PROPERTIES
from nilometer.query.sql import quoting
from nilometer.query.sql.call_columns import COST, MONEY, SCOPES, USAGE
from nilometer.query.trace_sql import BEST, CALL_TOTALS, ERRORS, MOMENT, best_calls, first

MICROS = "DateTime64(6, 'UTC')"

_OWN_ID = "project_id"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its ClickHouse type, what it is, and the expression that makes it.
    `of_calls` are columns of a summary that are made from the table `calls`."""

    name: str
    type: str
    description: str
    sql: str | None = None
    of_calls: bool = False

    def named(self, value: str) -> str:
        """This value as the column of a SELECT."""
        return f"{value} AS {quoting.identifier(self.name)}"


@dataclass(frozen=True, slots=True)
class VirtualTable:
    """What a name in FROM stands for. `where` and `tail` are our own SQL. `apart` are columns that
    `*` does not have and no user is told of (see `properties`, the module). `summed_by` is the
    column by which events, and calls, are summed up into one row."""

    name: str
    description: str
    source: str
    columns: tuple[Column, ...]
    where: str = ""
    tail: str = ""
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    apart: tuple[Column, ...] = ()
    summed_by: str = ""

    def names(self) -> frozenset[str]:
        """The names of its columns."""
        return frozenset(column.name for column in self.columns)

    def names_of_calls(self) -> frozenset[str]:
        """Its columns that are made from the table `calls`."""
        return frozenset(column.name for column in self.columns if column.of_calls)

    def fenced(
        self,
        project_id: int,
        *,
        bounds: Sequence[str] = (),
        hidden: bool = True,
        apart: bool = False,
        with_calls: bool = True,
    ) -> str:
        """The table as a subquery, within one project and these bounds on `timestamp`, with or
        without the columns `apart` and those of calls.

        `keys` are hidden from the engine's indexes unless `hidden` is false (see `keys`, the
        module); each goes with the value that no row of the project has.
        """
        given = (*self.columns, *self.apart) if apart else self.columns
        own = [column for column in given if not column.of_calls]
        columns = ", ".join(self._select(column, project_id, hidden) for column in own)
        fence = " AND ".join((f"project_id = {project_id:d}", *bounds))
        where = f" WHERE {self.where}" if self.where else ""
        rows = (
            f"(SELECT {columns} FROM nilometer.{self.source} FINAL "  # noqa: S608  (our own texts)
            f"PREWHERE {fence}{where}{self.tail})"
        )
        return self._joined(rows, project_id) if with_calls and own != list(given) else rows

    def _joined(self, rows: str, project_id: int) -> str:
        """These rows with the sums over their calls."""
        columns = ", ".join(
            f"{'called' if column.of_calls else 'summed'}.{column.name} AS {column.name}"
            for column in self.columns
        )
        fence = f"PREWHERE project_id = {project_id:d}"
        calls = best_calls("nilometer.calls", fence, (self.summed_by,))
        totals = ", ".join(f"{sql} AS {name}" for name, _, _, sql in CALL_TOTALS)
        key = self.summed_by
        return (
            f"(SELECT {columns} FROM {rows} AS summed LEFT ANY JOIN "  # noqa: S608  (our own texts)
            f"(SELECT assumeNotNull({key}) AS summed_key, {totals} FROM ({calls}) AS best "
            f"WHERE {key} IS NOT NULL GROUP BY summed_key) AS called "
            f"ON summed.{key} = called.summed_key)"
        )

    def _select(self, column: Column, project_id: int, hidden: bool) -> str:
        """The column in the subquery's SELECT. A key is a number, a UUID or a text that the engine
        keeps as it is, never in a dictionary; aggregates make columns anew."""
        stored = f"{self.source}.{column.name}"
        if column.name in self.keys:
            other = self.keys[column.name]
            shown = f"if(project_id = {project_id:d}, {stored}, {other})" if hidden else stored
            return column.named(shown)
        value = column.sql or f"CAST({stored}, {quoting.string(column.type)})"
        if column.sql == _OWN_ID:
            # The column is what the store is sorted by: the engine would try the user's functions
            # on the ids of other projects. It is the same in every row.
            value = f"toInt64({project_id:d})"
        return column.named(value if self.summed_by else f"materialize({value})")


def filters(project_id: int) -> str:
    """The value of `additional_table_filters`: the second fence, on every stored table."""
    entries = (f"'nilometer.{table}': 'project_id = {project_id:d}'" for table in STORED)
    return f"{{{', '.join(entries)}}}"


# Every table with a project_id in the schema.
STORED = ("events", "event_ids", "calls", "usage_days")

_TYPES = {
    "text": "Nullable(String)",
    "int64": "Nullable(Int64)",
    "float64": "Nullable(Float64)",
    "decimal": MONEY,
    "flag": "Bool",
}

# Columns that say something else than the property that they are made from.
_OTHERWISE = {"http_status": "The provider's HTTP status; NULL when there was none."}


_TYPED = tuple(
    Column(
        known.column,
        _TYPES[known.kind.column_type],
        _OTHERWISE.get(known.column, known.description),
    )
    for known in PROPERTIES
    if known.column and known.kind.column_type
)
_HEAVY = tuple(
    Column(
        known.name.removeprefix("$ai_"),
        "Nullable(String)",
        f"{known.description} As JSON text.",
        f"nullIf(JSONExtractRaw(events.properties, {quoting.string(known.name)}), '')",
    )
    for known in PROPERTIES
    if known.heavy and known.name.startswith("$ai_") and not known.is_family
)
HEAVY = {
    known.name: known.name.removeprefix("$ai_")
    for known in PROPERTIES
    if known.heavy and not known.is_family
}
"""Properties that are prompts and answers, and their columns in `ai_events`."""
TYPED = {
    known.name: known.column for known in PROPERTIES if known.column and known.kind.column_type
}
"""Properties that have a typed column, in `events` and `ai_events`."""
_HEAVY_NAMES = ", ".join(map(quoting.string, HEAVY))
_IDENTITY = (
    Column("uuid", "UUID", "The event's own id."),
    Column("event", "String", "Its type, such as `$ai_generation`."),
    Column("distinct_id", "String", "The user."),
    Column("timestamp", MICROS, "When it happened, by the client, its clock's skew corrected."),
    Column("accepted_at", MICROS, "When Nilometer accepted it."),
    Column("expires_at", MICROS, "When its large values are deleted."),
)
_PROPERTIES = Column(
    "properties", "String", "All properties, as the JSON text that was sent; `properties.name`."
)
_REDACTED = Column(
    "redacted", "String", "What was redacted before it was kept: counts by rule, a JSON object."
)
_NO_TIME = "toDateTime64(0, 6, 'UTC')"
_NO_UUID = "toUUID('00000000-0000-0000-0000-000000000000')"
_EVENT_KEYS = {"timestamp": _NO_TIME, "uuid": _NO_UUID, "accepted_at": _NO_TIME}
_OTHER = Column("$other", "String", "", "events.other_properties")
_EVENTS = VirtualTable(
    "events",
    "Every event, one row each.",
    "events",
    (*_IDENTITY, _PROPERTIES, *_TYPED, _REDACTED),
    keys=_EVENT_KEYS,
    apart=(
        _OTHER,
        Column("$names", "Array(String)", "", "CAST(events.property_names, 'Array(String)')"),
    ),
)
_LIGHT_NAMES = (
    f"arrayFilter(name -> name NOT IN ({_HEAVY_NAMES}), "
    "CAST(events.property_names, 'Array(String)'))"
)
_LIGHT = (
    "concat('{', arrayStringConcat(arrayMap(pair -> concat(toJSONString(pair.1), ':', pair.2), "
    f"arrayFilter(pair -> pair.1 NOT IN ({_HEAVY_NAMES}), "
    "JSONExtractKeysAndValuesRaw(events.properties))), ','), '}')"
)
_AI_EVENTS = VirtualTable(
    "ai_events",
    "Events whose type begins with `$ai_`, with prompts and answers in columns of their own.",
    "events",
    (
        *_IDENTITY,
        Column("team_id", "Int64", "The project's id.", _OWN_ID),
        Column("retention_days", "Int64", "How long large values are kept.",
               "dateDiff('day', accepted_at, expires_at)"),
        Column("drop_date", "Date", "The day on which they are deleted.", "toDate(expires_at)"),
        Column("properties", "String", "The properties without those in columns of their own.",
               _LIGHT),
        *_TYPED,
        *_HEAVY,
        _REDACTED,
    ),
    where="startsWith(events.event, '$ai_')",
    keys=_EVENT_KEYS,
    apart=(_OTHER, Column("$names", "Array(String)", "", _LIGHT_NAMES)),
)  # fmt: skip
_CALL_COLUMNS = (
    Column("call_id", "String", "The provider's response id, or LiteLLM's call id, or the span."),
    Column("identity", "String", "What call_id is: response, litellm, span, event."),
    Column("event_uuid", "UUID", "The event that describes the call best."),
    *(column for column in _IDENTITY if column.name in ("timestamp", "accepted_at", "distinct_id")),
    Column("operation", "String", "generation or embedding."),
)
_IN_CALLS = (
    *("trace_id", "span_id", "session_id", "model", "provider", "is_error", "http_status"),
    *("latency", "time_to_first_token"),
)
_CALLS = VirtualTable(
    "calls",
    "Every request to a provider, once: of several events about one call, the best source's.",
    "calls",
    (
        *_CALL_COLUMNS,
        *(column for column in _TYPED if column.name in _IN_CALLS),
        *(
            column
            for column in _TYPED
            if column.name.endswith("_tokens") or column.name == "web_search_count"
        ),
        *(Column(*each) for each in (*USAGE, *COST)),
        *(
            Column(f"reported_{column.name}", column.type, column.description)
            for column in _TYPED
            if column.name.endswith("_cost_usd")
        ),
        *(Column(*each) for each in SCOPES),
    ),
    # In the order of the stored table, its first column being fixed: no sort, 3 times as fast.
    tail=BEST,
    keys={"call_id": "''", "event_uuid": _NO_UUID, "accepted_at": _NO_TIME},
)


def _summary(what: str) -> tuple[Column, ...]:
    """The columns that traces and sessions share."""
    return (
        Column("started_at", MICROS, f"The time of the {what}'s first event.", "min(timestamp)"),
        Column("ended_at", MICROS, "The time of its last event.", "max(timestamp)"),
        Column("event_count", "UInt64", "Its events.", "count()"),
        Column("error_count", "UInt64", "Those that are errors.", ERRORS),
        *(Column(*each, of_calls=True) for each in CALL_TOTALS),
        Column("distinct_id", "String", "The user of its first event.",
               f"argMin(events.distinct_id, {MOMENT})"),
    )  # fmt: skip


# A trace is named by its $ai_trace event, else by any event that names the trace, else by its root
# step; of each kind by the earliest. One aggregate with the kind before the moment, not three.
_CALLED = "coalesce(trace_name, if(event = '$ai_trace' OR parent_id IS NULL, span_name, NULL))"
_KIND = "multiIf(event = '$ai_trace', 0, trace_name IS NOT NULL, 1, 2)"
_NAME = (
    f"argMinIf({_CALLED}, bitShiftLeft(toInt256({_KIND}), 200) + {MOMENT}, {_CALLED} IS NOT NULL)"
)
_TRACES = VirtualTable(
    "traces",
    "One run of a feature, summed up from its events.",
    "events",
    (
        Column("trace_id", "String", "The trace.", "assumeNotNull(events.trace_id)"),
        Column("name", "Nullable(String)", "Its name.",
               _NAME),
        Column("session_id", "Nullable(String)", "Its session.", first("events.session_id", "1")),
        Column("duration", "Float64", "Seconds: end - start, or the longest latency if greater.",
               "greatest((toUnixTimestamp64Micro(max(timestamp)) - "
               "toUnixTimestamp64Micro(min(timestamp))) / 1e6, ifNull(max(latency), 0))"),
        *_summary("trace"),
    ),
    where="events.trace_id IS NOT NULL",
    summed_by="trace_id",
    tail=" GROUP BY assumeNotNull(events.trace_id)",
)  # fmt: skip
_SESSIONS = VirtualTable(
    "sessions",
    "Traces that belong together, such as a conversation, summed up from their events.",
    "events",
    (
        Column("session_id", "String", "The session.", "assumeNotNull(events.session_id)"),
        Column("trace_count", "UInt64", "Its traces.", "uniqExact(trace_id)"),
        Column("duration", "Float64", "Seconds from its first event to its last.",
               "(toUnixTimestamp64Micro(max(timestamp)) - "
               "toUnixTimestamp64Micro(min(timestamp))) / 1e6"),
        *_summary("session"),
    ),
    where="events.session_id IS NOT NULL",
    summed_by="session_id",
    tail=" GROUP BY assumeNotNull(events.session_id)",
)  # fmt: skip

TABLES = {table.name: table for table in (_EVENTS, _AI_EVENTS, _CALLS, _TRACES, _SESSIONS)}


# Every column that the store is sorted or partitioned by.
KEYS = frozenset(name for table in TABLES.values() for name in table.keys)


def column_names(tables: Iterable[str]) -> set[str]:
    """The columns of these tables."""
    return {column.name for name in tables for column in TABLES[name].columns}
