"""`nilometer config` shows what is in effect and no secret; the docs list every setting."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.cli.config import MASK, markdown_table, unknown_variables
from nilometer.cli.output import visible
from nilometer.settings import Settings, origins

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
SECRET = "an-automation-secret-0123"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):

    for name in list(os.environ):
        if name.upper().startswith("NILOMETER_"):
            monkeypatch.delenv(name)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["config", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_every_setting_is_shown_with_its_source(monkeypatch, tmp_path):
    file = tmp_path / "nilometer.toml"
    file.write_text("port = 9000\nlog_level = 'debug'\n")
    monkeypatch.setenv("NILOMETER_CONFIG_FILE", str(file))
    monkeypatch.setenv("NILOMETER_PORT", "9001")
    shown = json.loads(run("--json").stdout)
    assert set(shown) == set(Settings.model_fields) == set(origins())
    assert shown["port"] == {"value": 9001, "source": "environment"}
    assert shown["log_level"] == {"value": "debug", "source": "file"}
    assert shown["host"] == {"value": "127.0.0.1", "source": "default"}
    assert shown["s3_endpoint"] == {"value": None, "source": "default"}
    lines = run().stdout.splitlines()
    (port,) = [line.split() for line in lines if "NILOMETER_PORT" in line]
    assert port == ["NILOMETER_PORT", "9001", "environment"]


def test_a_lower_case_variable_counts_too(monkeypatch):
    monkeypatch.setenv("nilometer_port", "9002")
    assert json.loads(run("--json").stdout)["port"] == {"value": 9002, "source": "environment"}


def test_secrets_are_masked(monkeypatch):
    monkeypatch.setenv("NILOMETER_BOOTSTRAP_PERSONAL_KEY", SECRET)
    monkeypatch.setenv("NILOMETER_PRICES_URL", "https://user:hunter22@s3.example:9000/x")
    for output in (run().output, run("--json").output):
        assert SECRET not in output
        assert "hunter22" not in output
        assert MASK in output
        assert "s3.example:9000/x" in output


def test_a_wrong_setting_is_named_without_its_value(monkeypatch):
    monkeypatch.setenv("NILOMETER_BOOTSTRAP_PERSONAL_KEY", "short secret")
    result = run(code=1)
    assert "NILOMETER_BOOTSTRAP_PERSONAL_KEY" in result.stderr
    assert "short secret" not in result.output


def test_a_missing_file_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("NILOMETER_CONFIG_FILE", str(tmp_path / "none.toml"))
    assert "is not a file" in run(code=1).stderr


def test_a_misspelt_variable_is_pointed_out(monkeypatch):
    monkeypatch.setenv("NILOMETER_PROT", "9000")
    result = run("--json")
    assert "did you mean NILOMETER_PORT?" in result.stderr
    assert json.loads(result.stdout)["port"]["source"] == "default"


def test_variables_that_have_an_effect_are_not_pointed_out():
    known = ["NILOMETER_PORT", "NILOMETER_CONFIG_FILE", "NILOMETER_URL", "PATH", "nilometer_host"]
    assert unknown_variables(known, Settings.model_fields) == []
    (sentence,) = unknown_variables(["NILOMETER_XYZZY_PLUGH"], Settings.model_fields)
    assert sentence.endswith("has no effect")


def test_the_page_lists_every_setting_as_it_is():
    """Out of date? Put what `nilometer config --markdown` prints between its two marks."""
    between = PAGE.read_text().split("<!-- settings -->\n")[1].split("\n<!-- /settings -->")[0]
    assert between == markdown_table()


def test_every_setting_has_a_meaning():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_control_characters_cannot_reach_the_terminal():
    assert visible("a\x1b[2Jb\nc\u202e…é") == "a\\x1b[2Jb\\nc\\u202e…é"
