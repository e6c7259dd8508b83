"""Warnings that would come with every batch."""

from __future__ import annotations

import logging
import time

EVERY = 60.0
"""Seconds from one to the next."""


class Seldom:
    """Logs a warning once in a while, however often it is given."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told = float("-inf")

    def warning(self, message: str, *details: object) -> None:
        """As the logger's."""
        now = time.monotonic()
        if now - self._told >= EVERY:
            self._told = now
            self._log.warning(message, *details)
