"""Named values in a text that is no JSON but holds some: cut short, a line each, or in prose.

An exporter cuts long attributes, and what is cut is no JSON any more. What follows a key name in
quotes and a colon is its value; where that has no end to be found, everything to the end of the
text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from nilometer.domain.redaction.rules import replacement

_SCALAR = re.compile(r"[^\s,\]})]++")
_QUOTED = {
    quote: re.compile(rf"{quote}[^{quote}\\]*+(?:\\.[^{quote}\\]*+)*+{quote}", re.DOTALL)
    for quote in ('"', "'")
}


class LooseKeys:
    """Finds the values of these names in texts."""

    def __init__(self, names: Iterable[str], rule_of: Callable[[str], str]) -> None:
        told = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        # In double quotes as in JSON, or single ones as Python writes an object.
        self._named = re.compile(rf"""(["'])({told})\\*+\1\s*+:\s*+""", re.IGNORECASE)
        self._rule_of = rule_of

    def replaced(self, text: str, count: Callable[[str], None]) -> str:
        """The text without the values; itself where there is none."""
        pieces: list[str] = []
        done = 0
        for start, end, told, rule in self._values(text):
            pieces += [text[done:start], told]
            done = end
            count(rule)
        return "".join([*pieces, text[done:]]) if done else text

    def _values(self, text: str) -> Iterator[tuple[int, int, str, str]]:
        place = 0
        while found := self._named.search(text, place):
            start, rule = found.end(), self._rule_of(found[2])
            told = replacement(rule)
            end, quote = _value(text, start)
            place = max(end, start)
            written = f"{quote}{told}{quote}"
            if rule and end > start and text[start:end] not in (written, "null", "None"):
                yield start, end, written, rule


def _value(text: str, start: int) -> tuple[int, str]:
    """Where the value ends, and the quotes around it."""
    first = text[start : start + 1]
    if first in _QUOTED:
        whole = _QUOTED[first].match(text, start)
        return (whole.end() if whole else len(text)), first
    if first in ("{", "[", "\\"):
        return len(text), '"'
    scalar = _SCALAR.match(text, start)
    return (scalar.end() if scalar else start), '"'
