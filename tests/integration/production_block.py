"""The production `export` block as people are given it, and the same for another deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

BLOCK = (Path(__file__).parents[1] / "acceptance" / "production.env").read_text()


def filled_in(values: Mapping[str, str]) -> str:
    """The block with other values; nothing else of it changes."""
    block = BLOCK
    for name, value in values.items():
        block, count = re.subn(rf'(export {name}=")[^"]*', lambda m, v=value: m[1] + v, block)
        assert count == 1, name
    return block
