"""What holds by itself when the guard in front of it does not: the handle that a query runs on."""

import pytest

from nilometer.clickhouse.sandbox import EMPTY_DATABASE, EngineFault
from nilometer.query.sql import limits, tables
from tests.query_sql import neighbours


@pytest.fixture
def handle(store, ours):
    with store.sandbox(limits.settings(ours, seconds=5, result_bytes=1 << 20)) as handle:
        yield handle


@pytest.mark.parametrize("table", tables.STORED)
def test_every_table_is_filtered_to_the_project(handle, ours, table):
    sql = f"SELECT DISTINCT project_id FROM nilometer.{table}"
    assert handle.read(sql, "TSV") == f"{ours}\n".encode()


def test_no_table_of_a_project_is_forgotten(store):
    found = store.query(
        "SELECT table FROM system.columns WHERE database = 'nilometer' AND name = 'project_id'"
    )
    assert {row[0] for row in found.rows} == set(tables.STORED)


def test_the_keys_of_the_stored_tables_are_those_hidden(store):
    found = store.query(
        "SELECT table, name FROM system.columns WHERE database = 'nilometer' "
        "AND (is_in_primary_key OR is_in_partition_key OR is_in_sorting_key)"
    )
    for table in tables.TABLES.values():
        keys = {name for source, name in found.rows if source == table.source}
        exposed = {column.name for column in table.columns if column.sql is None}
        assert (keys & exposed) == set(table.keys), table.name


@pytest.mark.parametrize("name", ["events", "calls", "event_ids", "`nilometer.events`"])
def test_a_bare_name_leads_nowhere(handle, name):
    with pytest.raises(EngineFault) as caught:
        handle.read(f"SELECT * FROM {name}", "TSV")
    assert caught.value.name == "UNKNOWN_TABLE"


@pytest.mark.parametrize(
    "statement",
    [
        "SET readonly = 0",
        "SET additional_table_filters = {}",
        "SELECT * FROM nilometer.events SETTINGS additional_table_filters = {}",
        f"CREATE TABLE {EMPTY_DATABASE}.x (a Int8) ENGINE = Memory",
        "INSERT INTO nilometer.event_ids SELECT * FROM nilometer.event_ids",
        "ALTER TABLE nilometer.events DELETE WHERE 1",
        "TRUNCATE TABLE nilometer.events",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    ],
)
def test_the_handle_changes_nothing(handle, statement):
    with pytest.raises(EngineFault):
        handle.read(statement, "TSV")


def test_a_fault_has_nothing_of_the_engines_text(handle):
    with pytest.raises(EngineFault) as caught:
        handle.read("SELECT toInt8('a secret')", "TSV")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_failed_query_leaves_the_store_ready(store, queries, ours):
    with store.sandbox(limits.settings(ours, seconds=5, result_bytes=1 << 20)) as handle:
        with pytest.raises(EngineFault):
            handle.read("SELECT broken", "TSV")
        assert store.ready()
        assert handle.read("SELECT 1", "TSV") == b"1\n"


ENCODED = ("LowCardinality", "Dynamic", "Variant", "JSON", "Object", "Enum")


@pytest.mark.parametrize("table", tables.TABLES.values(), ids=tables.TABLES)
def test_columns_leave_the_fence_one_value_a_row(store, table):
    """In a part whose other rows would otherwise share a dictionary, or a default, with ours."""
    project_id = neighbours.new(store).beside
    columns = (*table.columns, *table.apart)
    shown = ", ".join(
        f"any(toTypeName({name})), any(dumpColumnStructure({name}))"
        for name in (f"`{column.name}`" for column in columns)
    )
    rows = table.fenced(project_id, apart=True)
    (found,) = store.query(f"SELECT {shown} FROM {rows}").rows
    for number, column in enumerate(columns):
        kind, structure = found[2 * number : 2 * number + 2]
        assert kind == column.type, column.name
        assert not any(word in kind + structure for word in (*ENCODED, "Sparse")), column.name


def test_the_store_does_share_between_rows(store):
    """Or the fence's test would find nothing to do; and what else could share is not there."""
    project_id = neighbours.new(store).beside
    rows = f"(SELECT model FROM nilometer.events FINAL PREWHERE project_id = {project_id})"
    ((found,),) = store.query(f"SELECT any(dumpColumnStructure(model)) FROM {rows}").rows
    assert "LowCardinality" in found
    others = store.query(
        "SELECT DISTINCT extract(type, '\\w+') AS word FROM system.columns "
        "WHERE database = 'nilometer' AND word IN {words:Array(String)}",
        {"words": [*ENCODED[1:]]},
    )
    assert others.rows == []
