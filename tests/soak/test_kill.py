"""Load, kill -9, restart, count: every acknowledged event is there exactly once.

At random instants (3 rounds here, 20 in `make soak`), and at every named point of an event's walk.
"""

import os
import random
import threading
import uuid

import pytest
import requests

from tests.running import Server, wait_until
from tests.sending import generation, send
from tests.serve.test_faults import wait_for_exactly

ROUNDS = int(os.environ.get("NILOMETER_SOAK_ROUNDS", "3"))


class Load:
    """Clients that send until the server dies, and remember what was acknowledged."""

    def __init__(self, server, clients=4):
        self.server = server
        self.acknowledged = []
        self.blobs = {}
        self.large = {}
        self.refused = []
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        while True:
            identifier = str(uuid.uuid4())
            body = os.urandom(random.choice([100, 8000])) if random.random() < 0.3 else None
            blobs = {"$blob": ("application/octet-stream", body)} if body else None
            large = random.randbytes(10_000).hex() if random.random() < 0.2 else "small"
            try:
                answer = send(self.server.url, generation(identifier, blobs, note=large))
            except requests.RequestException:
                return
            if answer.status_code == 200:
                self.acknowledged.append(identifier)
                self.blobs[identifier] = body
                self.large[identifier] = large
            else:
                self.refused.append(answer.status_code)

    def join(self):
        for thread in self._threads:
            thread.join(60)


def check_blobs(server, load, sample=5):
    having = [identifier for identifier in load.acknowledged if load.blobs[identifier]]
    with server.client() as client:
        for identifier in having[-sample:]:
            url = client.get(f"/api/projects/1/events/{identifier}/").json()["properties"]["$blob"]
            answer = client.get("/api/projects/1/blobs/", params={"url": url})
            assert answer.content == load.blobs[identifier]
        having = [each for each in load.acknowledged if len(load.large[each]) > 16_384]
        for identifier in having[-sample:]:
            event = client.get(f"/api/projects/1/events/{identifier}/").json()
            assert event["properties"]["note"] == load.large[identifier]
            assert event["packed"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_kill_at_a_random_instant_loses_and_repeats_nothing(tmp_path):
    acknowledged = []
    for _ in range(ROUNDS):
        server = Server(tmp_path).start()
        try:
            server.wait_ready("capture")
            load = Load(server)
            enough = random.randint(50, 400)
            wait_until(
                lambda load=load, enough=enough: len(load.acknowledged) >= enough, seconds=60
            )
        finally:
            server.kill()
        load.join()
        assert not load.refused
        acknowledged += load.acknowledged
    server = Server(tmp_path).start()
    try:
        server.wait_ready()
        wait_for_exactly(server, acknowledged)
        check_blobs(server, load)
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()


@pytest.mark.parametrize(
    "point",
    [
        *("after_blob_put", "before_append", "after_append"),
        *("after_pack_put", "after_insert", "before_commit"),
    ],
)
def test_a_kill_at_a_named_point_loses_and_repeats_nothing(tmp_path, point):
    by_batch = point in ("after_pack_put", "after_insert", "before_commit")
    hits = random.randint(1, 3) if by_batch else 25
    server = Server(tmp_path, FAILPOINTS=f"{point}=kill@{hits}").start()
    try:
        load = Load(server)
        server.wait_dead()
    finally:
        if server.process.poll() is None:
            server.kill()
    load.join()
    survivor = Server(tmp_path).start()
    try:
        survivor.wait_ready()
        wait_for_exactly(survivor, load.acknowledged)
        check_blobs(survivor, load)
    finally:
        survivor.kill()
