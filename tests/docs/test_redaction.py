"""The page on redaction lists the built-in patterns, all and as they are."""

import json
import re
from pathlib import Path

from nilometer.domain.redaction.patterns import BUILTINS
from nilometer.domain.redaction.reading import MAX_KEYS, MAX_PATTERNS, MAX_REGEX, read_rules

PAGE = (Path(__file__).parents[2] / "docs/redaction.md").read_text()


def test_every_built_in_pattern_is_listed():
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert listed == {name: each.description for name, each in BUILTINS.items()}


def test_the_rules_shown_can_be_set():
    [shown] = re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    rules = read_rules(json.loads(shown))
    assert rules is not None
    assert rules.to_json() == json.loads(shown)


def test_the_limits_are_the_ones_told():
    told = (f"at most {MAX_PATTERNS} patterns", f"{MAX_REGEX:,}\ncharacters", f"{MAX_KEYS} names")
    assert [each for each in told if each not in PAGE] == []
