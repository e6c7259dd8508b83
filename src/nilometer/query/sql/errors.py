"""What is told about a query that cannot run: a line, a column, and what to change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from nilometer.clickhouse.sandbox import EngineFault
from nilometer.errors import InvalidInput
from nilometer.query.sql import functions, places
from nilometer.query.sql.names import UnknownName
from nilometer.query.sql.places import Place
from nilometer.query.sql.properties import NAME, OTHER
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.sentences import KINDS, SENTENCES, UNKNOWN
from nilometer.query.sql.tables import TABLES, TYPED, column_names

_CORRELATED = " A subquery sees its own tables only: write a JOIN, or compare IN (SELECT …)."
# Errors of a query that may come of an expression that has the name of a column.
_OF_NAMES = frozenset({"ILLEGAL_AGGREGATION", "TYPE_MISMATCH", "NO_COMMON_TYPE"})
# Functions that make an array, or a map, of one value.
_ARRAYS = frozenset(
    name.lower()
    for name in functions.FUNCTIONS["JSON"] + functions.FUNCTIONS["Strings"]
    if name.startswith(("JSONExtract", "splitBy", "extractAll", "alphaTokens", "ngrams"))
)


class SqlError(InvalidInput):
    """The query cannot run as it is written; `detail` names a place in it where one is known."""

    code = "invalid_query"


def located(sql: str, refusal: Refusal) -> SqlError:
    """The error of a refusal, with the place of its word."""
    place = _place_of_refusal(sql, refusal)
    sentence = refusal.sentence
    if isinstance(refusal, UnknownName) and (inside := places.in_subquery(sql, refusal.name)):
        place = inside
        sentence = f"There is no such column here: `{refusal.name}`.{_CORRELATED}"
    elif isinstance(refusal, UnknownName):
        hint = _hint(sql, refusal.name) if place else _UNKNOWN_NAME
        if "." in refusal.name and hint != _UNKNOWN_NAME:
            hint = f"{hint} A subquery sees its own tables only."
        name = f": `{refusal.name}`." if place else "."
        sentence = f"There is no such column here{name}{hint}"
    return SqlError(_sentence(sentence, place), code=refusal.code, attr="query")


# The engine prints `f(DISTINCT x)` as `fDistinct(x)`, `f(x) FILTER (WHERE y)` as `fIf(x, y)`.
_PRINTED = ("", "Distinct", "If")


def _place_of_refusal(sql: str, refusal: Refusal) -> Place | None:
    """The place of its word; where it has none, or not as the query has it, of the first word."""
    word = refusal.word
    if word and refusal.after and (after := places.after(sql, word, refusal.after)):
        return after
    found = [places.of_word(sql, word.removesuffix(each)) for each in _PRINTED] if word else []
    first = next((places.at(sql, offset) for _, offset in places.words(sql)), None)
    return next(filter(None, found), first)


def of_syntax(sql: str, fault: EngineFault) -> SqlError:
    """The error of a query that the engine cannot read."""
    if "Multi-statements" in fault.kind:
        return SqlError("Send one query; this has several.", code="syntax_error", attr="query")
    if fault.position is None and fault.name in SENTENCES:
        return SqlError(SENTENCES[fault.name], code=fault.name.lower(), attr="query")
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
    return SqlError(_sentence(sentence, places.at(sql, offset)), code="syntax_error", attr="query")


# Other dialects' forms that the engine cannot read, up to a little beyond the place that it names.
_FOREIGN = (
    (re.compile(r"\bWITHIN\s+GROUP\b", re.IGNORECASE), "write quantile(0.95)(x) for WITHIN GROUP."),
    (
        re.compile(r"\bQUALIFY\b.*\bWINDOW", re.IGNORECASE | re.DOTALL),
        "WINDOW stands before QUALIFY.",
    ),
    (re.compile(r"->>?\s*'"), "a value inside JSON is properties.name, or JSONExtractString()."),
)

_UNKNOWN_NAME = (
    " A text stands in 'single quotes'; calls, traces and sessions have no properties; a subquery "
    "sees its own tables only."
)


def of_run(sql: str, fault: EngineFault, renamed: frozenset[str] = frozenset()) -> SqlError:
    """The error of a query that the engine refused or gave up. A name that the engine gives is
    told only if the user's own text has it."""
    if fault.name in _OF_NAMES and (named := _renamings(sql, renamed)):
        return _of_renamed(named, fault.name.lower())
    subject, place = _subject(sql, fault)
    sentence = KINDS.get(fault.kind) or SENTENCES.get(fault.name, UNKNOWN)
    if place is None:
        sentence = sentence.replace(": {name}", "").replace("{name}", "a function")
    hint = _hint(sql, subject) if place and subject else _UNKNOWN_NAME
    sentence = sentence.format(name=f"`{subject}`", hint=hint)
    sentence = sentence[0].upper() + sentence[1:]
    code = fault.name.lower() if fault.name in SENTENCES else "invalid_query"
    return SqlError(_sentence(sentence, place), code=code, attr="query")


def _subject(sql: str, fault: EngineFault) -> tuple[str | None, Place | None]:
    """What the error is about, as the query has it, and its place."""
    if fault.kind == "Frame":
        return None, places.of_word(sql, "RANGE")
    if fault.kind == "Array of NULL":
        made = next((each for each in places.words(sql) if each[0].lower() in _ARRAYS), None)
        return (made[0], places.at(sql, made[1])) if made else (None, None)
    if fault.name == "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN":
        return None, places.of_conversion(sql)
    return _as_written(sql, fault.subject) if fault.subject else (None, None)


def _renamings(sql: str, renamed: frozenset[str]) -> dict[str, Place]:
    """Where the query gives a column's name to an expression, by name."""
    found: dict[str, Place] = {}
    for name in renamed:
        if place := places.after(sql, name, "AS"):
            found[name] = place
    return dict(sorted(found.items(), key=lambda each: each[1]))


def _of_renamed(named: dict[str, Place], code: str) -> SqlError:
    names = [f"`{name}`" for name in named][:3]
    sentence = (
        f"{' and '.join(names)} {'are' if names[1:] else 'is'} by AS the name of an expression, "
        "which goes before the column of that name, in WHERE and in other expressions too; give "
        "the expression another name."
    )
    return SqlError(_sentence(sentence, next(iter(named.values()))), code=code, attr="query")


def _as_written(sql: str, name: str) -> tuple[str, Place | None]:
    """A name as the query has it, and its place: a column may have been written for a path."""
    column = name.rpartition(".")[2]
    paths = [known for known, typed in TYPED.items() if typed == column]
    for each in (name, *paths, *(["properties"] if column == OTHER else [])):
        if place := places.of_word(sql, each):
            return each, place
    return name, None


def _hint(sql: str, name: str) -> str:
    """What else a column may be called, in the tables that the query names."""
    word = name.rpartition(".")[2]
    if word == NAME or not re.fullmatch(r"[\w$]+", word):
        return _UNKNOWN_NAME
    used = [table for table in TABLES if any(found == table for found, _ in places.words(sql))]
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


def _sentence(sentence: str, place: Place | None) -> str:
    return f"Line {place[0]}, column {place[1]}: {sentence}" if place else sentence


def _near(sql: str, offset: int) -> str:
    word = re.match(r"\w+|\S", sql[offset:])
    return f" at “{word[0][:40]}”" if word else " at its end"
