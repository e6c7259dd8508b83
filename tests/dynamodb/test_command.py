"""`nilometer usage dynamodb create-table`."""

import json
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.dynamodb import table


def run(*arguments):
    return CliRunner().invoke(app, ["usage", "dynamodb", "create-table", *arguments])


@pytest.fixture
def keys(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nilometer")


def test_a_dry_run_prints_the_definition_and_asks_nobody():
    done = run("usage-of-july", "--dry-run")
    assert done.exit_code == 0
    shown = json.loads(done.stdout)
    assert shown.pop("TimeToLiveSpecification") == table.time_to_live()
    assert shown == table.definition("usage-of-july")


def test_the_table_is_made_once(keys, dynamodb_local):
    name = f"test-{uuid4().hex}"
    where = ["--region", dynamodb_local.region, "--endpoint-url", dynamodb_local.endpoint]
    assert run(name, *where).stdout == f"The table {name} is made.\n"
    again = run(name, *where, "--json")
    assert json.loads(again.stdout) == {"table": name, "made": False}
    dynamodb_local.client().delete_table(TableName=name)


def test_a_refusal_is_one_sentence(keys, dynamodb_local):
    where = ["--region", dynamodb_local.region, "--endpoint-url", dynamodb_local.endpoint]
    done = run("a", *where)
    assert done.exit_code == 1
    assert done.stderr.startswith("nilometer: DynamoDB: ")
    assert "Traceback" not in done.stderr
