"""The migrations as a cluster gets them. Text only: there is no cluster here to run them on."""

import re

import pytest

from nilometer.clickhouse import migrate
from nilometer.clickhouse.layout import SINGLE, Layout
from nilometer.clickhouse.store import Store
from nilometer.errors import ConfigurationError

CLUSTER = Layout("main")
STATEMENTS = [
    statement for migration in migrate.migrations() for statement in migration.statements()
]


def test_a_single_server_gets_the_files_as_they_are():
    assert [SINGLE.rendered(each) for each in STATEMENTS] == STATEMENTS


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_goes_to_every_host_and_every_table_is_replicated(
    embedded_store: Store, statement: str
):
    rendered = CLUSTER.rendered(statement)
    (name,) = re.findall(
        r"^(?:CREATE|ALTER)[A-Z ]+ (\S+) ON CLUSTER 'main'", rendered, re.MULTILINE
    )
    assert name.startswith("nilometer.")
    for kind in re.findall(r"ENGINE = (\w+)", rendered):
        assert kind.startswith("Replicated")
    # The engine at least reads it, though it cannot run it.
    sql = "SELECT formatQuerySingleLine({statement:String})"
    ((formatted,),) = embedded_store.query(sql, {"statement": rendered}).rows
    assert "ON CLUSTER main" in formatted


def test_a_replicated_table_has_its_name_in_its_path_and_keeps_its_version():
    (events,) = [each for each in STATEMENTS if "TABLE IF NOT EXISTS events" in each]
    assert (
        "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/nilometer/events', "
        "'{replica}', first_wins)\n"
    ) in CLUSTER.rendered(events)
    recorded = CLUSTER.rendered(
        "CREATE TABLE IF NOT EXISTS x\n(a Int8)\nENGINE = MergeTree ORDER BY a"
    )
    assert recorded == (
        "CREATE TABLE IF NOT EXISTS nilometer.x ON CLUSTER 'main'\n(a Int8)\nENGINE = "
        "ReplicatedMergeTree('/clickhouse/tables/{shard}/nilometer/x', '{replica}') ORDER BY a"
    )


def test_databases_are_made_on_every_host():
    rendered = CLUSTER.rendered("CREATE DATABASE IF NOT EXISTS nilometer")
    assert rendered == "CREATE DATABASE IF NOT EXISTS nilometer ON CLUSTER 'main'"


def test_rows_are_carried_by_replication():
    insert = "-- why\nINSERT INTO events SELECT * FROM events"
    assert CLUSTER.rendered(insert) == insert


def test_a_statement_that_would_run_on_one_host_alone_is_refused():
    with pytest.raises(ConfigurationError):
        CLUSTER.rendered("RENAME TABLE a TO b")


def test_a_system_table_is_asked_of_every_host():
    assert SINGLE.everywhere("system.mutations") == "system.mutations"
    everywhere = CLUSTER.everywhere("system.mutations")
    assert everywhere == "clusterAllReplicas('main', system.mutations)"
