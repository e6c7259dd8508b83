"""`nilometer doctor`: a table for people, one JSON document for machines, an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.cli.serve import AnyRole
from nilometer.settings import Role
from tests.doctor.deployments import silent_server

ROOT = Path(__file__).parents[2]


def run(*arguments: str, code: int = 0, **settings: Any) -> Any:
    environment = {f"NILOMETER_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {"NILOMETER_PORT": "0", "NILOMETER_OTLP_GRPC_PORT": "0", **environment}
    result = CliRunner().invoke(app, ["doctor", *arguments], env=environment)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_document_has_a_fixed_shape(tmp_path: Path):
    shown = json.loads(run("--format", "json", data_dir=tmp_path / "data").stdout)
    assert shown.keys() == {"profile", "role", "outcomes", "checks"}
    assert (shown["profile"], shown["role"]) == ("embedded", "all")
    assert shown["outcomes"] == {"ok": 7, "warning": 0, "failed": 0, "skipped": 3}
    again = json.loads(run("--json", data_dir=tmp_path / "data").stdout)
    assert [each["name"] for each in again["checks"]] == [each["name"] for each in shown["checks"]]
    for each in shown["checks"]:
        assert each.keys() == {"name", "outcome", "found", "remedy", "because", "seconds"}
        assert each["found"].endswith(".")
    assert len({each["name"] for each in shown["checks"]}) == len(shown["checks"]) == 10


def test_the_table_has_a_line_for_each_check_and_a_sum(tmp_path: Path):
    result = run("--data-dir", str(tmp_path / "data"))
    lines = result.stdout.splitlines()
    assert any(line.lstrip().startswith("data.directory ") and " ok " in line for line in lines)
    assert lines[-1] == "7 ok, 3 skipped."


def test_a_failure_is_the_exit_code_and_names_its_remedy(tmp_path: Path):
    (tmp_path / "data").write_text("")
    result = run(data_dir=tmp_path / "data", code=1)
    assert "failed" in result.stdout
    assert "--data-dir" in result.stdout


def test_settings_that_cannot_be_read_are_a_finding_without_their_value():
    result = run("--format", "json", bootstrap_personal_key="hidden words", code=1)
    shown = json.loads(result.stdout)
    assert [each["name"] for each in shown["checks"]] == ["settings"]
    assert "NILOMETER_BOOTSTRAP_PERSONAL_KEY" in shown["checks"][0]["found"]
    assert "hidden words" not in result.output


def test_a_setting_that_is_none_is_pointed_out(tmp_path: Path):
    result = run(data_dir=tmp_path, prot=1)
    assert "did you mean NILOMETER_PORT?" in result.stderr


def test_a_role_of_the_embedded_profile_is_refused(tmp_path: Path):
    result = run("--role", "worker", data_dir=tmp_path, code=1)
    assert "NILOMETER_PROFILE=distributed" in result.stdout
    assert {each.value for each in AnyRole} == {each.value for each in Role}


def test_no_secret_is_shown_where_all_is_well_and_where_nothing_is(
    deployment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    passwords = ("nilometer_tests:", "quite-secret", "fenc3d", "minioadmin")
    well = run(**deployment)
    assert well.stdout.splitlines()[-1].endswith(" ok, 4 warnings.")
    assert not any(each in well.output for each in passwords)
    secret = "hunter2-hunter2-hunter2"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHIDDENWORDS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with silent_server() as nowhere:
        for host in (nowhere, "no-such-host.invalid:1", "127.0.0.1:1"):
            for form in ("json", "table"):
                result = run(
                    *("--format", form, "--timeout", "1"),
                    **deployment
                    | {
                        "database_url": f"postgresql://u:{secret}@{host}/d",
                        "kafka_bootstrap_servers": host,
                        "kafka_security_protocol": "sasl_plaintext",
                        "kafka_sasl_mechanism": "PLAIN",
                        "kafka_sasl_username": "u",
                        "kafka_sasl_password": secret,
                        "clickhouse_url": f"clickhouse://u:{secret}@{host}/nilometer",
                        "clickhouse_reader_url": f"clickhouse://r:{secret}@{host}/nilometer",
                        "s3_endpoint": f"https://u:{secret}@{host}",
                        "bootstrap_personal_key": secret,
                    },
                    code=1,
                )
                assert secret not in result.output
                assert "AKIAHIDDENWORDS" not in result.output
                assert "Traceback" not in result.output


def test_a_process_ends_though_no_server_answers(deployment: dict[str, Any]):
    """Threads that wait, and clients that are closed with the process, hold up nothing."""
    with silent_server() as nowhere:
        settings = deployment | {
            "database_url": f"postgresql://u:p@{nowhere}/d",
            "kafka_bootstrap_servers": nowhere,
            "clickhouse_url": f"clickhouse://u:p@{nowhere}/nilometer",
            "s3_endpoint": f"http://{nowhere}",
        }
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "nilometer", "doctor", "--format", "json", "--timeout", "2"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
            | {f"NILOMETER_{name.upper()}": str(value) for name, value in settings.items()},
        )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["outcomes"]["failed"] >= 4
    assert done.stderr == ""
    assert time.monotonic() - started < 50
