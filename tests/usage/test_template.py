"""The SAM template: linted, and the table in it is the one that `create-table` makes."""

import subprocess
import sys
from pathlib import Path

import yaml

from nilometer.dynamodb import table
from nilometer.usage import lambda_handler

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
