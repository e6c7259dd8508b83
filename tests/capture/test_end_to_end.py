"""The door with the real log and the real blobs: a 2xx is durable, whole, and in its project."""

import email
import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nilometer import failpoints
from nilometer.access.keyring import Keyring
from nilometer.blobs.types import BlobsUnavailable
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.domain import ai_record
from nilometer.domain.ai_record import AiRecord
from nilometer.log import envelope
from nilometer.log.envelope import Envelope
from nilometer.log.sqlite import SqliteLog
from tests.capture.door import Access, Door, event, form, open_door, whole_event

MODEL = {"$ai_model": "test"}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with closing(open_log(tmp_path)) as log:
        yield log


@pytest.fixture
def durable_door(access: Access, tmp_path: Path, log: SqliteLog) -> Iterator[Door]:
    with open_door(access, tmp_path, log=log) as door:
        yield door


@pytest.fixture
def faults() -> Iterator[None]:
    yield
    failpoints.configure("")


def open_log(directory: Path, max_bytes: int = 1 << 30) -> SqliteLog:
    return SqliteLog(
        directory / "log",
        segment_bytes=1 << 20,
        max_bytes=max_bytes,
        keep_seconds=3600,
        disk_reserve=0,
        rewind_seconds=0,
    )


def read_back(log: SqliteLog) -> list[Envelope]:
    consumer = log.consumer(f"test-{uuid.uuid4()}")
    found: list[Envelope] = []
    while records := consumer.poll(max_records=1000, max_bytes=1 << 30, timeout=0.1):
        found += [envelope.decode(record.headers, record.payload) for record in records]
        consumer.commit(records)
    consumer.close()
    return found


def stored_part(directory: Path, url: str) -> bytes:
    """The bytes of a blob's range, straight from the file."""
    key, _, span = url.partition(f"{'test-bucket'}/")[2].partition("?range=")
    start, end = map(int, span.split("-"))
    return (directory / "blobs" / key).read_bytes()[start : end + 1]


def test_a_three_blob_event_is_kept_to_the_byte(durable_door, log, tmp_path):
    blobs = {
        "$ai_input": ("application/json", json.dumps([{"role": "user", "content": "é"}]).encode()),
        "$ai_output_choices": ("text/plain; charset=utf-8", "naïve — text\r\n".encode() * 3),
        "$ai_raw": ("application/octet-stream", os.urandom(3000) + b"\r\n--b\r\n"),
    }
    fields = event()
    assert durable_door.post(form(fields, MODEL, **blobs)).status_code == 200
    [kept] = read_back(log)
    record = ai_record.decode(kept.payload)
    assert kept.uuid == fields["uuid"]
    assert json.loads(record.event) == fields
    properties = json.loads(record.properties_text())
    for name, (content_type, body) in blobs.items():
        part = email.message_from_bytes(stored_part(tmp_path, properties[name]))
        assert part.get_payload(decode=False) is not None
        assert stored_part(tmp_path, properties[name]).partition(b"\r\n\r\n")[2] == body
        assert part["Content-Type"] == content_type
        assert part.get_param("name", header="content-disposition") == name


def test_an_acknowledged_event_is_in_the_log_that_opens_next(access, tmp_path):
    events = [whole_event() for _ in range(50)]
    with closing(open_log(tmp_path)) as log, open_door(access, tmp_path, log=log) as door:
        with ThreadPoolExecutor(8) as senders:
            answers = list(senders.map(lambda one: door.post(form(one)).status_code, events))
        assert answers == [200] * 50
    with closing(open_log(tmp_path)) as log:
        assert sorted(kept.uuid for kept in read_back(log)) == sorted(e["uuid"] for e in events)


def test_the_same_uuid_again_is_answered_200_again(durable_door, log):
    parts = form(whole_event())
    assert [durable_door.post(parts).status_code for _ in range(2)] == [200, 200]
    first, second = read_back(log)
    assert first.uuid == second.uuid


def test_two_projects_keep_the_same_uuid_each_for_itself(durable_door, log):
    other, key = durable_door.access.project()
    parts = form(event(), MODEL, **{"$ai_input": ("text/plain", b"x")})
    assert durable_door.post(parts).status_code == 200
    assert durable_door.post(parts, key=key).status_code == 200
    kept = read_back(log)
    assert {one.project_id for one in kept} == {durable_door.project, other}
    for one in kept:
        [blob] = ai_record.decode(one.payload).blobs
        assert f"/llma/{one.project_id}/" in blob.url


def test_a_projects_retention_is_in_the_record_and_in_the_object_key(durable_door, log):
    number, key = durable_door.access.project()
    durable_door.access.accounts.projects.change(number, retention_days=90)
    parts = form(event(), MODEL, **{"$ai_input": ("text/plain", b"x")})
    assert durable_door.post(parts, key=key).status_code == 200
    record: AiRecord = ai_record.decode(read_back(log)[0].payload)
    assert record.retention_days == 90
    assert f"/llma-90d/{number}/" in record.blobs[0].url


