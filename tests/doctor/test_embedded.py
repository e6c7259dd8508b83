"""The embedded profile: one directory, before its first start, while a server runs, and after."""

from __future__ import annotations

import resource
import socket
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from nilometer.doctor import machine
from nilometer.doctor.machine import Machine
from nilometer.settings import Settings
from tests.doctor.deployments import Findings, examined, outcomes
from tests.running import running


@dataclass(frozen=True)
class Served:
    """A directory that a server has been stopped over, and what was found while it ran."""

    data_dir: Path
    port: int
    pid: int
    findings: Findings


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    with running(tmp_path_factory.mktemp("doctor") / "data") as server:
        findings = examined(data_dir=server.data_dir, port=server.port)
        assert server.stop() == 0
        return Served(server.data_dir, server.port, server.process.pid, findings)


def test_before_the_first_start_nothing_is_made(tmp_path: Path):
    data = tmp_path / "data"
    found = examined(data_dir=data)
    assert outcomes(found) == {
        "settings": "ok",
        "settings.secrets": "ok",
        "machine.files": "ok",
        "machine.ports": "ok",
        "data.directory": "ok",
        "data.disk": "ok",
        "data.database": "skipped",
        "data.store": "skipped",
        "blobs.storage": "ok",
        "blobs.probe": "skipped",
    }
    assert "made by the first start" in found["data.directory"].found
    assert list(tmp_path.iterdir()) == []


def test_while_a_server_runs_its_ports_and_its_store_are_its(served: Served):
    found = served.findings
    assert set(outcomes(found).values()) == {"ok"}
    assert f"A server runs on it (process {served.pid})" in found["data.store"].found
    assert f"A Nilometer listens on {served.port}" in found["machine.ports"].found
    assert "read by its range and deleted" in found["blobs.probe"].found


def test_once_it_has_stopped_the_engine_is_opened(served: Served):
    found = examined("data", "blobs", data_dir=served.data_dir)
    assert set(outcomes(found).values()) == {"ok"}
    assert "The store has all" in found["data.store"].found


def test_the_probe_leaves_no_object_and_no_folder(served: Served):
    assert examined("blobs", data_dir=served.data_dir)["blobs.probe"].outcome == "ok"
    assert [path.name for path in (served.data_dir / "blobs").rglob("*")] in (
        [".tmp"],
        [".tmp", "llma"],
        ["llma", ".tmp"],
    )


def test_tables_of_an_older_and_of_a_newer_release_are_told(served: Served):
    file = served.data_dir / "nilometer.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        [current] = database.execute("SELECT version_num FROM alembic_version").fetchone()
        for revision, outcome, said in (
            ("0003", "warning", "revision 0003; this release's is"),
            ("9999", "ok", "newer release"),
            (current, "ok", "of this release"),
        ):
            database.execute("UPDATE alembic_version SET version_num = ?", [revision])
            found = examined("data.d", data_dir=served.data_dir)["data.database"]
            assert (found.outcome.value, said in found.found) == (outcome, True), found


def test_a_store_that_cannot_be_opened_is_told_in_time(tmp_path: Path):
    (tmp_path / "clickhouse").mkdir()
    (tmp_path / "clickhouse" / "engine").write_text("this was a folder")
    found = examined("data", data_dir=tmp_path)["data.store"]
    assert found.outcome == "failed"
    assert "cannot be opened" in found.found


def test_a_directory_that_is_a_file_is_told(tmp_path: Path):
    data = tmp_path / "data"
    data.write_text("")
    found = examined("data", "blobs", data_dir=data / "inside")
    assert found["data.directory"].outcome == "failed"
    assert "not a directory" in found["data.directory"].found
    assert {found[name].because for name in ("data.disk", "data.database", "data.store")} == {
        "data.directory"
    }
    assert found["blobs.storage"].outcome == "failed"


def test_a_disk_without_room_is_told(tmp_path: Path):
    reserve = 1 << 60
    found = examined("data", "blobs", data_dir=tmp_path, disk_reserve=reserve)
    assert (found["data.disk"].outcome, found["blobs.storage"].outcome) == ("failed", "failed")
    found = examined("data", data_dir=tmp_path, log_max_bytes=1 << 60)
    assert found["data.disk"].outcome == "warning"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "0.db").write_bytes(bytes(1000))
    found = examined("data", data_dir=tmp_path, log_max_bytes=1000)
    assert "reached its limit" in found["data.disk"].found


def test_a_port_of_another_program_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        verdict = Machine(Settings(port=port, otlp_grpc_port=0)).ports()
        assert verdict.outcome == "failed"
        assert "Address already in use" in verdict.found
        verdict = Machine(Settings(port=0, otlp_grpc_port=port)).ports()
        assert "NILOMETER_OTLP_GRPC_PORT" in verdict.remedy
        # The role `api` has no such port.
        asked = Settings(profile="distributed", role="api", port=0, otlp_grpc_port=port)
        assert Machine(asked).ports().outcome == "ok"


@pytest.mark.parametrize(
    ("hard", "outcome"), [(100_000, "ok"), (-1, "ok"), (2500, "warning"), (1024, "failed")]
)
def test_too_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch, hard: int, outcome: str):
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (1024, hard))
    assert Machine(Settings()).files().outcome == outcome
    assert resource.RLIMIT_NOFILE == machine.resource.RLIMIT_NOFILE
