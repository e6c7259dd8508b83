"""Rules, ready to be carried out. Pure, and safe between threads."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache

import orjson

from nilometer.domain.redaction.json_scan import JsonScan
from nilometer.domain.redaction.layout import Layout
from nilometer.domain.redaction.loose_text import LooseKeys
from nilometer.domain.redaction.matching import Matcher
from nilometer.domain.redaction.rules import KEY_PREFIX, Content, RedactionRules
from nilometer.errors import Unavailable

MAX_LEVELS = 8
"""JSON in strings of JSON; what lies deeper is redacted as text."""


class RedactionUnavailable(Unavailable):
    """The project's rules cannot be read by this release: nothing of it may be kept until they
    can be."""

    code = "redaction_unavailable"


class Redactor:
    """What a project's rules make of what is sent to it.

    Every method gives what it was given, the very same object, where no rule touched it; `counts`
    gets how often each rule did.
    """

    def __init__(self, rules: RedactionRules) -> None:
        self.keeps_content = rules.content is Content.KEEP
        self._matcher = Matcher(rules)
        self._rules = {key.casefold(): f"{KEY_PREFIX}{key}" for key in rules.keys}
        self._cards = "credit_card" in rules.patterns
        self._loose = LooseKeys(rules.keys, self.rule_of) if rules.keys else None

    def rule_of(self, name: str) -> str:
        """The rule that names a member or an attribute, "" for none."""
        return self._rules.get(name.casefold(), "")

    def text(self, text: str, counts: Counter[str], level: int = 0) -> str:
        """A string's text. One that is JSON is redacted value by value, and stays JSON."""
        if text.lstrip()[:1] in ("{", "[", '"') and level < MAX_LEVELS and _is_json(text):
            return self.json(text, counts, level=level + 1)
        told = text
        if self._loose is not None:
            told = self._loose.replaced(text, lambda rule: counts.update((rule,)))
        return self.name(told, counts)

    def json(
        self, text: str, counts: Counter[str], layout: Layout | None = None, level: int = 0
    ) -> str:
        """A text that is valid JSON, what no rule touches as it was sent."""
        scan = JsonScan(
            text,
            text_of=lambda value: self.text(value, counts, level),
            name_of=lambda name: self.name(name, counts),
            rule_of=self.rule_of,
            cards=self._cards,
            counts=counts,
        )
        return scan.run(layout)

    def name(self, text: str, counts: Counter[str]) -> str:
        """A text that is no JSON: patterns alone."""
        return self._matcher.replaced(text, counts)

    def hides(self, address: str) -> bool:
        """Whether a pattern matches the address of a sender: it is then not kept."""
        return self.name(address, Counter()) is not address


@lru_cache(maxsize=1024)
def redactor_of(rules: RedactionRules) -> Redactor:
    """The redactor of these rules. Raises RedactionUnavailable for what cannot be read."""
    if not rules.readable:
        raise RedactionUnavailable("the project's redaction rules cannot be read; upgrade to go on")
    return Redactor(rules)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        pass
    else:
        return True
    # orjson refuses half of a surrogate pair, NaN, and numbers beyond a double; doors may not.
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True