def test_while_blobs_are_down_an_event_with_blobs_is_503_and_leaves_nothing(
    durable_door, log, faults
):
    failpoints.configure("blobs=error")
    parts = form(event(), MODEL, **{"$ai_input": ("text/plain", b"x")})
    refused = durable_door.post(parts)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert durable_door.post(form(whole_event())).status_code == 200
    failpoints.configure("")
    assert durable_door.post(parts).status_code == 200
    assert len(read_back(log)) == 2


@pytest.mark.parametrize("point", ["after_blob_put", "before_append"])
def test_a_fault_before_the_append_leaves_no_event(durable_door, log, faults, point):
    failpoints.configure(f"{point}=error")
    parts = form(event(), MODEL, **{"$ai_input": ("text/plain", b"x")})
    assert durable_door.post(parts).status_code == 503
    assert read_back(log) == []


def test_a_fault_after_the_append_is_a_503_and_the_event_is_kept(durable_door, log, faults):
    failpoints.configure("after_append=error")
    assert durable_door.post(form(whole_event())).status_code == 503
    assert len(read_back(log)) == 1


def test_a_closed_log_is_a_503(durable_door, log):
    log.close()
    refused = durable_door.post(form(whole_event()))
    assert (refused.status_code, refused.text) == (503, "transient error, please retry")


def test_while_the_database_is_away_known_keys_go_on_and_others_get_503(tmp_path):
    path = tmp_path / "nilometer.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        migrate(database)
        access = Access(database)
        access.accounts.bootstrap(None)
        access.keyring = Keyring(database, default_retention_days=30, fresh_seconds=0)
        _, other = access.project()
        with open_door(access, tmp_path) as door:
            assert door.post(form(whole_event())).status_code == 200
            for file in tmp_path.glob("nilometer.db*"):
                file.rename(file.with_name(f"away-{file.name}"))
            path.mkdir()  # nothing can be opened there now
            database.close()
            assert door.post(form(whole_event())).status_code == 200
            refused = door.post(form(whole_event()), key=other)
            assert refused.status_code == 503
            assert refused.text.startswith("service unavailable: keys cannot be checked now")


def test_nothing_of_a_key_or_a_prompt_is_logged(durable_door, caplog):
    caplog.set_level("DEBUG")
    secret = "the-prompt-that-nobody-may-log"
    durable_door.post(form(event(), MODEL | {"$ai_input": secret}))
    durable_door.post(form(event(uuid=secret), MODEL | {"$ai_input": secret}))
    durable_door.post(form(event(), MODEL), key="nobodys-secret-key")
    text = caplog.text
    assert secret not in text
    assert durable_door.key not in text
    assert "nobodys-secret-key" not in text


def objects(directory: Path) -> list[Path]:
    return [path for path in (directory / "blobs").rglob("*.multipart") if path.is_file()]


@contextmanager
def full_door(access: Access, directory: Path) -> Iterator[Door]:
    """A door whose log has room for some small records and not for 100 kB."""
    log = open_log(directory, max_bytes=60_000)
    with closing(log), open_door(access, directory, log=log) as door:
        yield door


LARGE = {"$ai_model": "test", "filler": "x" * 100_000}
BLOB = {"$ai_input": ("text/plain", b"x" * 10_000)}


def test_the_blobs_of_an_event_that_a_full_log_refuses_are_deleted_again(access, tmp_path):
    with full_door(access, tmp_path) as door:
        refused = door.post(form(event(), LARGE, **BLOB))
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        assert objects(tmp_path) == []


def test_while_the_log_is_full_no_blob_is_written(access, tmp_path, monkeypatch):
    with full_door(access, tmp_path) as door:
        assert door.post(form(event(), LARGE)).status_code == 503
        monkeypatch.setattr(door.blobs, "delete", lambda _: pytest.fail("a blob was written"))
        headers = {"Accept": "application/json"}
        refused = door.post(form(event(), MODEL, **BLOB), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "log_full")
        assert objects(tmp_path) == []


def test_a_blob_that_cannot_be_deleted_again_is_left_to_the_sweeper(
    access, tmp_path, monkeypatch, caplog
):
    def unavailable(_: object) -> int:
        raise BlobsUnavailable("away")

    with full_door(access, tmp_path) as door:
        monkeypatch.setattr(door.blobs, "delete", unavailable)
        assert door.post(form(event(), LARGE, **BLOB)).status_code == 503
    assert len(objects(tmp_path)) == 1
    assert "stay for the sweeper: BlobsUnavailable" in caplog.text


def test_while_the_log_is_broken_no_blob_is_written(durable_door, log, tmp_path):
    log.close()
    headers = {"Accept": "application/json"}
    refused = durable_door.post(form(event(), MODEL, **BLOB), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (503, "log_unavailable")
    assert objects(tmp_path) == []
