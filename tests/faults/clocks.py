"""Processes whose clock is wrong."""

from __future__ import annotations

from pathlib import Path


def off_by(seconds: int) -> list[str]:
    """What the command of a process begins with, so that its clock is so many seconds ahead."""
    return [
        "env",
        f"PYTHONPATH={Path(__file__).parent / 'skewed'}",
        f"NILOMETER_TEST_CLOCK={seconds}",
    ]
