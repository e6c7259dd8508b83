"""The examples of the adapters' pages run as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "clients"


@pytest.mark.parametrize("name", ["openai", "anthropic", "google-places"])
def test_the_example_of_a_page_runs(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    exec(compile(code, f"{name}.md", "exec"), {"__name__": "example"})
