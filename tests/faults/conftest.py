"""What the files here share: the servers of one deployment, each file its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.deployment import Deployment, Load, Servers, deployed, servers
from tests.services import KafkaService, PostgresService, S3Service


@pytest.fixture(scope="module")
def standing(
    kafka: KafkaService,
    postgres: PostgresService,
    s3: S3Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    """The shared servers, and a ClickHouse of the file's own."""
    with servers(kafka, postgres, s3, tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(standing: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment on them."""
    with deployed(standing, tmp_path_factory.mktemp("deployment")) as made:
        yield made


@pytest.fixture
def loading() -> Iterator[Callable[..., Load]]:
    """Makes a `Load` that runs; one that a failed test leaves running is ended."""
    loads: list[Load] = []

    def start(*arguments: Any, **options: Any) -> Load:
        loads.append(Load(*arguments, **options).start())
        return loads[-1]

    yield start
    for each in loads:
        each.abandon()
