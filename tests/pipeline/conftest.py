"""What the pipeline runs between: a database for dead letters, and the shared store."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from nilometer import failpoints
from nilometer.access.accounts import Accounts
from nilometer.access.deletion import Tombstones
from nilometer.blobs.store import BlobStore, open_store
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import migrate
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.jobs import Kind, Rewrites
from nilometer.pipeline.rewriting.remap import Remap
from nilometer.pipeline.rewriting.reprice import Reprice
from nilometer.pipeline.rewriting.worker import RewriteWorker
from tests.pipeline.prices import Prices


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
def blobs(tmp_path: Path) -> Iterator[BlobStore]:
    with closing(open_store((tmp_path / "blobs").as_uri(), bucket="nilometer")) as blobs:
        yield blobs


@pytest.fixture
def unexpired(blobs: BlobStore, tmp_path: Path) -> Iterator[BlobStore]:
    """The same objects, kept for a hundred years."""
    url = (tmp_path / "blobs").as_uri()
    with closing(open_store(url, bucket="nilometer", default_retention_days=36500)) as store:
        yield store


@pytest.fixture
def packer(blobs: BlobStore) -> Packer:
    return Packer(blobs, above=1000)


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


@pytest.fixture
def prices() -> Prices:
    return Prices()


@pytest.fixture
def rewrites(database: Database) -> Rewrites:
    for left in Rewrites(database).unfinished():
        Rewrites(database).cancel(left.project_id, left.id)
    return Rewrites(database)


@pytest.fixture
def project(database: Database) -> int:
    """A project that the database knows, far above the ids of other tests over the same store."""
    accounts = Accounts(database)
    accounts.bootstrap(None)
    with database.session(EVERY_ROW) as session:
        session.execute(text("UPDATE sqlite_sequence SET seq = max(seq, 1500000000)"))
    return accounts.create_project("repriced").project_id


@pytest.fixture
def worker(
    database: Database,
    store: Store,
    rewrites: Rewrites,
    prices: Prices,
    blobs: BlobStore,
    packer: Packer,
) -> Callable[..., RewriteWorker]:
    def make(page_rows: int = 1000) -> RewriteWorker:
        return RewriteWorker(
            rewrites,
            {
                Kind.REPRICE: Reprice(store, prices.of, page_rows),
                Kind.REMAP: Remap(store, prices.of, blobs, packer, page_rows),
            },
            tombstoned=Tombstones(database).among,
            settle=prices.settle,
            pause=0,
        )

    return make
