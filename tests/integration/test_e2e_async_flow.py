"""Exceptions from the request that raises them to the tool that handles them, on a deployment of
each profile: real processes, and a real server on the side of the tools that counts its calls."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers
from tests.database.reaching import url_of
from tests.running import Server, wait_until
from tests.tools.receiver import Receiver, receiving

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SETTINGS = {"NOTIFICATION_NETWORKS": "127.0.0.0/8"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test on either profile, those of one profile together."""
    if "deployment" in metafunc.fixturenames:
        profiles = ["embedded", pytest.param("distributed", marks=pytest.mark.kafka)]
        metafunc.parametrize("deployment", profiles, indirect=True, scope="module")


@pytest.fixture(scope="module")
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of this profile, ready, that may call tools on this machine."""
    with ExitStack() as stack:
        settings = SETTINGS
        if request.param == "distributed":
            settings = SETTINGS | _distributed(request, tmp_path_factory, stack)
        server = Server(tmp_path_factory.mktemp("flow") / "data", **settings).start()
        stack.callback(server.kill)
        yield server.wait_ready(seconds=90)


def _distributed(
    request: pytest.FixtureRequest, paths: pytest.TempPathFactory, stack: ExitStack
) -> dict[str, Any]:
    kafka, postgres, s3 = (request.getfixturevalue(name) for name in ("kafka", "postgres", "s3"))
    bucket = f"test-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    clickhouse = ClickHouseServer(paths.mktemp("clickhouse")).start()
    stack.callback(clickhouse.stop)
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    patch.setenv("AWS_REGION", s3.region)
    return {
        "PROFILE": "distributed",
        "DATABASE_URL": url_of(stack.enter_context(servers.empty(postgres))),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "KAFKA_TOPIC": kafka.new_topic(),
        "KAFKA_PARTITIONS": 2,
        "KAFKA_ALLOW_SINGLE_REPLICA": "true",
        "CLICKHOUSE_URL": clickhouse.url(),
        "BLOBS_URL": f"s3://{bucket}",
        "S3_ENDPOINT": s3.endpoint,
    }


class Tenant:
    """A project of its own with a key of every scope, a tool on a receiver of its own, and a pack
    whose playbook calls it once for each step."""

    def __init__(self, deployment: Server, receiver: Receiver, steps: tuple[str, ...]) -> None:
        self.receiver = receiver
        with deployment.client() as operator:
            project = _json(operator.post("/api/projects/", json={"name": uuid.uuid4().hex}))
            self.id = project["id"]
            path = f"/api/projects/{self.id}"
            scopes = ["read", "write", "operate", "approve", "capture", "admin"]
            body = {"kind": "personal", "name": "all", "scopes": scopes}
            personal = _json(operator.post(f"{path}/keys/", json=body))
            body = {"kind": "project", "name": "door", "scopes": []}
            self.door = _json(operator.post(f"{path}/keys/", json=body))["token"]
            self.http = httpx.Client(base_url=deployment.url, timeout=60)
            self.http.headers["Authorization"] = f"Bearer {personal['token']}"
            config = {"url": f"{receiver.url}/handle", "honours_idempotency_key": True}
            tool = {"name": "handle", "kind": "http", "config": config, "max_concurrency": 20}
            _json(operator.post(f"{path}/tools/", json=tool))
            added = _json(operator.post(f"{path}/packs/", json={"pack": _pack(steps)}))
            _json(operator.post(f"{path}/packs/{added['name']}/{added['version']}/activate/"))

    def __enter__(self) -> Tenant:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, **more: Any) -> httpx.Response:
        """Raise an exception with the project's key, as a client would."""
        headers = {"Authorization": f"Bearer {self.door}", **more.pop("headers", {})}
        body = {"exception_type": "OrderFailed", "source_system": "shop", "severity": "high"}
        return self.http.post("/exceptions", json={**body, **more}, headers=headers)

    def one(self, **payload: Any) -> str:
        """The id of an exception with this payload."""
        answer = self.post(payload=payload)
        assert answer.status_code == 202, answer.text
        return answer.json()["exceptionId"]

    def get(self, exception_id: str) -> dict[str, Any]:
        return _json(self.http.get(f"/exceptions/{self.id}/{exception_id}"))

    def wait(self, exception_id: str, *statuses: str) -> dict[str, Any]:
        """The exception, once its status is one of these and its history has come to an end."""

        def there() -> dict[str, Any] | None:
            found = self.get(exception_id)
            return found if found["status"] in statuses else None

        found = wait_until(there, seconds=60, what=f"{exception_id} {statuses}")
        assert found is not None
        return found

    def calls(self, exception_id: str) -> list[dict[str, Any]]:
        """What the tool was sent for an exception, in the order of arrival."""
        sent = [each.json for each in list(self.receiver.received)]
        return [each for each in sent if each["incident"] == exception_id]


