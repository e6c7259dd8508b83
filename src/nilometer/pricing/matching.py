"""Whether a model of the price book is the one that a name means.

genai-prices finds models by rules such as "starts with claude-opus-4-5" or "contains o4-mini".
Taken alone they price `o4-mini-clone` as o4-mini. Here a rule is trusted for a name only where
what it leaves open says no more than which snapshot (`names.bases`): an equal name, a shape
anchored at both ends, or a text that with a snapshot's suffix gives the name. That the rule itself
matches is needed besides, so that exceptions which the book states hold; only a model's own id
needs no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nilometer.pricing.names import is_fine_tune

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo

EXACT = "exact"
SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Rules:
    """The trustworthy content of a model's rule: whole names, and shapes."""

    names: frozenset[str]
    shapes: tuple[re.Pattern[str], ...]

    def longest(self, name: str, name_bases: list[str]) -> tuple[int, str] | None:
        """How a name is this model: the length of the text that says so, and EXACT or SNAPSHOT."""
        if name in self.names or any(shape.fullmatch(name) for shape in self.shapes):
            return len(name), EXACT
        lengths = [len(base) for base in name_bases if base in self.names]
        shortest = name_bases[-1]
        lengths += [
            len(text)
            for text in self.names
            if text.startswith(shortest) and any(base.startswith(text) for base in name_bases)
        ]
        return (max(lengths), SNAPSHOT) if lengths else None


def rules_of(model: ModelInfo) -> Rules:
    """A model's rules. Its id counts as a name of it."""
    texts: set[str] = {model.id.lower()}
    shapes: list[re.Pattern[str]] = []
    for kind, text in _leaves(model.match):
        if kind != "regex":
            texts.add(text.lower())
        elif text.startswith("^") and text.endswith("$") and ".*" not in text:
            shapes.append(re.compile(text))
    if is_fine_tune(model.id) or ".ft-" in model.id:
        return Rules(frozenset(texts), tuple(shapes))
    # A fine-tuned model has a price of its own or none, whatever its base's rule says.
    return Rules(frozenset(text for text in texts if not is_fine_tune(text)), tuple(shapes))


def _leaves(rule: MatchLogic) -> Iterator[tuple[str, str]]:
    parts = getattr(rule, "or_", None) or getattr(rule, "and_", None)
    if parts is not None:
        for part in parts:
            yield from _leaves(part)
        return
    yield from vars(rule).items()
