"""What a row of the table says: from which attributes, in which order, a property is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nilometer.conventions.spans.shapes import NAME, Shape

DISTINCT_ID = "distinct_id"
"""Target of what names the person; it becomes the event's, not a property."""
INPUT = "$ai_input"
OUTPUT = "$ai_output_choices"
PARAMETERS = "$ai_model_parameters"


@dataclass(frozen=True, slots=True)
class Row:
    """One property and the attributes that give it, the best first.

    A source is an attribute's name; or `name#a.b`, the member `a.b` of the object in it; or, for a
    target `$property.*`, `name.*`: each attribute that starts so is a member of that property.
    With `build` the sources are pieces of one value and no alternatives: what they hold is put
    together in one object, by the last part of each name; `name.N.*` then stands for all attributes
    of a flattened list. `usage` names the way of counting that a row of tokens belongs to: a call
    is read in one way only, never bucket by bucket from several. `calls_only` rows are not applied
    to other spans, whose attributes keep their names. `version` says which releases write them.
    """

    target: str
    sources: tuple[str, ...]
    shape: Shape = NAME
    version: str = ""
    usage: str = ""
    calls_only: bool = False
    build: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Kinds:
    """An attribute that says what a span does: which of its values are calls.

    `calls` maps values (lowercase) to the event's name; any other value is a step. With
    `last_segment` only what follows the value's last dot is looked at.
    """

    attribute: str
    calls: Mapping[str, str]
    last_segment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """The rows of one way to describe calls on spans.

    A span speaks it when one of its attributes starts with a `head` (the part before the first
    dot) or its scope has one of the `scopes`. `adds` are properties that all its spans get.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    heads: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    kinds: tuple[Kinds, ...] = ()
    adds: Mapping[str, Any] | None = None


def tokens(
    usage: str, version: str, sources: Mapping[str, tuple[str, ...]], shape: Shape
) -> tuple[Row, ...]:
    """Rows of the counts of one way of counting: `$ai_<name>` from its sources."""
    return tuple(
        Row(f"$ai_{name}", names, shape, version, usage, calls_only=True)
        for name, names in sources.items()
    )
