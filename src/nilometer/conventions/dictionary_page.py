"""The tables of `docs/events.md`, made from the dictionary of properties."""

from __future__ import annotations

from collections.abc import Iterable

from nilometer.conventions.ai_properties import EVENT_TYPES, PROPERTIES, Property

BEGIN = "<!-- made by scripts/schemas; do not edit -->"
END = "<!-- end -->"
_HEADER = "| Property | Type | Column | Usual on | Meaning | Source |\n|---|---|---|---|---|---|\n"


def with_tables(page: str) -> str:
    """The page with what stands between its markers made anew.

    Raises ValueError when it does not have exactly one pair of markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after:
        raise ValueError(f"the page needs one {BEGIN!r} with one {END!r} after it")
    return f"{before}{BEGIN}\n\n{table(PROPERTIES)}\n{END}{after}"


def table(properties: Iterable[Property]) -> str:
    """A Markdown table of properties."""
    return _HEADER + "".join(f"| {' | '.join(_cells(known))} |\n" for known in properties)


def _cells(known: Property) -> tuple[str, ...]:
    kind = f"{known.kind.name}, heavy" if known.heavy else known.kind.name
    return (
        f"`{known.name}`",
        f"{kind}, required" if known.required else kind,
        f"`{known.column}` {known.kind.column_type}" if known.column else "",
        _usual(known),
        known.description,
        known.source,
    )


def _usual(known: Property) -> str:
    if known.events == EVENT_TYPES:
        return "all"
    return ", ".join(event.removeprefix("$ai_") for event in known.events)