def _pack(steps: tuple[str, ...]) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "orders",
        "exceptions": [{"type": "OrderFailed", "severity": "high"}],
        "playbooks": [
            {
                "name": "handle-order",
                "types": ["OrderFailed"],
                "steps": [
                    {
                        "name": step,
                        "tool": "handle",
                        "params": {
                            "incident": "{{ incident.id }}",
                            "step": step,
                            "order": "{{ exception.payload.order }}",
                        },
                        "retries": {"attempts": 3, "initial_seconds": 0.1, "longest_seconds": 0.2},
                    }
                    for step in steps
                ],
            }
        ],
    }


def _json(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        receiver.honours_keys = True
        yield receiver


@pytest.fixture
def tenants(deployment: Server) -> Iterator[Callable[..., Tenant]]:
    """Makes tenants, each with a tool on a receiver and these steps."""
    with ExitStack() as stack:

        def make(receiver: Receiver, *steps: str) -> Tenant:
            return stack.enter_context(Tenant(deployment, receiver, steps or ("handle",)))

        yield make


def types(found: dict[str, Any]) -> list[str]:
    return [event["type"] for event in found["events"]]


class TestE2EAsyncFlow:
    """The five of the seed's guide."""

    def test_post_exception_worker_chain_playbook_tool_exec(
        self, tenants: Callable[..., Tenant], receiver: Receiver
    ) -> None:
        """POST, then each worker in turn, then one call of the tool, every step explained."""
        tenant = tenants(receiver)
        answer = tenant.post(payload={"order": 7}, headers={"traceparent": PARENT})
        assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
        exception_id = answer.json()["exceptionId"]
        assert tenant.get(exception_id)["events"][0]["type"] == "ExceptionIngested"
        found = tenant.wait(exception_id, "resolved")
        assert (found["severity"], found["playbook"]) == ("high", "handle-order")
        told = types(found)
        chain = [
            *("ExceptionIngested", "ExceptionNormalized", "TriageCompleted", "PolicyEvaluated"),
            *("PlaybookMatched", "StepExecutionRequested", "ToolExecutionRequested"),
            *("ToolExecutionCompleted", "StepCompleted", "PlaybookCompleted", "ExceptionResolved"),
        ]
        assert [each for each in told if each in chain] == chain
        seen: set[str] = set()
        for number, event in enumerate(found["events"], 1):
            assert event["sequence"] == number
            assert event["summary"]
            assert (event["causationId"] in seen) is (number > 1), event
            seen.add(event["eventId"])
        [call] = receiver.received
        assert call.json == {"incident": exception_id, "step": "handle", "order": 7}
        asked = found["events"][told.index("ToolExecutionRequested")]
        assert call.key == asked["payload"]["executionId"]
        assert call.headers["traceparent"].split("-")[1] == PARENT.split("-")[1]

    def test_ordering_per_exception(
        self, tenants: Callable[..., Tenant], receiver: Receiver
    ) -> None:
        """Of many at once, each takes its steps in order, and its events have no gap."""
        steps = ("first", "second", "third")
        tenant = tenants(receiver, *steps)
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda order: tenant.one(order=order), range(24)))
        for exception_id in made:
            found = tenant.wait(exception_id, "resolved")
            assert [each["step"] for each in tenant.calls(exception_id)] == list(steps)
            count = len(found["events"])
            assert [each["sequence"] for each in found["events"]] == list(range(1, count + 1))
            times = [each["occurredAt"] for each in found["events"]]
            assert times == sorted(times)
        assert len(receiver.received) == len(made) * len(steps)

    def test_idempotency_duplicate_events(
        self, tenants: Callable[..., Tenant], receiver: Receiver
    ) -> None:
        """The same request any number of times, at once and later, is handled once."""
        tenant = tenants(receiver)
        headers = {"Idempotency-Key": f"order-{uuid.uuid4()}"}

        def ask(_: int) -> str:
            return _json(tenant.post(payload={"order": 1}, headers=headers))["exceptionId"]

        with ThreadPoolExecutor(8) as pool:
            [exception_id] = set(pool.map(ask, range(8)))
        tenant.wait(exception_id, "resolved")
        assert ask(0) == exception_id
        other = tenant.one(order=2)
        tenant.wait(other, "resolved")
        assert [len(tenant.calls(each)) for each in (exception_id, other)] == [1, 1]
        assert types(tenant.get(exception_id)).count("ExceptionIngested") == 1
        listed = _json(tenant.http.get(f"/exceptions/{tenant.id}"))["results"]
        assert [each["exceptionId"] for each in listed] == [other, exception_id]

    def test_retry_dlq_path(self, tenants: Callable[..., Tenant], receiver: Receiver) -> None:
        """What fails for now is tried again under the same key, as often as is said; what fails for
        good is a dead letter, and done once it is replayed."""
        tenant = tenants(receiver)
        receiver.answers(503, times=2)
        found = tenant.wait(tenant.one(order=1), "resolved")
        assert len(receiver.received) == 3
        assert len(set(receiver.keys)) == 1
        assert sum(receiver.effects.values()) == 1
        assert types(found).count("RetryScheduled") == 2

        receiver.received.clear()
        receiver.answers(503, times=3)
        exception_id = tenant.one(order=2)
        failed = tenant.wait(exception_id, "failed")
        assert types(failed)[-1] == "DeadLettered"
        assert len(receiver.received) == 3
        [letter] = _json(tenant.http.get("/ops/dlq"))["results"]
        assert (letter["exceptionId"], letter["stage"]) == (exception_id, "tool")
        shown = _json(tenant.http.get(f"/ops/dlq/{letter['letterId']}"))
        assert shown["event"]["type"] == "ToolExecutionRequested"
        reason = {"reason": "It is up again."}
        _json(tenant.http.post(f"/ops/dlq/{letter['letterId']}/replay", json=reason))
        tenant.wait(exception_id, "resolved")
        assert len(receiver.received) == 4
        assert len(set(receiver.keys)) == 1
        assert max(receiver.effects.values()) == 1
        assert _json(tenant.http.get("/ops/dlq"))["results"] == []

        receiver.received.clear()
        receiver.answers(422)
        tenant.wait(tenant.one(order=3), "failed")
        assert len(receiver.received) == 1

    def test_tenant_isolation(self, tenants: Callable[..., Tenant], receiver: Receiver) -> None:
        """Two tenants with exceptions of one type: each is handled by its own tool, and neither
        finds a trace of the other's, in lists, by id, among dead letters, or by raising."""
        with receiving() as theirs:
            ours_, theirs_ = tenants(receiver), tenants(theirs)
            receiver.answers(422)
            ours = ours_.one(order="ours")
            other = theirs_.one(order="theirs")
            ours_.wait(ours, "failed")
            theirs_.wait(other, "resolved")
            assert {each.json["order"] for each in receiver.received} == {"ours"}
            assert {each.json["order"] for each in theirs.received} == {"theirs"}
        [letter] = _json(ours_.http.get("/ops/dlq"))["results"]
        assert _json(theirs_.http.get("/ops/dlq"))["results"] == []
        listed = _json(theirs_.http.get(f"/exceptions/{theirs_.id}"))
        assert [each["exceptionId"] for each in listed["results"]] == [other]
        assert ours not in json.dumps(listed)
        reason = {"reason": "r"}
        for method, path, body, status in (
            ("GET", f"/exceptions/{ours_.id}", None, 403),
            ("GET", f"/exceptions/{ours_.id}/{ours}", None, 403),
            ("GET", f"/exceptions/{theirs_.id}/{ours}", None, 404),
            ("GET", f"/exceptions/{theirs_.id}/{ours}/events", None, 404),
            ("POST", f"/exceptions/{theirs_.id}/{ours}/reprocess", None, 404),
            ("GET", f"/ops/dlq/{letter['letterId']}", None, 404),
            ("POST", f"/ops/dlq/{letter['letterId']}/replay", reason, 404),
            ("POST", f"/ops/dlq/{letter['letterId']}/discard", reason, 404),
        ):
            answer = theirs_.http.request(method, path, json=body)
            assert answer.status_code == status, (path, answer.text)
        headers = {"Authorization": f"Bearer {theirs_.door}"}
        body = {"exception_type": "OrderFailed", "source_system": "shop"}
        raised = theirs_.http.post(f"/exceptions/{ours_.id}", json=body, headers=headers)
        assert raised.status_code == 403
        assert ours_.get(ours)["status"] == "failed"
