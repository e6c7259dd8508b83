"""What is known of a JSON object that is redacted: which of its members are not content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Of an object; of a list the layout of its items.

    `fixed` members are an identity, which nothing changes; `named` ones only a rule that names
    them. No pattern changes a member's name that begins with `$` or is listed here. `inner` are
    the layouts of members that are objects or lists; that of a list is its items'.

    Where `keeps` is given everything else is left out but numbers, true, false and null: a member
    of `keeps` stays when it is no object or list, one of `whole` as it is, one of `inner` by its
    own layout.
    """

    fixed: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    inner: Mapping[str, Layout] = field(default_factory=dict[str, "Layout"])
    keeps: frozenset[str] | None = None
    whole: frozenset[str] = frozenset()

    def knows(self, name: str) -> bool:
        """Whether the name says what the member is, and so stays."""
        kept = self.keeps is not None and name in self.keeps
        known = name in self.fixed or name in self.named or name in self.inner
        return kept or known or name in self.whole or name.startswith("$")

    def drops(self, name: str, begins: str) -> bool:
        """Whether a member whose value begins so is left out."""
        if self.keeps is None or name in self.whole or begins not in '"{[':
            return False
        return name not in (self.keeps if begins == '"' else self.inner)
