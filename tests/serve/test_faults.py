"""Parts that fail under a running process: what is acknowledged stays true."""

import re
import statistics
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from nilometer.access.accounts import Accounts
from nilometer.access.types import KeyKind
from nilometer.database.engine import Database
from nilometer.failpoints import SLOW_SECONDS
from nilometer.settings import Settings
from tests.running import running, wait_until
from tests.sending import generation, send
from tests.small_disk import fill, on_a_small_disk


def stored_uuids(server):
    """The uuid of every event that the project holds, as often as it holds it."""
    found, path = [], "/api/projects/1/events/?limit=500"
    with server.client() as client:
        while path:
            page = client.get(path)
            assert page.status_code == 200, page.text
            found += [event["uuid"] for event in page.json()["results"]]
            path = page.json()["next"]
    return found


def wait_for_exactly(server, acknowledged):
    """Each acknowledged uuid is there once; others (sent, never answered) at most once."""

    def complete():
        found = stored_uuids(server)
        return found if set(acknowledged) <= set(found) else None

    found = wait_until(complete, seconds=60, what="every acknowledged event is queryable")
    assert len(found) == len(set(found)), "an event is there twice"
    return found


def lag(server):
    metrics = requests.get(f"{server.url}/metrics", timeout=60).text
    return float(re.search(r'nilometer_log_lag_records\{group="store"\} (\S+)', metrics)[1])


def test_with_the_store_down_capture_goes_on_and_everything_arrives_once(tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("")
    with running(tmp_path / "data", FAILPOINTS=f"@{faults}") as server:
        first = [str(uuid.uuid4()) for _ in range(5)]
        for identifier in first:
            assert send(server.url, generation(identifier)).status_code == 200
        wait_for_exactly(server, first)
        wait_until(lambda: lag(server) == 0, what="the first events are committed")

        faults.write_text("store=error")
        assert server.ready("capture")
        wait_until(lambda: not server.ready("api"), what="readiness sees it")
        assert not server.ready("worker")
        whole = requests.get(f"{server.url}/_readiness", timeout=60)
        assert (whole.status_code, whole.json()["status"]) == (200, "degraded")
        second = [str(uuid.uuid4()) for _ in range(20)]
        for identifier in second:
            assert send(server.url, generation(identifier)).status_code == 200
        with server.client() as client:
            answer = client.get("/api/projects/1/events/")
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        wait_until(lambda: lag(server) == 20, what="the lag shows")

        faults.write_text("")
        server.wait_ready("worker")
        wait_for_exactly(server, first + second)


def test_with_a_slow_store_no_acknowledgement_waits_and_everything_arrives_once(tmp_path):
    with running(tmp_path, FAILPOINTS="store=slow") as server:
        acknowledged = [str(uuid.uuid4()) for _ in range(40)]
        seconds = []
        for identifier in acknowledged:
            answer = send(server.url, generation(identifier))
            assert answer.status_code == 200
            seconds.append(answer.elapsed.total_seconds())
        assert statistics.median(seconds) < SLOW_SECONDS / 2
        wait_for_exactly(server, acknowledged)


def test_with_blob_storage_down_nothing_is_accepted_and_no_event_appears(tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("blobs=error")
    with running(tmp_path / "data", FAILPOINTS=f"@{faults}") as server:
        refused = str(uuid.uuid4())
        answer = send(server.url, generation(refused, {"$ai_input": ("text/plain", b"hello")}))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        wait_until(lambda: not server.ready("capture"), what="readiness sees it")
        faults.write_text("")
        accepted = str(uuid.uuid4())
        answer = send(server.url, generation(accepted, {"$ai_input": ("text/plain", b"hello")}))
        assert answer.status_code == 200
        wait_for_exactly(server, [accepted])
        assert stored_uuids(server) == [accepted]


def test_the_same_uuid_in_two_projects_is_two_events(tmp_path):
    with running(tmp_path) as server:
        database = Database(Settings(data_dir=tmp_path).effective_database_url)
        accounts = Accounts(database)
        other = accounts.create_project("other")
        key = accounts.keys.create(
            kind=KeyKind.PROJECT, project_id=other.project_id, name="other", scopes=[]
        )
        database.close()
        identifier = str(uuid.uuid4())
        assert send(server.url, generation(identifier, whose="one")).status_code == 200
        answer = send(server.url, generation(identifier, whose="two"), key=key.token)
        assert answer.status_code == 200
        for project, whose in ((1, "one"), (other.project_id, "two")):

            def read(project=project):
                with server.client() as client:
                    answer = client.get(f"/api/projects/{project}/events/{identifier}/")
                return answer.json() if answer.status_code == 200 else None

            assert wait_until(read)["properties"]["whose"] == whose


def test_a_full_disk_is_answered_503_and_recovers_by_itself(tmp_path):
    disk = tmp_path / "disk"
    prefix = on_a_small_disk(disk, "48m", [])
    with running(disk / "data", prefix=prefix, DISK_RESERVE=4 * 1024 * 1024) as server:
        acknowledged = [str(uuid.uuid4()) for _ in range(3)]
        for identifier in acknowledged:
            assert send(server.url, generation(identifier)).status_code == 200
        wait_for_exactly(server, acknowledged)

        # The server's view of the disk: only it has the disk mounted.
        ballast = Path(f"/proc/{server.process.pid}/root{disk}/ballast")
        fill(ballast)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: send(server.url, generation()), range(12)))
        assert {answer.status_code for answer in answers} == {503}
        assert all("Retry-After" in answer.headers for answer in answers)
        with_blob = send(server.url, generation(None, {"$b": ("text/plain", b"x" * 9000)}))
        assert with_blob.status_code == 503
        assert server.process.poll() is None

        ballast.unlink()
        more = [str(uuid.uuid4()) for _ in range(3)]
        for identifier in more:
            wait_until(
                lambda identifier=identifier: (
                    send(server.url, generation(identifier)).status_code == 200
                ),
                what="capture recovers by itself",
            )
        found = wait_for_exactly(server, acknowledged + more)
        assert sorted(found) == sorted(acknowledged + more)
        assert server.stop() == 0
