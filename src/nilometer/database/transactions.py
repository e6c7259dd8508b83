"""What a transaction is for, and how long it waits: the same on every database."""

from __future__ import annotations

from enum import StrEnum


class Transaction(StrEnum):
    """What a transaction is for; the execution option of the same name on its connection."""

    READ = "read"
    WRITE = "write"
    CONCURRENT = "concurrent"
    MIGRATE = "migrate"


BUSY_SECONDS = 5
"""How long a transaction waits for another's lock, or a thread for a connection."""

MIGRATION_SECONDS = 300
"""How long a migration waits for another one to end."""

CONNECTIONS = 16
"""How many connections one process opens at most."""
