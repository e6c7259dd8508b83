"""The expression language of packs: CEL (Common Expression Language), compiled once and bounded.

CEL has no loops, assignments or side effects, and its engine bounds depth and regular expressions
(RE2). What the engine leaves open is bounded here, so that no pack and no payload can hold a worker
up: the length of an expression, `+` and nested macros (which multiply text), patterns that come
from a payload, how much of a text or a list an expression sees (`view`), and how much work it can
be for what it sees (`effort`): more than that is not begun.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final, cast

from cel_expr_python import cel  # pyright: ignore[reportMissingTypeStubs]  # it has its types

from nilometer.domain.redaction.patterns import MAX_PROGRAM, InvalidPattern, compiled
from nilometer.errors import InvalidInput, NilometerError
from nilometer.incidents import lexing, pack_bounds
from nilometer.incidents.effort import (
    CHARACTERS,
    MAX_WORK,
    Effort,
    Size,
    allowance,
)
from nilometer.incidents.facts import MEMBERS, Facts

MAX_TEXT = 8192
"""So many characters of a text does an expression see."""
MAX_MEMBERS = 500
"""So many elements of a list, or members of an object, does it see."""
MAX_DEPTH = 20
"""What is nested deeper is null."""
_MAX_TOLD = 200
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1

_ENVIRONMENT: Final = cel.NewEnv(variables=dict.fromkeys(MEMBERS, cel.Type.DYN))
_PROBLEM = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_BRACKETED = re.compile(r"\s*(\[[A-Z_]+\]|\(in container '[^']*'\))")
_EXPECTED = re.compile(r" expecting \{.*\}")
_CODE = re.compile(r"^[A-Z_]+: (Index error: )?")
_NO_KEY = re.compile(r"(key not found in map) : (.*)", re.DOTALL | re.IGNORECASE)


class InvalidExpression(InvalidInput):
    """The text is no expression of this language, or asks for more than it may."""

    code = "invalid_expression"


class NotEvaluable(NilometerError):
    """The expression has no value for these facts; the sentence says why."""

    code = "not_evaluable"


class View:
    """Facts as expressions see them: made once, and only if one is evaluated; evaluated often. Not
    shared between threads. What it may cost is what is left of `effort.allowance`."""

    __slots__ = ("_allowance", "_facts", "_made", "_size")

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts
        self._made: Any = None
        self._size: Size | None = None
        self._allowance = allowance()

    @property
    def activation(self) -> Any:
        """What the engine evaluates with."""
        if self._made is None:
            members = {name: _seen(self._facts.get(name), 0) for name in MEMBERS}
            self._size = _size(members)
            self._allowance.make(self._size)
            self._made = _ENVIRONMENT.Activation(members)
        return self._made

    def work(self, effort: Effort) -> Any:
        """What the engine evaluates with, for an expression of this effort. Raises NotEvaluable
        where it would be too much."""
        activation = self.activation
        assert self._size is not None
        units = effort.of(self._size)
        is_left = self._allowance.spend(units)
        if units > MAX_WORK:
            raise NotEvaluable("it would compare too much: what it sees is too large for it")
        if not is_left:
            raise NotEvaluable("the expressions before it compared too much of what is so large")
        return activation


class Expression:
    """A compiled expression. The same facts always give the same value; safe between threads."""

    __slots__ = ("_has_macro", "_program", "effort", "members", "patterns", "text")

    def __init__(self, text: str) -> None:
        """Raises InvalidExpression."""
        self.text = text
        found = lexing.read(text)
        problem = found.problem or pack_bounds.problem_of(text, len(found.patterns))
        if problem is not None:
            raise InvalidExpression(problem)
        self.members = found.members
        """The members of facts that it names, as `("steps", "notify")`."""
        self.effort = found.effort
        self.patterns = len(found.patterns)
        self._has_macro = found.has_macro
        self._program = _compiled(text)
        self.effort.steps = self._counted(found.patterns)

    def _counted(self, patterns: tuple[str, ...]) -> int:
        """The steps of its patterns. Those of one that is refused count as the most, for a pack."""
        try:
            return _steps(patterns)
        except InvalidExpression:
            pack_bounds.count(self.text, len(patterns), len(patterns) * MAX_PROGRAM)
            raise

    def value(self, view: View) -> Any:
        """Its value, of JSON's types; a moment is RFC 3339 and a duration its seconds. Raises
        NotEvaluable."""
        try:
            found = self._program.eval(view.work(self.effort))
            if found.type() == cel.Type.ERROR:
                raise NotEvaluable(self._reason(str(found.value())))
            return _json(found.plain_value())
        except RuntimeError as error:
            raise NotEvaluable(self._reason(str(error))) from None

    def _reason(self, told: str) -> str:
        # Of several elements without a value the engine tells of another one each time.
        return "it has no value for an element" if self._has_macro else self._without_values(told)

    def _without_values(self, told: str) -> str:
        """The engine's words. It names the member that is missing; where the expression itself does
        not, that is a value of the facts, which not everybody who reads a reason may see."""
        missing = _NO_KEY.search(told)
        if missing is None:
            return _told(told)
        key = missing[2].strip()
        name = key[1:-1] if key[:1] in ("'", '"') else key
        is_own = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", self.text) is not None
        return _told(missing[0] if is_own and name else missing[1])

    def holds(self, view: View) -> bool:
        """Whether it is true. Raises NotEvaluable, also for a value that is neither true nor
        false."""
        value = self.value(view)
        if not isinstance(value, bool):
            raise NotEvaluable("it is neither true nor false")
        return value

    def is_condition(self) -> bool:
        """Whether it can be true or false, as far as that is known without facts."""
        return self._program.return_type() in (cel.Type.BOOL, cel.Type.DYN)


def expression(text: str) -> Expression:
    """The expression of a text. Raises InvalidExpression."""
    found = _kept(text)
    problem = pack_bounds.problem_of(text, found.patterns)
    if problem is not None:
        raise InvalidExpression(problem)
    pack_bounds.count(text, found.patterns, found.effort.steps)
    return found


@lru_cache(maxsize=8192)
def _kept(text: str) -> Expression:
    return Expression(text)


def view(facts: Facts) -> View:
    """These facts, to evaluate expressions on. Of a text the first 8,192 characters are seen, of a
    list or an object the first 500 members; an integer of more than 64 bits is a double."""
    return View(facts)


def _compiled(text: str) -> Any:
    try:
        return _ENVIRONMENT.compile(text)
    except RuntimeError as error:
        raise InvalidExpression(_explained(str(error))) from None


def _explained(told: str) -> str:
    """The engine's words as one sentence, with the place."""
    for line, column, message in _PROBLEM.findall(told):
        said = _EXPECTED.sub("", _BRACKETED.sub("", message)).replace("'<EOF>'", "the end").strip()
        if "undeclared reference" in said:
            said += f" (there are {', '.join(MEMBERS)})"
        place = f"line {line}, " if int(line) > 1 else ""
        return f"{place}column {column}: {said}" if int(column) > 0 else said
    return _told(told)


