"""ClickHouse's canonical text as a tree, by sqlglot.

What the engine's formatter prints is regular: operators in parentheses, CASE, CAST, INTERVAL and
their like as function calls. So this dialect knows few keywords and no function at all: every call
is a name with arguments, and none is rewritten on the way (sqlglot would otherwise turn
toStartOfDay into dateTrunc, whose type differs).
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from sqlglot import errors, exp, parser
from sqlglot.dialects.clickhouse import ClickHouse
from sqlglot.parsers.clickhouse import ClickHouseParser
from sqlglot.tokenizer_core import TokenType

from nilometer.query.sql.refusal import Refusal

_KEYWORDS = {
    *(
        "ALL",
        "AND",
        "ANTI",
        "ANY",
        "ARRAY",
        "AS",
        "ASC",
        "ASOF",
        "BETWEEN",
        "CROSS",
        "CUBE",
        "DESC",
    ),
    *("DISTINCT", "EXCEPT", "FALSE", "FINAL", "FORMAT", "FROM", "FULL", "GLOBAL", "GROUP BY"),
    *("GROUPING SETS", "HAVING", "ILIKE", "IN", "INNER", "INTERSECT", "INTO", "IS", "JOIN", "LEFT"),
    *("LIKE", "LIMIT", "NOT", "NULL", "OFFSET", "ON", "OR", "ORDER BY", "OUTER", "OVER", "PASTE"),
    *("PARTITION BY", "PREWHERE", "QUALIFY", "RANGE", "RECURSIVE", "RIGHT", "ROLLUP", "ROWS"),
    *("SAMPLE", "SELECT", "SEMI", "SETTINGS", "TRUE", "UNION", "USING", "WHERE", "WINDOW", "WITH"),
    *("!=", "->", "::", "<=", "<=>", "<>", ">=", "==", "||"),
}

# Words besides that no column may be called.
_RESERVED = frozenset({"CASE", "WHEN", "END", "USING"})


TOO_DEEP = "The query is nested too deeply."

# Where a node's meta has its text.
TEXT = "text"


def _limit(self: Any) -> tuple[str, Any]:
    limit = self._parse_limit()
    return ("limit_by" if limit.expressions else "limit"), limit


class _Parser(ClickHouseParser):
    """sqlglot's parser, less what it does with functions, types and arrows.

    Its own parts are private by their names only: subclasses are how dialects are made.
    """

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {}
    FUNC_TOKENS: ClassVar[set[TokenType]] = {
        *ClickHouseParser.FUNC_TOKENS,
        *(TokenType.ANY, TokenType.ARRAY, TokenType.FORMAT, TokenType.LEFT, TokenType.RIGHT),
        *(TokenType.RANGE, TokenType.ALL),
    }
    COLUMN_OPERATORS: ClassVar[dict[TokenType, Any]] = {TokenType.DOT: None}
    # Two LIMITs may stand in one query: LIMIT n BY columns, then LIMIT n.
    QUERY_MODIFIER_PARSERS: ClassVar[dict[TokenType, Any]] = {
        **cast("dict[TokenType, Any]", cast("Any", ClickHouseParser).QUERY_MODIFIER_PARSERS),
        TokenType.LIMIT: _limit,
    }

    def _parse_expression(self) -> Any:
        """An expression with its text, which names its column where no other name is given."""
        start = self._curr.start if self._curr else 0
        expression: Any = super()._parse_expression()
        if expression is not None:
            expression.meta[TEXT] = self.sql[start : self._prev.end + 1]
        return expression

    def _parse_types(self, *_: Any, **__: Any) -> None:
        """Types stand in strings only."""

    def _parse_function(self, *given: Any, **named: Any) -> Any:
        function: Any = _plain_function(self, *given, **named)
        if not isinstance(function, exp.Anonymous):
            return function
        arguments = self._parse_func_params(function)
        if arguments is None:
            return function
        parametric = exp.ParameterizedAgg(
            this=function.name, expressions=function.expressions, params=arguments
        )
        return self._parse_window(parametric)

    def _parse_query_parameter(self) -> Any:
        """`{name:Type}`: the type as its text."""
        name = self._parse_id_var()
        if name is None or not self._match(TokenType.COLON):
            return None
        words: list[str] = []
        while self._curr and not self._match(TokenType.R_BRACE):
            is_string = self._curr.token_type is TokenType.STRING
            words.append(f"'{self._curr.text}'" if is_string else self._curr.text)
            self._advance()
        return exp.Placeholder(this=name, kind="".join(words))


# The base's, not ClickHouse's: that one takes aggregates' names apart.
_plain_function: Any = cast("Any", parser.Parser)._parse_function  # noqa: SLF001


class _Dialect(ClickHouse):
    # Array indices are kept as they are written.
    INDEX_OFFSET = 0

    class Tokenizer(ClickHouse.Tokenizer):
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            word: kind for word, kind in ClickHouse.Tokenizer.KEYWORDS.items() if word in _KEYWORDS
        }

    # A bare UNION drops duplicates, as in the standard; the engine's own default is to refuse it.
    SET_OP_DISTINCT_BY_DEFAULT = {  # noqa: RUF012  (the base says what it is)
        **ClickHouse.SET_OP_DISTINCT_BY_DEFAULT,
        exp.Union: True,
    }

    Parser = _Parser


_dialect = _Dialect()


def parse(canonical: str) -> exp.Query:
    """The tree of a query in the engine's canonical text. Raises Refusal."""
    if canonical.lstrip("(").partition(" ")[0] not in ("SELECT", "WITH"):
        raise Refusal("Only a SELECT may be sent.")
    try:
        trees = _dialect.parse(canonical)
    except RecursionError:
        raise Refusal(TOO_DEEP, code="too_deep_recursion") from None
    except errors.SqlglotError as error:
        raise _unreadable(_word_of(error)) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise Refusal("Only a SELECT may be sent.")
    return trees[0]


def _unreadable(word: str | None) -> Refusal:
    sentence = "Something in this query is not supported; docs/sql.md says what is."
    if word and word.upper() in _KEYWORDS | _RESERVED:
        sentence = (
            f"{word} is a word of SQL and cannot stand here; a column of that name needs another."
        )
    return Refusal(sentence, word)


def _word_of(error: Exception) -> str | None:
    """The word that sqlglot stopped at."""
    found = error.errors if isinstance(error, errors.ParseError) else []
    return str(found[0].get("highlight") or "") or None if found else None
