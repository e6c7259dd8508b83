"""The SAM template: linted, and the table in it is the one that `create-table` makes."""

import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import yaml

from nilometer.budgets import environment_channels
from nilometer.budgets import lambda_handler as budgets
from nilometer.budgets.dynamodb_alerts import LEASE
from nilometer.budgets.dynamodb_items import PARTITION
from nilometer.dynamodb import kept, schema, table
from nilometer.usage import lambda_handler
from nilometer.usage.plan import SCOPES
from tests.usage.metrics import metric

FOLDER = Path(__file__).parents[2] / "deploy" / "lambda"
TEMPLATE = FOLDER / "template.yaml"


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (`!Ref x`) as they stand."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: f"!{tag} {node.value}")


def resources():
    return yaml.load(TEMPLATE.read_text(), Loader=_Loader)["Resources"]


def test_cfn_lint_finds_nothing():
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [str(program), str(TEMPLATE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_table_is_the_one_that_create_table_makes():
    given = resources()["Table"]["Properties"]
    made = table.definition("t")
    for name in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode"):
        assert given[name] == made[name]
    assert given["TimeToLiveSpecification"] == table.time_to_live()


def test_the_function_is_there_and_its_variables_are_read():
    function = resources()["Usage"]["Properties"]
    module, _, name = function["Handler"].rpartition(".")
    assert module == lambda_handler.__name__
    assert callable(getattr(lambda_handler, name))
    read = {lambda_handler.TABLE, lambda_handler.KEY_HASHES, lambda_handler.ORIGIN}
    assert set(function["Environment"]["Variables"]) == read


def test_the_function_of_usage_may_write_what_it_keeps_alone():
    reads, writes = resources()["Usage"]["Properties"]["Policies"][0]["Statement"]
    assert (reads["Action"], writes["Action"]) == ("dynamodb:Query", "dynamodb:PutItem")
    [own] = writes["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    assert all(fnmatch(kept.partition(scope), own) for scope in ("", *SCOPES))
    assert not fnmatch(schema.item(metric())["PK"]["S"], own)


def test_the_function_of_budgets_is_there_and_may_write_its_own_items_alone():
    function = resources()["Budgets"]["Properties"]
    module, _, name = function["Handler"].rpartition(".")
    assert module == budgets.__name__
    assert callable(getattr(budgets, name))
    named = environment_channels
    read = {budgets.TABLE, named.TOPIC, named.WEBHOOK, named.SECRET, named.SLACK}
    assert set(function["Environment"]["Variables"]) == read
    assert function["Timeout"] < LEASE.total_seconds()
    writes = function["Policies"][0]["Statement"][1]
    assert writes["Condition"] == {
        "ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [PARTITION]}
    }
    [usage] = function["Events"]["Usage"]["Properties"]["FilterCriteria"]["Filters"]
    [wanted] = json.loads(usage["Pattern"])["dynamodb"]["Keys"]["PK"]["S"]
    assert schema.item(metric())["PK"]["S"].startswith(wanted["prefix"])
    assert not PARTITION.startswith(wanted["prefix"])
