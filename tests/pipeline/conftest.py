"""What the pipeline runs between: a database for dead letters, and the shared store."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nilometer import failpoints
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Pipeline


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    failpoints.configure("")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('database') / 'nilometer.db'}")
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def dead_letters(database: Database) -> DeadLetters:
    return DeadLetters(database)


@pytest.fixture
def make_pipeline(store: Store, dead_letters: DeadLetters) -> Iterator[Callable[..., Pipeline]]:
    """Pipelines over a log, stopped when the test ends."""
    made: list[Pipeline] = []

    def make(log: Any, **settings: Any) -> Pipeline:
        given = {"log": log, "store": store, "dead_letters": dead_letters, "linger": 0}
        made.append(Pipeline(**given | settings))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.stop(10)
