"""The shop of `tests.usage.serverless`, over a table of the shared DynamoDB Local, or on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dynamodb.conftest import Table, local, local_client, made, moto_client
from tests.usage.serverless import Shop, shop

__all__ = ["local", "local_client", "made", "moto_client"]


@pytest.fixture
def shop_here(local: Table, tmp_path: Path) -> Iterator[Shop]:
    """On DynamoDB Local."""
    with shop(local, tmp_path) as opened:
        yield opened


@pytest.fixture
def shop_of_each(made: Table, tmp_path: Path) -> Iterator[Shop]:
    """On DynamoDB Local and on moto."""
    with shop(made, tmp_path) as opened:
        yield opened
