"""docs/sql.md: its examples run, its tables are the engine's, its functions are those allowed."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nilometer.query.sql import page
from nilometer.query.sql.tables import TABLES
from tests.projects import new_project_id
from tests.query.rows import insert
from tests.query_sql.tenants import call_row, our_row

TEXT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
EXAMPLES = re.findall(r"^```sql\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


PROMPT = (
    '{"$ai_model":"m","$ai_model_parameters":{"temperature":0.5},'
    '"$ai_input":[{"role":"user","content":"How high is the river?"}]}'
)


@pytest.fixture(scope="module")
def busy(store) -> int:
    """A project with something for every example to find."""
    project_id = new_project_id()
    failed = {"is_error": True, "error": "it failed", "error_normalized": "it failed"}
    rows = [our_row(project_id, number) for number in range(12)]
    rows.append(our_row(project_id, 1) | failed | {"timestamp": datetime.now(UTC)})
    rows.append(our_row(project_id, 1) | {"properties": PROMPT})
    rows.append(our_row(project_id, 1) | {"event": "$ai_span", "trace_id": "no generation"})
    insert(store, rows)
    call = {"latency": 1.5, "is_error": True, "reported_total_cost_usd": 1, "provider": "openai"}
    priced = {"timestamp": datetime.now(UTC), "cost_total": 2, "vector_input": 3}
    store.insert("calls", [call_row(project_id, "one") | call | priced])
    return project_id


def test_there_are_twenty_examples():
    assert len(EXAMPLES) == 20
    assert len(set(EXAMPLES)) == 20


@pytest.mark.parametrize("sql", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_finds_something(queries, busy, sql):
    assert queries.run(busy, sql).rows


@pytest.mark.parametrize("name", TABLES)
def test_a_documented_column_has_the_engines_type(queries, ours, name):
    answer = queries.run(ours, f"SELECT * FROM {name} LIMIT 1")
    assert answer.types == [(column.name, column.type) for column in TABLES[name].columns]


def test_the_page_lists_the_tables_and_functions():
    assert page.tables() in TEXT
    assert page.functions() in TEXT
