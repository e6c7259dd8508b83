"""The users' SQL: the engine can read it, and it names every table. No server here can run it."""

from pathlib import Path

from nilometer.clickhouse.store import Store

USERS = Path(__file__).parents[2] / "deploy" / "clickhouse" / "users.sql"


def statements() -> list[str]:
    lines = [line for line in USERS.read_text().splitlines() if not line.startswith("--")]
    return [part.strip() for part in "\n".join(lines).split(";\n") if part.strip()]


def test_the_engine_can_read_every_statement(embedded_store: Store):
    found = [
        embedded_store.query(
            "SELECT formatQuerySingleLine({sql:String})", {"sql": each.removesuffix(";")}
        ).rows
        for each in statements()
    ]
    assert len(found) >= 13


def test_no_table_of_projects_is_without_a_grant_and_both_policies(embedded_store: Store):
    rows = embedded_store.query(
        "SELECT DISTINCT table FROM system.columns "
        "WHERE database = 'nilometer' AND name = 'project_id'"
    ).rows
    # What is made of `calls` is no table of SQL: its user has no right to it.
    assert not any("usage_days" in each for each in statements())
    policies = [each for each in statements() if each.startswith("CREATE ROW POLICY")]
    assert len(policies) == 2
    for table in {table for (table,) in rows} - {"usage_days"}:
        assert f"GRANT SELECT ON nilometer.{table} TO nilometer_reader" in statements()
        for policy in policies:
            assert f"nilometer.{table}" in policy.replace(",", " ").split()
