"""From one machine to servers, on real ones: whatever ends a run, the next one finishes it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nilometer.clickhouse.address import Server as ClickHouse
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from tests.log.logs import envelope, open_log
from tests.migrate_data.deployments import Embedded, Target, answers, empty, made
from tests.running import Server, wait_until
from tests.sending import generation, send
from tests.serve.test_faults import wait_for_exactly
from tests.services import KafkaService, PostgresService, S3Service

PAGE = Path(__file__).parents[2] / "docs/distributed.md"
POINTS = ("moved_objects=kill@2", "moved_chunk=kill@2", "moved_records=kill", "moved_rows=kill@3")


@pytest.fixture
def source(tmp_path: Path) -> Embedded:
    folder = tmp_path / "embedded"
    folder.mkdir()
    return made(folder)


@pytest.fixture
def target(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, tmp_path: Path
) -> Iterator[Target]:
    with empty(kafka, postgres, s3, tmp_path / "clickhouse") as target:
        yield target


# One test, because what it moves takes long to make.
@pytest.mark.timeout(600)
def test_whatever_ends_a_move_the_next_run_finishes_it_and_processes_go_on(
    source: Embedded, target: Target, tmp_path: Path
):
    before = contents(source.directory)
    interrupted(source, target)
    damaged_and_mended(source, target)
    finished(source, target)
    assert contents(source.directory) == before
    gone_on(source, target, tmp_path / "unused")
    lost(source, target)
    went_back(source, target)


def contents(directory: Path) -> dict[str, bytes]:
    """The source but its engine's files, which merge by themselves, and its lock."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "engine" not in path.parts and path.name != "lock"
    }


def interrupted(source: Embedded, target: Target) -> None:
    """Killed in each of its parts, one run after the other; meanwhile no process starts."""
    planned = target.move(source.directory, "--dry-run")
    assert planned["state"] == "new"
    assert planned["counts"]["log: unread records"] == len(source.unread)
    for point in POINTS:
        killed = target.command(source.directory, FAILPOINTS=point)
        assert killed.returncode == -signal.SIGKILL, (point, killed.stderr)
    with pytest.raises(AssertionError, match="run `nilometer migrate-data` to its end first"):
        Server(source.directory, **target.serving()).start().kill()
    killed = target.command(source.directory, FAILPOINTS="moved_all=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def damaged_and_mended(source: Embedded, target: Target) -> None:
    """What was damaged is found, and what may be written again is mended."""
    damage(target)
    found = target.command(source.directory, "--verify-only")
    assert found.returncode == 1
    differing = {
        (each["part"], each["name"])
        for each in json.loads(found.stdout)["compared"]
        if not each["equal"]
    }
    assert differing == {("store", "calls"), ("blobs", "objects"), ("database", "projects")}
    mended = target.command(source.directory)
    assert mended.returncode == 1
    left = [each["name"] for each in json.loads(mended.stdout)["compared"] if not each["equal"]]
    assert left == ["projects"]  # a row of the database is not overwritten
    execute(target, "UPDATE projects SET name = 'second' WHERE name = 'damaged'")


def finished(source: Embedded, target: Target) -> None:
    """All is there, once; then nothing is left to do."""
    [documented] = re.findall(
        r"^nilometer migrate-data --from (\S+)$", PAGE.read_text(), re.MULTILINE
    )
    assert documented == "nilometer-data"
    done = target.move(source.directory, cold=True)
    assert (done["state"], done["equal"]) == ("finished", True)
    assert done["counts"] == {"blobs": 0, "store": 0, "log": 0, "database": 0}
    [log] = [each for each in done["compared"] if each["part"] == "log"]
    assert (log["target"]["count"], log["note"]) == (len(source.unread), "")
    assert target.move(source.directory)["compared"] == []
    partitions = dict(execute(target, "SELECT uuid, partition FROM dead_letters"))
    assert {partitions.pop(each) >= 0 for each in source.lettered} == {True}
    assert set(partitions.values()) == {-1}


def gone_on(source: Embedded, target: Target, nowhere: Path) -> None:
    """The API answers as it did, what had not been read is stored, and new traffic is."""
    running: list[Server] = []
    try:
        for role in ("api", "capture", "worker"):
            running.append(Server(nowhere, ROLE=role, **target.serving()).start())
            running[-1].wait_ready(role, seconds=90)
            if role == "api":
                assert answers(running[0], source) == source.answers
        api, capture, _ = running
        identifier = str(uuid.uuid4())
        assert send(capture.url, generation(identifier), key=source.key).status_code == 200
        wait_for_exactly(api, source.unread)
        with api.client() as client:
            event = f"/api/projects/{source.project}/events/{identifier}/"
            wait_until(lambda: client.get(event).status_code == 200, what="new traffic is stored")
            created = client.post("/api/organizations/@current/projects/", json={"name": "new"})
            assert created.json()["id"] == max(source.project, source.deleted) + 1
        later = target.move(source.directory, "--verify-only")
        changed = {each["name"] for each in later["compared"] if not each["equal"]}
        assert later["equal"]
        assert {"projects", "api_keys", "audit_log"} <= changed
    finally:
        for server in running:
            server.stop()


def lost(source: Embedded, target: Target) -> None:
    """What no use of the target takes away is missed in it, whatever else has changed."""
    execute(target, f"DELETE FROM api_keys WHERE project_id = {source.project}")
    found = target.command(source.directory, "--verify-only")
    assert found.returncode == 1, found.stderr
    [missing] = [each for each in json.loads(found.stdout)["compared"] if "missing" in each["note"]]
    assert (missing["name"], missing["project_id"]) == ("api_keys", source.project)


def went_back(source: Embedded, target: Target) -> None:
    """What the source took after its move is never called moved."""
    with contextlib.closing(open_log(source.directory / "log")) as log:
        log.append_blocking(envelope(1))
    for arguments in ([], ["--verify-only"], ["--dry-run"]):
        refused = target.command(source.directory, *arguments)
        assert (refused.returncode != 0, refused.stdout) == (True, "")
        assert "it took 1 records" in " ".join(refused.stderr.split()), refused.stderr


def execute(target: Target, statement: str) -> list[Any]:
    """A statement on the target's database, for every row."""
    database = Database(target.settings["DATABASE_URL"])
    try:
        with database.session(EVERY_ROW) as session:
            done = session.connection().exec_driver_sql(statement)
            return [tuple(row) for row in done] if done.returns_rows else []
    finally:
        database.close()


def damage(target: Target) -> None:
    """Change one thing in each of the stores that can be changed."""
    client = target.s3.client()
    listed = client.list_objects_v2(Bucket=target.bucket)["Contents"]
    client.put_object(Bucket=target.bucket, Key=listed[0]["Key"], Body=b"\0" * listed[0]["Size"])
    execute(target, "UPDATE projects SET name = 'damaged' WHERE name = 'second'")
    store = Store(ClickHouse.parse(target.settings["CLICKHOUSE_URL"]))
    store.open()
    try:
        store.command(
            "ALTER TABLE calls UPDATE cost_total = 1 WHERE cost_total IS NOT NULL "
            "SETTINGS mutations_sync = 2"
        )
    finally:
        store.close()
