"""The tables of `docs/conventions.md`, made from the table of spans."""

from __future__ import annotations

from nilometer.conventions.ai_properties import EMBEDDING, GENERATION
from nilometer.conventions.spans.row import DISTINCT_ID, Convention, Kinds, Row
from nilometer.conventions.spans.table import CONVENTIONS, KINDS

BEGIN = "<!-- made by scripts/schemas; do not edit -->"
END = "<!-- end -->"


def with_tables(page: str) -> str:
    """The page with what stands between its markers made anew.

    Raises ValueError when it does not have exactly one pair of markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after:
        raise ValueError(f"the page needs one {BEGIN!r} with one {END!r} after it")
    sections = "\n".join([_kinds(), *map(_section, CONVENTIONS)])
    return f"{before}{BEGIN}\n\n{sections}\n{END}{after}"


def _kinds() -> str:
    head = "## Which spans are calls\n\n| Attribute | Generations | Embeddings |\n|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_kind_cells(kinds))} |\n" for kinds in KINDS)


def _kind_cells(kinds: Kinds) -> tuple[str, ...]:
    part = ", its last part" if kinds.last_segment else ""
    values = [
        ", ".join(f"`{value}`" for value, name in kinds.calls.items() if name == event)
        for event in (GENERATION, EMBEDDING)
    ]
    return (f"`{kinds.attribute}`{part}", *values)


def _section(convention: Convention) -> str:
    head = (
        f"## {convention.title}\n\n{convention.source}.\n\n"
        "| Property | From, the best first | Read as | Usage | Versions |\n|---|---|---|---|---|\n"
    )
    return head + "".join(f"| {' | '.join(_cells(row))} |\n" for row in convention.rows)


def _cells(row: Row) -> tuple[str, ...]:
    target = "the event's `distinct_id`" if row.target == DISTINCT_ID else f"`{row.target}`"
    join = " + " if row.build else ", "
    return (
        f"{target}, calls only" if row.calls_only and not row.usage else target,
        join.join(f"`{source}`" for source in row.sources),
        (row.build.__name__.replace("_", " ") if row.build else row.shape.name),
        row.usage,
        row.version,
    )
