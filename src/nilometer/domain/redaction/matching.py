"""A project's patterns, carried out on one text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nilometer.domain.redaction.confirming import Span
from nilometer.domain.redaction.patterns import BUILTINS, Confirm, Regex, any_of, builtin, compiled
from nilometer.domain.redaction.rules import RedactionRules, replacement

MAX_MATCHES = 10_000
"""In one text; beyond it the whole text is replaced: a match takes microseconds."""
_MAX_PASSES = 8


@dataclass(frozen=True, slots=True)
class _Pattern:
    rule: str
    regex: Regex
    confirm: Confirm | None

    def spans(self, text: bytes) -> Iterator[Span]:
        for found in self.regex.finditer(text):
            start, end = found.span()
            if self.confirm is not None:
                yield from self.confirm(text, start, end)
            elif start < end:
                yield start, end


class Matcher:
    """Replaces what the patterns match by the rules' names. Safe between threads."""

    def __init__(self, rules: RedactionRules) -> None:
        self._patterns = [
            *(_Pattern(name, builtin(name), BUILTINS[name].confirm) for name in rules.patterns),
            *(_Pattern(own.name, compiled(own.regex), None) for own in rules.custom),
        ]
        regexes = [BUILTINS[name].regex for name in rules.patterns]
        self._any = any_of(regexes + [own.regex for own in rules.custom])
        written = "|".join(re.escape(replacement(name)) for name in rules.names)
        self._written = re.compile(written.encode())

    def replaced(self, text: str, counts: Counter[str]) -> str:
        """The text without what any pattern matches; `counts` gets how often, by rule.

        Doing it again changes nothing: what was written here is passed over, and what a pattern
        matches only beside it is replaced too. The text itself where nothing matched.
        """
        if not self._patterns:
            return text
        data = text.encode("utf-8", "surrogatepass")
        if self._any is not None and self._any.search(data) is None:
            return text
        found: Counter[str] = Counter()
        spans = self._spans(data)
        for _ in range(_MAX_PASSES):
            if not spans or len(spans) > MAX_MATCHES:
                break
            data = _spliced(data, spans, found)
            spans = self._spans(data)
        counts.update(found)
        if spans:
            counts[spans[0][2]] += 1
            return replacement(spans[0][2])
        return data.decode("utf-8", "surrogatepass") if found else text

    def _spans(self, data: bytes) -> list[tuple[int, int, str]]:
        """What is to be replaced, in order, and by which rule; at most a few more than there may
        be."""
        written = [match.span() for match in self._written.finditer(data)]
        found: list[tuple[int, int, str]] = []
        for pattern in self._patterns:
            for start, end in pattern.spans(data):
                if not _inside(written, start, end):
                    found.append((start, end, pattern.rule))
                    if len(found) > 2 * MAX_MATCHES:
                        return found
        return _disjoint(found)


def _inside(written: list[Span], start: int, end: int) -> bool:
    place = bisect_right(written, start, key=_start)
    return place > 0 and end <= written[place - 1][1]


def _start(span: Span) -> int:
    return span[0]


def _disjoint(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Spans that overlap as one, of the rule of the first of them."""
    joined: list[tuple[int, int, str]] = []
    for start, end, rule in sorted(spans, key=lambda span: (span[0], -span[1])):
        if joined and start < joined[-1][1]:
            first, last, kept = joined[-1]
            joined[-1] = (first, max(last, end), kept)
        else:
            joined.append((start, end, rule))
    return joined


def _spliced(data: bytes, spans: list[tuple[int, int, str]], counts: Counter[str]) -> bytes:
    pieces: list[bytes] = []
    done = 0
    for start, end, rule in spans:
        pieces += [data[done:start], replacement(rule).encode()]
        counts[rule] += 1
        done = end
    return b"".join([*pieces, data[done:]])
