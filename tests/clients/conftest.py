"""One server and one upstream for all pages that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.mock_openai import mock_openai
from tests.running import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clients") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def openai_upstream() -> Iterator[str]:
    with mock_openai() as url:
        yield url
