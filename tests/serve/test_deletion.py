"""A project deleted under a running process, which is killed meanwhile."""

import re
import uuid

import requests

from tests.running import Server, wait_until
from tests.sending import generation, send


def bucket(server):
    return [path for path in (server.data_dir / "blobs").rglob("*.*") if path.is_file()]


def deletion(server, project):
    with server.client() as client:
        return client.get(f"/api/projects/{project}/deletion/").json()


def dropped(server):
    """The events that this process has dropped."""
    metrics = requests.get(f"{server.url}/metrics", timeout=60).text
    found = re.search(
        r'^nilometer_pipeline_events_total\{outcome="dropped"\} (\S+)', metrics, re.MULTILINE
    )
    return float(found[1])


def test_a_deletion_survives_the_process_and_takes_everything(tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("")
    server = Server(tmp_path / "data", FAILPOINTS=f"@{faults}").start().wait_ready()
    try:
        with server.client() as client:
            made = client.post("/api/projects/", json={"name": "doomed"}).json()
        project, key = made["id"], made["api_token"]
        kept, doomed = str(uuid.uuid4()), str(uuid.uuid4())
        blob = {"$ai_input": ("text/plain", b"hello" * 1000)}
        large = {"note": "high water " * 3000}
        assert send(server.url, generation(kept, blob, **large)).status_code == 200
        assert send(server.url, generation(doomed, blob, **large), key=key).status_code == 200
        with server.client() as client:
            for number, event in ((1, kept), (project, doomed)):
                path = f"/api/projects/{number}/events/{event}/"
                wait_until(lambda path=path: client.get(path).status_code == 200)
            # An event can be read before its call and its id are there.
            wait_until(lambda: client.get("/api/log/").json()["groups"]["store"]["records"] == 0)
            assert sorted(path.suffix for path in bucket(server)) == [
                *(".multipart", ".multipart"),
                *(".pack", ".pack"),
            ]

            faults.write_text("store=error")
            assert client.delete(f"/api/projects/{project}/").status_code == 202
        wait_until(lambda: deletion(server, project)["last_error"] == "store_unavailable")
        waiting = deletion(server, project)
        assert (waiting["state"], waiting["deleted"]["rows"]) == ("deleting", 0)

        def refused():
            answer = send(server.url, generation(str(uuid.uuid4())), key=key)
            return answer.status_code == 401

        wait_until(refused, seconds=20, what="the key is dead within 5 seconds, and answers come")
        server.kill()
        faults.write_text("")
        server.start().wait_ready()
        wait_until(lambda: deletion(server, project)["state"] == "deleted")
        done = deletion(server, project)
        assert done["deleted"]["blobs"] >= 1
        assert done["deleted"]["rows"] >= 3
        assert [str(project) in path.parts for path in bucket(server)] == [False, False]
        for _ in range(2):  # as after a power cut: the pipeline reads the last hour again
            server.kill()
            (tmp_path / "data" / "log" / "boot").unlink()
            server.start().wait_ready()
            wait_until(lambda: dropped(server) >= 1)
        assert deletion(server, project) == done
        with server.client() as client:
            assert client.get(f"/api/projects/1/events/{kept}/").status_code == 200
            assert client.get(f"/api/projects/{project}/events/").status_code == 404
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
