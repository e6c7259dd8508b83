"""From one machine to servers, on real ones: whatever ends a run, the next one finishes it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nilometer.clickhouse.address import Server as ClickHouse
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from tests.migrate_data.deployments import Embedded, Target, answers, empty, made
from tests.running import Server
from tests.sending import generation, send
from tests.serve.test_faults import wait_for_exactly
from tests.services import KafkaService, PostgresService, S3Service

PAGE = Path(__file__).parents[2] / "docs/distributed.md"
POINTS = ("moved_objects=kill@2", "moved_chunk=kill@2", "moved_records=kill", "moved_rows=kill@3")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return made(tmp_path_factory.mktemp("embedded"))


@pytest.fixture
def target(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, tmp_path: Path
) -> Iterator[Target]:
    with empty(kafka, postgres, s3, tmp_path / "clickhouse") as target:
        yield target


def contents(directory: Path) -> dict[str, bytes]:
    """The source but its engine's files, which merge by themselves, and its lock."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "engine" not in path.parts and path.name != "lock"
    }


@pytest.mark.timeout(300)
def test_a_move_killed_at_any_point_is_finished_by_the_next_run(source: Embedded, target: Target):
    before = contents(source.directory)
    planned = target.move(source.directory, "--dry-run")
    assert planned["state"] == "new"
    assert planned["counts"]["log: unread records"] == len(source.unread)

    for point in POINTS:
        killed = target.command(source.directory, FAILPOINTS=point)
        assert killed.returncode == -signal.SIGKILL, (point, killed.stderr)
    half = Server(source.directory, **target.serving()).launch()
    told, _ = half.communicate(timeout=60)
    assert half.returncode == 1
    assert "nilometer migrate-data" in told
    killed = target.command(source.directory, FAILPOINTS="moved_all=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    assert target.move(source.directory, "--verify-only")["equal"]
    corrupt(target)
    found = target.command(source.directory, "--verify-only")
    assert found.returncode == 1
    differing = {
        (each["part"], each["name"])
        for each in json.loads(found.stdout)["compared"]
        if not each["equal"]
    }
    assert differing == {("store", "calls"), ("blobs", "objects"), ("database", "projects")}
    # What follows from the source is mended; a row of the database is not overwritten.
    mended = target.command(source.directory)
    assert mended.returncode == 1
    differing = [each for each in json.loads(mended.stdout)["compared"] if not each["equal"]]
    assert [each["name"] for each in differing] == ["projects"]
    execute(target, "UPDATE projects SET name = 'second' WHERE name = 'corrupt'")

    done = target.move(source.directory)
    assert (done["state"], done["equal"]) == ("finished", True)
    assert done["counts"] == {"blobs": 0, "store": 0, "log": 0, "database": 0}
    [log] = [each for each in done["compared"] if each["part"] == "log"]
    assert log["target"]["count"] == len(source.unread)
    assert log["note"] == ""
    assert target.move(source.directory)["compared"] == []
    assert contents(source.directory) == before


@pytest.mark.timeout(300)
def test_processes_go_on_where_the_embedded_one_stopped(source: Embedded, target: Target):
    [documented] = re.findall(
        r"^nilometer migrate-data --from (\S+)$", PAGE.read_text(), re.MULTILINE
    )
    assert documented == "nilometer-data"
    moved = target.move(source.directory)
    assert moved["state"] == "finished"
    assert moved["counts"]["log"] == len(source.unread)
    positions = dict(execute(target, "SELECT uuid, partition FROM dead_letters"))
    assert {positions.pop(each) >= 0 for each in source.lettered} == {True}
    assert set(positions.values()) == {-1}

    nowhere = target.clickhouse.directory.parent / "unused"
    running: list[Server] = []
    try:
        for role in ("api", "capture", "worker"):
            running.append(Server(nowhere, ROLE=role, **target.serving()).start())
            running[-1].wait_ready(role, seconds=90)
            if role == "api":
                assert answers(running[0], source) == source.answers
        api, capture, _ = running
        late = generation(whose="late")
        assert send(capture.url, late, key=source.key).status_code == 200
        identifier = json.loads(late[0][1][1])["uuid"]
        wait_for_exactly(api, source.unread)
        with api.client() as client:
            created = client.post("/api/organizations/@current/projects/", json={"name": "new"})
            assert created.json()["id"] == max(source.project, source.deleted) + 1
            found = client.get(f"/api/projects/{source.project}/events/{identifier}/")
            assert found.status_code == 200
        later = target.move(source.directory, "--verify-only")
        changed = {each["name"] for each in later["compared"] if not each["equal"]}
        assert later["equal"]
        assert {"projects", "api_keys", "audit_log"} <= changed
    finally:
        for server in running:
            server.stop()


def execute(target: Target, statement: str) -> list[Any]:
    """A statement on the target's database, for every row."""
    database = Database(target.settings["DATABASE_URL"])
    try:
        with database.session(EVERY_ROW) as session:
            done = session.connection().exec_driver_sql(statement)
            return [tuple(row) for row in done] if done.returns_rows else []
    finally:
        database.close()


def corrupt(target: Target) -> None:
    """Change one thing in each of the stores that can be changed."""
    client = target.s3.client()
    listed = client.list_objects_v2(Bucket=target.bucket)["Contents"]
    client.put_object(Bucket=target.bucket, Key=listed[0]["Key"], Body=b"\0" * listed[0]["Size"])
    execute(target, "UPDATE projects SET name = 'corrupt' WHERE name = 'second'")
    store = Store(ClickHouse.parse(target.settings["CLICKHOUSE_URL"]))
    store.open()
    try:
        store.command(
            "ALTER TABLE calls UPDATE cost_total = 1 WHERE cost_total IS NOT NULL "
            "SETTINGS mutations_sync = 2"
        )
    finally:
        store.close()