def _told(message: str) -> str:
    said = _CODE.sub("", _BRACKETED.sub("", message)).splitlines()[0].strip()
    return (said[:1].lower() + said[1:])[:_MAX_TOLD]


def _steps(literals: tuple[str, ...]) -> int:
    """Of all patterns, as RE2 compiles them. Raises InvalidExpression."""
    return sum(_steps_of(literal) for literal in literals)


def _steps_of(literal: str) -> int:
    pattern = Expression(literal).value(View({}))
    if not isinstance(pattern, str):
        raise InvalidExpression("a pattern is a text, not bytes")
    if len(pattern) > lexing.MAX_PATTERN:
        raise InvalidExpression(
            f"a pattern has {len(pattern)} characters; at most {lexing.MAX_PATTERN} are taken"
        )
    try:
        return compiled(pattern, captures=True).programsize
    except InvalidPattern as error:
        raise InvalidExpression(f"a pattern: {error}") from None


def _seen(value: Any, depth: int) -> Any:
    """A value as the engine takes it, and no more of it than an expression may see."""
    kind: object = value.__class__
    if kind is str:
        return value if len(value) <= MAX_TEXT and value.isascii() else _seen_text(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if _MIN_INT <= value <= _MAX_INT else _as_double(value)
    return None if depth >= MAX_DEPTH else _seen_members(value, depth + 1)


def _seen_members(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value).items()
        seen = members if len(members) <= MAX_MEMBERS else islice(members, MAX_MEMBERS)
        return {_seen(str(name), depth): _seen(each, depth) for name, each in seen}
    if isinstance(value, list | tuple):
        return [_seen(each, depth) for each in cast("list[Any]", value)[:MAX_MEMBERS]]
    # A text of another class, such as one of an enumeration.
    return _seen_text(str(value))


def _seen_text(text: str) -> str:
    # Half of a surrogate pair has no UTF-8, which is what the engine works on.
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()


def _size(members: dict[str, Any]) -> Size:
    """Of what is seen. The name of a member counts as a value."""
    values, longest, text = 0, 0, 0
    waiting: list[Any] = [members]
    while waiting:
        value = waiting.pop()
        values += 1
        if isinstance(value, str):
            weight = len(value) // CHARACTERS
            values, text = values + weight, max(text, weight + 1)
        elif isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            longest = max(longest, len(inner))
            waiting += (*inner, *inner.values())
        elif isinstance(value, list):
            longest = max(longest, len(cast("list[Any]", value)))
            waiting += cast("list[Any]", value)
    return Size(values, longest, text)


def _as_double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _json(value: Any) -> Any:
    """A value of the engine's as one of JSON's. Raises NotEvaluable for what has none."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotEvaluable("it is no finite number")
        return value
    if isinstance(value, list):
        return [_json(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        # The engine has them in another order each time.
        return {str(name): _json(members[name]) for name in sorted(members, key=str)}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise NotEvaluable("its value is of no type that JSON has")
