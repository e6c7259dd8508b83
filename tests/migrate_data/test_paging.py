"""Rows are read page by page in the order of their keys, however many columns a key has."""

from contextlib import closing

from nilometer.incidents.tables import IncidentEventRow, IncidentRow
from nilometer.migrate_data import rows
from nilometer.workflows.tables import OutboxRow, TaskRow
from tests.database.migrated import migrated
from tests.incidents.handling import Handling, order


def test_a_page_begins_behind_the_whole_key_of_the_last_one(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_PAGE_ROWS", 2)
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        handling = Handling(database)
        handling.accept(*(order(number) for number in range(3)))
        handling.run()
        handling.accept(*(order(number) for number in range(2)))
        for row, count in ((IncidentRow, 5), (IncidentEventRow, 23), (TaskRow, 2), (OutboxRow, 23)):
            table = row.__table__
            keys = [
                tuple(each[c.name] for c in table.primary_key)
                for each in rows._rows(database, table)
            ]
            assert keys == sorted(set(keys))
            assert len(keys) == count
