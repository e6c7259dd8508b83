"""What a word of a query may become: for prompts that complete."""

from __future__ import annotations

from functools import cache

from nilometer.query.sql.functions import AGGREGATES, FUNCTIONS
from nilometer.query.sql.tables import TABLES, column_names

_KEYWORDS = (
    "SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET WITH JOIN LEFT INNER ON USING "
    "UNION ALL EXCEPT INTERSECT AS AND OR NOT IN IS NULL LIKE ILIKE BETWEEN CASE WHEN THEN ELSE "
    "END INTERVAL ARRAY OVER PARTITION QUALIFY DESC ASC"
)


def completions(start: str) -> list[str]:
    """The keywords, tables, columns and functions that begin so, in any letter case."""
    folded = start.lower()
    return [word for word in _words() if word.lower().startswith(folded)] if start else []


@cache
def _words() -> tuple[str, ...]:
    functions = {f"{name}(" for names in FUNCTIONS.values() for name in names}
    aggregates = {f"{name}(" for name in AGGREGATES}
    columns = column_names(TABLES)
    return tuple(sorted({*_KEYWORDS.split(), *TABLES, *columns, *functions, *aggregates}))
