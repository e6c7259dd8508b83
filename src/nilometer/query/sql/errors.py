"""What is told about a query that cannot run: a line, a column, and what to change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from nilometer.clickhouse.sandbox import EngineFault
from nilometer.errors import InvalidInput
from nilometer.query.sql.names import UnknownName
from nilometer.query.sql.properties import NAME, OTHER
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.tables import TABLES, TYPED, column_names

# What holds no word of the query: quoted text and comments.
_SKIPPED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|--[^\n]*|#[ !][^\n]*|/\*.*?\*/"
    r"|(?P<word>`[^`]*`|\"[^\"]*\"|\$?\w[\w$]*|\*)",
    re.DOTALL,
)


class SqlError(InvalidInput):
    """The query cannot run as it is written; `detail` names a place in it where one is known."""

    code = "invalid_query"


def located(sql: str, refusal: Refusal) -> SqlError:
    """The error of a refusal, with the place of its word."""
    place = _place_of_refusal(sql, refusal.word)
    sentence = refusal.sentence
    if isinstance(refusal, UnknownName):
        hint = _hint(sql, refusal.name) if place else _UNKNOWN_NAME
        if "." in refusal.name and hint != _UNKNOWN_NAME:
            hint = f"{hint} A subquery sees its own tables only."
        name = f": `{refusal.name}`." if place else "."
        sentence = f"There is no such column here{name}{hint}"
    return SqlError(_sentence(sentence, place), code=refusal.code, attr="query")


# The engine prints `f(DISTINCT x)` as `fDistinct(x)`, `f(x) FILTER (WHERE y)` as `fIf(x, y)`.
_PRINTED = ("", "Distinct", "If")


def _place_of_refusal(sql: str, word: str | None) -> tuple[int, int] | None:
    """The place of its word; where it has none, or not as the query has it, of the first word."""
    places = [_place_of(sql, word.removesuffix(each)) for each in _PRINTED] if word else []
    first = next((_place(sql, offset) for _, offset in _words(sql)), None)
    return next(filter(None, places), first)


def of_syntax(sql: str, fault: EngineFault) -> SqlError:
    """The error of a query that the engine cannot read."""
    if "Multi-statements" in fault.kind:
        return SqlError("Send one query; this has several.", code="syntax_error", attr="query")
    if fault.position is None:
        return SqlError(
            "This cannot be read as a query; check its quotes and brackets.",
            code="syntax_error",
            attr="query",
        )
    offset = len(sql.encode()[: fault.position].decode(errors="ignore"))
    foreign = next((each for pattern, each in _FOREIGN if pattern.search(sql, 0, offset + 8)), None)
    advice = foreign or "check the word there and what stands before it."
    sentence = f"This cannot be read{_near(sql, offset)}: {advice}"
    return SqlError(_sentence(sentence, _place(sql, offset)), code="syntax_error", attr="query")


# Other dialects' forms that the engine cannot read, up to a little beyond the place that it names.
_FOREIGN = (
    (re.compile(r"\bWITHIN\s+GROUP\b", re.IGNORECASE), "write quantile(0.95)(x) for WITHIN GROUP."),
    (re.compile(r"->>?\s*'"), "a value inside JSON is properties.name, or JSONExtractString()."),
)

# ClickHouse's errors (src/Common/ErrorCodes.cpp) that a query can cause, as what to change.
_SENTENCES = {
    "UNKNOWN_IDENTIFIER": "There is no such column here: {name}.{hint}",
    "AMBIGUOUS_IDENTIFIER": "Say which table's column is meant: {name}.",
    "UNKNOWN_TABLE": "There is no such table.",
    "NOT_AN_AGGREGATE": "Put {name} into GROUP BY, or into an aggregate such as max().",
    "ILLEGAL_AGGREGATION": "An aggregate stands where none may; use HAVING, or a subquery.",
    "ILLEGAL_TYPE_OF_ARGUMENT": "{name} cannot take an argument of this type; convert it first: "
    "a value that may be NULL with ifNull(x, ''), a decimal with toFloat64(), a timestamp with "
    "toDateTime(), another with toString().",
    "NUMBER_OF_ARGUMENTS_DOESNT_MATCH": "{name} has too many or too few arguments.",
    "TOO_MANY_ARGUMENTS_FOR_FUNCTION": "{name} has too many arguments.",
    "TOO_FEW_ARGUMENTS_FOR_FUNCTION": "{name} has too few arguments.",
    "UNKNOWN_FUNCTION": "There is no such function: {name}.",
    "NO_COMMON_TYPE": "Two values that must be of one type are not; convert one of them.",
    "TYPE_MISMATCH": "A value is not of the type that is needed; convert it.",
    "CANNOT_CONVERT_TYPE": "A value cannot be converted to this type.",
    "ILLEGAL_COLUMN": "{name} cannot take such a value.",
    "CANNOT_PARSE_TEXT": "A text is not what it is converted to; use a function ending in OrNull.",
    "CANNOT_PARSE_DATETIME": "A text is not a time; use parseDateTimeBestEffortOrNull().",
    "CANNOT_PARSE_DATE": "A text is not a date; use toDateOrNull().",
    "CANNOT_PARSE_NUMBER": "A text is not a number; use toFloat64OrNull() or toInt64OrNull().",
    "CANNOT_PARSE_UUID": "A text is not a UUID; use toUUIDOrNull().",
    "CANNOT_PARSE_INPUT_ASSERTION_FAILED": "A text is not what it is converted to.",
    "ILLEGAL_DIVISION": "Something is divided by zero; use nullIf() on the divisor.",
    "DECIMAL_OVERFLOW": "A number does not fit its decimal type; use toFloat64().",
    "ARGUMENT_OUT_OF_BOUND": "An argument is out of its bounds.",
    "BAD_ARGUMENTS": "An argument is not one that {name} takes; if it may be NULL, as no key of a "
    "map may, try assumeNotNull().",
    "TOO_LARGE_ARRAY_SIZE": "An array grows too large.",
    "TOO_LARGE_STRING_SIZE": "A text grows too large.",
    "CANNOT_COMPILE_REGEXP": "A regular expression cannot be read.",
    "UNION_ALL_RESULT_STRUCTURES_MISMATCH": "The parts of a UNION differ in their columns.",
    "NUMBER_OF_COLUMNS_DOESNT_MATCH": "The two sides differ in how many columns they have.",
    "SET_SIZE_LIMIT_EXCEEDED": "The right side of IN has too many values.",
    "INVALID_JOIN_ON_EXPRESSION": "Join ON an equality of a column of each table.",
    "UNSUPPORTED_METHOD": "This is not supported here; write it another way.",
    "NOT_IMPLEMENTED": "This is not supported here; write it another way.",
    "INCORRECT_RESULT_OF_SCALAR_SUBQUERY": "A subquery used as a value gives more than one row; "
    "add LIMIT 1 or an aggregate.",
    "MULTIPLE_EXPRESSIONS_FOR_ALIAS": "Two expressions have one name; rename one: {name}.",
    "CYCLIC_ALIASES": "A name refers to itself; rename it: {name}.",
    "BAD_QUERY_PARAMETER": "The value of {name} does not fit the type of this parameter; a "
    "DateTime is written 2025-07-01 12:00:00, or 2025-07-01T12:00:00Z.",
    "UNKNOWN_QUERY_PARAMETER": "A parameter has no value; send it in `values`.",
    "TOO_MANY_ROWS_OR_BYTES": "The result is too large; select fewer rows or narrower columns.",
    "TIMEOUT_EXCEEDED": "This takes too long; narrow it, for example to a shorter time.",
    "MEMORY_LIMIT_EXCEEDED": "This takes too much memory; narrow it, or group by fewer values.",
    "TOO_DEEP_AST": "The query is nested too deeply.",
    "TOO_BIG_AST": "The query is too large.",
    "TOO_DEEP_RECURSION": "The query is nested too deeply.",
}
_UNKNOWN_NAME = (
    " A text stands in 'single quotes'; calls, traces and sessions have no properties; a subquery "
    "sees its own tables only."
)
_OTHER = "The query cannot run; check the types and the arguments of its functions."


def of_run(sql: str, fault: EngineFault) -> SqlError:
    """The error of a query that the engine refused or gave up. A name that the engine gives is
    told only if the user's own text has it."""
    subject, place = _as_written(sql, fault.subject) if fault.subject else (None, None)
    sentence = _SENTENCES.get(fault.name, _OTHER)
    if place is None:
        sentence = sentence.replace(": {name}", "").replace("{name}", "a function")
    hint = _hint(sql, subject) if place and subject else _UNKNOWN_NAME
    sentence = sentence.format(name=f"`{subject}`", hint=hint)
    sentence = sentence[0].upper() + sentence[1:]
    code = fault.name.lower() if fault.name in _SENTENCES else "invalid_query"
    return SqlError(_sentence(sentence, place), code=code, attr="query")


