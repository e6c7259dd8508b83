"""Whether a span is of AI, from names alone: cheap enough to ask before it is kept."""

from __future__ import annotations

from collections.abc import Iterable

from nilometer.conventions.spans.table import DETECTION

_HEADS = frozenset(head for convention in DETECTION for head in convention.heads)
_SCOPES = frozenset(scope for convention in DETECTION for scope in convention.scopes)
_OWN = "$ai_"


def is_ai(attribute_names: Iterable[str], scope_name: str) -> bool:
    """Whether some convention describes the span: what `convert` says with `is_ai`."""
    return scope_name in _SCOPES or any(
        name.partition(".")[0] in _HEADS or name.startswith(_OWN) for name in attribute_names
    )
