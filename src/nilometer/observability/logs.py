"""Nilometer's own logs: one line an event on standard error, times in UTC.

A log line never holds a key, a token, or what a prompt or an answer said.
"""

from __future__ import annotations

import logging
import time


def configure(level: str) -> None:
    """Send every logger's lines to standard error from `level` up."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    formatter.datefmt = "%Y-%m-%dT%H:%M:%S"
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("uvicorn", "httpx", "clickhouse_connect", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
