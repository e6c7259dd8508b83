"""Whether a model of the price book is the one that a name means.

genai-prices finds models by rules such as "starts with claude-opus-4-5" or "contains o4-mini".
Taken alone they price `o4-mini-clone` as o4-mini. Here a rule is trusted for a name only where
what it leaves open says no more than which snapshot (`names.bases`): an equal name, a shape
anchored at both ends, or a text that with a snapshot's suffix gives the name. A text that ends in
the middle of a word or number is none of that: `claude-opus-4-1` says nothing of
`claude-opus-4-100`. That the rule itself matches is needed besides, so that exceptions which the
book states hold; only a model's own id needs no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nilometer.pricing.names import is_fine_tune, version

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo

EXACT = "exact"
SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Rules:
    """The trustworthy content of a model's rule: whole names, and shapes."""

    names: frozenset[str]
    shapes: tuple[re.Pattern[str], ...]
    version: tuple[str, str] | None = None
    """Bedrock's, of the model's id."""
    open: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The names that end in a separator: what follows says which of the model's own it is."""

    def __post_init__(self) -> None:
        unfinished = tuple(text for text in self.names if not text[-1:].isalnum())
        object.__setattr__(self, "open", unfinished)

    def longest(self, name: str, name_bases: list[str]) -> tuple[int, str] | None:
        """How a name is this model: the length of the text that says so, and EXACT or SNAPSHOT."""
        if name in self.names or any(shape.fullmatch(name) for shape in self.shapes):
            return len(name), EXACT
        if not self._is_version(name):
            return None
        lengths = [len(base) for base in name_bases if base in self.names]
        shortest = name_bases[-1]
        lengths += [
            len(text)
            for text in self.open
            if text.startswith(shortest) and any(base.startswith(text) for base in name_bases)
        ]
        return (max(lengths), SNAPSHOT) if lengths else None

    def _is_version(self, name: str) -> bool:
        """Whether the name leaves the version out, or has the model's, or the first of a model
        whose id has none."""
        sent = version(name)
        if sent is None:
            return True
        major, minor = self.version or ("1", "")
        return sent[0] == major and (not minor or sent[1] in ("", minor))


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
        return Rules(frozenset(texts), tuple(shapes), version(model.id))
    # A fine-tuned model has a price of its own or none, whatever its base's rule says.
    own = frozenset(text for text in texts if not is_fine_tune(text))
    return Rules(own, tuple(shapes), version(model.id))


def _leaves(rule: MatchLogic) -> Iterator[tuple[str, str]]:
    parts = getattr(rule, "or_", None) or getattr(rule, "and_", None)
    if parts is not None:
        for part in parts:
            yield from _leaves(part)
        return
    yield from vars(rule).items()
