"""What the tests of notifications share."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nilometer.access.accounts import Accounts
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.notifications.channel_store import ChannelInfo, Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.claims import Claims
from nilometer.notifications.configuration import Egress
from nilometer.notifications.deliverer import Deliverer
from nilometer.notifications.deliveries import Deliveries, Delivery
from nilometer.notifications.notification import Notification
from nilometer.notifications.outbox import enqueue
from tests.database.both import KINDS, opened
from tests.database.migrated import migrated
from tests.notifications.receivers import Receiver, receiving
from tests.notifications.telling import LOOPBACK, SECRET, told


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@dataclass
class Outbox:
    """A project's notifications, over a database, at a time that a test moves: what the test tells
    is due by then, however slow the machine is."""

    database: Database
    project: int
    other: int
    now: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(minutes=1))

    def __post_init__(self) -> None:
        self.egress = Egress(LOOPBACK)
        self.channels = Channels(self.database, self.egress)
        self.deliveries = Deliveries(self.database)
        self.claims = Claims(self.database)
        self.deliverer = Deliverer(self.claims, self.egress, now=lambda: self.now)

    def channel(self, url: str, name: str = "ops", project: int | None = None) -> ChannelInfo:
        config = {"url": url, "secret": SECRET}
        return self.channels.add(project or self.project, name, ChannelKind.WEBHOOK, config)

    def tell(
        self, channel: ChannelInfo | None = None, project: int | None = None, **more: object
    ) -> Notification:
        """Enqueue a notification, to all channels by default."""
        notification = told(**more)
        with self.database.session(EVERY_ROW) as session:
            chosen = None if channel is None else [channel.id]
            enqueue(session, project or self.project, notification, chosen)
        return notification

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def listed(self, project: int | None = None) -> list[Delivery]:
        return list(self.deliveries.list(project or self.project, limit=500).rows)

    def only(self) -> Delivery:
        [delivery] = self.listed()
        return delivery


@pytest.fixture(params=KINDS)
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outbox]:
    """An outbox on each kind of database, with two projects of two organizations."""
    with opened(request, tmp_path) as database:
        yield _outbox(database)


@pytest.fixture
def sqlite_outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        yield _outbox(database)


def _outbox(database: Database) -> Outbox:
    accounts = Accounts(database)
    first = accounts.bootstrap(None)
    assert first is not None
    _, second = accounts.organizations.create("second")
    return Outbox(database, first.project_id, second.project_id)
