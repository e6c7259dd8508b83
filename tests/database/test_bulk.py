"""Many rows with few statements: as many as there are, as they are."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from nilometer.database.fence import EVERY_ROW
from nilometer.workflows import outbox
from nilometer.workflows.outbox import Notice
from nilometer.workflows.tables import OutboxRow
from tests.database.both import KINDS, opened


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield database


@pytest.mark.parametrize("count", [0, 1, 3, 17, 150, 300])
def test_every_row_is_written_in_its_order_and_those_named_are_deleted(database, count):
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    told = [Notice(1, f"lane {n}", n, f"event {n}", now, b"%d" % n) for n in range(count)]
    with database.session(EVERY_ROW) as session:
        outbox.publish(session, told)
    with database.session(EVERY_ROW) as session:
        found = outbox.oldest(session, 1000)
        assert [notice for _, notice in found] == told
        outbox.forget(session, [number for number, notice in found if notice.sequence % 7])
    with database.read(EVERY_ROW) as session:
        left = session.scalars(select(OutboxRow.sequence).order_by(OutboxRow.id)).all()
    assert left == list(range(0, count, 7))


def test_rows_that_share_a_moment_and_rows_that_do_not_keep_theirs(database):
    first = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    moments = [first, first, first + timedelta(microseconds=1), first]
    told = [Notice(1, "lane", n, f"event {n}", at, b"") for n, at in enumerate(moments)]
    with database.session(EVERY_ROW) as session:
        outbox.publish(session, told)
        assert [notice.occurred_at for _, notice in outbox.oldest(session, 9)] == moments
