"""Values of `{name:Type}`, bound by the engine and never part of the query's text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlglot import exp

from nilometer.query.sql import quoting, types
from nilometer.query.sql.refusal import Refusal

_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_INTEGER = re.compile(r"(?:(?:Array|Nullable|LowCardinality)\()*(U?)Int(\d+)\)*")
_WHOLE = re.compile(r"(?<![\w.])[+-]?\d{1,100}(?![\w.])", re.ASCII)
_LONGEST_TEXT = 1_000_000
_MOST_VALUES = 10_000
_SCALAR = (str, int, float, bool)


class Parameters:
    """The values that came with a query, and those of them that it uses."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.used: dict[str, Any] = {}

    def write(self, node: exp.Placeholder) -> str:
        """The parameter as SQL. Raises Refusal when it has no value or no usable type."""
        name = node.name
        kind = node.args.get("kind")
        if not isinstance(kind, str) or not _NAME.fullmatch(name):
            raise Refusal("A parameter is written {name:Type}.", name)
        written = types.parse(kind)
        value = self._value(name)
        if value is None:
            return f"CAST(NULL, {quoting.string(_nullable(written))})"
        bindable = _bindable(value, name)
        _expect_in_range(bindable, written, name)
        self.used[name] = _timely(bindable) if "DateTime" in written else bindable
        return f"{{{name}:{written}}}"

    def count(self, node: exp.Placeholder) -> int:
        """The value of a parameter that is a number of rows."""
        value = self._value(node.name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise Refusal("LIMIT and OFFSET take whole numbers.", node.name)
        return value

    def _value(self, name: str) -> Any:
        if name not in self._values:
            raise Refusal(f"The parameter {name[:60]} has no value; send it in `values`.", name)
        return self._values[name]


def _expect_in_range(value: Any, written: str, name: str) -> None:
    """Refuse a whole number that its type cannot hold: the engine would take another one for it
    (300 as UInt8 is 44)."""
    kind = _INTEGER.fullmatch(written)
    if kind is None:
        return
    unsigned, bits = kind[1] == "U", int(kind[2])
    least, most = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for each in _whole_numbers(value):
        if not least <= each <= most:
            raise Refusal(
                f"The value of the parameter {name} does not fit {written}: {least} to {most}.",
                name,
                "bad_query_parameter",
            )


def _whole_numbers(value: Any) -> list[int]:
    """The whole numbers in a value: it may be one, a text of one or of a list, or a list."""
    if isinstance(value, list):
        return [each for item in cast("list[Any]", value) for each in _whole_numbers(item)]
    if isinstance(value, int):
        return [value]
    if not isinstance(value, str):
        return []
    return [int(each) for each in _WHOLE.findall(value[:_LONGEST_TEXT])]


def _nullable(written: str) -> str:
    return (
        written if written.startswith(("Nullable(", "LowCardinality(N")) else f"Nullable({written})"
    )


def _bindable(value: Any, name: str) -> Any:
    """The value in a form for `binding.bound`: a scalar, or a list of texts or of numbers."""
    if isinstance(value, _SCALAR):
        return _scalar(value)
    if isinstance(value, list):
        items = cast("Sequence[Any]", value)
        same = {isinstance(item, str) for item in items}
        if (
            len(items) <= _MOST_VALUES
            and len(same) <= 1
            and all(isinstance(i, _SCALAR) for i in items)
        ):
            return [_scalar(item) for item in items]
    raise Refusal("A parameter is a text, a number, or a list of either.", name)


def _timely(value: Any) -> Any:
    """ISO 8601 times as the engine reads them: with an offset, as seconds since the epoch."""
    if isinstance(value, list):
        return [_timely(each) for each in cast("list[Any]", value)]
    match = _ISO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    date, clock, fraction, offset = match.groups(default="")
    if not offset:
        return f"{date} {clock}{fraction}"
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{offset}")
    except ValueError:
        return value
    return f"{int(moment.timestamp())}{fraction}"


def _scalar(value: str | float | bool) -> str | int | float:
    return int(value) if isinstance(value, bool) else value
