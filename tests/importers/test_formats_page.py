"""Each example of docs/trace-formats.md is a call; its table of reasons has every reason."""

import re
from pathlib import Path

from nilometer.importers.trace_call import Reason
from tests.importers.records import parsed

PAGE = (Path(__file__).parents[2] / "docs/trace-formats.md").read_text()
EXAMPLES = re.findall(r"<<'EOF'\n(.*?)\nEOF", PAGE, re.DOTALL)


def test_each_example_is_a_call_with_tokens_and_nothing_rejected():
    sources = []
    for example in EXAMPLES:
        calls = []
        for line in example.splitlines():
            found = parsed(line.encode())
            assert not found.rejected
            calls += found.calls
        (call,) = calls
        assert call.tokens
        sources.append(call.source)
    assert sources == ["prodlens", "litellm", "claude_code", "otlp"]


def test_every_reason_is_told_of():
    table = PAGE[PAGE.index("## Reasons") :]
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) == {str(reason) for reason in Reason}