def _as_written(sql: str, name: str) -> tuple[str, tuple[int, int] | None]:
    """A name as the query has it, and its place: a column may have been written for a path."""
    column = name.rpartition(".")[2]
    paths = [known for known, typed in TYPED.items() if typed == column]
    for each in (name, *paths, *(["properties"] if column == OTHER else [])):
        if place := _place_of(sql, each):
            return each, place
    return name, None


def _hint(sql: str, name: str) -> str:
    """What else a column may be called, in the tables that the query names."""
    word = name.rpartition(".")[2]
    if word == NAME or not re.fullmatch(r"[\w$]+", word):
        return _UNKNOWN_NAME
    used = [table for table in TABLES if any(found == table for found, _ in _words(sql))]
    if having := [table for table in TABLES if word in column_names([table])]:
        return f" {' and '.join(having)} {'have' if having[1:] else 'has'} it.{_like(word, used)}"
    if like := _like(word, used or TABLES):
        return like
    has_properties = {"events", "ai_events"} & {*used}
    return f" If it is a property, write properties.{word}." if has_properties else _UNKNOWN_NAME


def _like(word: str, tables: Iterable[str]) -> str:
    names = column_names(tables) - {word}
    like = difflib.get_close_matches(word, sorted(names), n=1, cutoff=0.7)
    return f" Did you mean {like[0]}?" if like else ""


def _sentence(sentence: str, place: tuple[int, int] | None) -> str:
    return f"Line {place[0]}, column {place[1]}: {sentence}" if place else sentence


def _near(sql: str, offset: int) -> str:
    word = re.match(r"\w+|\S", sql[offset:])
    return f" at “{word[0][:40]}”" if word else " at its end"


def _place(sql: str, offset: int) -> tuple[int, int]:
    before = sql[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _place_of(sql: str, word: str) -> tuple[int, int] | None:
    """Where the query first has this word outside quotes and comments; for `a.b`, its last part."""
    for name in (word, word.rpartition(".")[2]):
        for found, offset in _words(sql):
            if found.lower() == name.lower():
                return _place(sql, offset)
    return None


def _words(sql: str) -> Iterator[tuple[str, int]]:
    for match in _SKIPPED.finditer(sql):
        if match["word"]:
            yield match["word"].strip('`"'), match.start()
