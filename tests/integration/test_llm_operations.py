"""The pack that ships: each of its five situations, from telemetry sent through a door to an effect
that a server counts, and in a dry run to none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from nilometer.incidents.packs.built_in import text_of
from tests.running import Server, running, wait_until
from tests.sending import ai_parts, send
from tests.tools.receiver import Received, Receiver, receiving

PACK = "llm-operations"
TYPES = ["KeyLeak", "PipelineTrouble", "ProviderOutage", "QualityDrop", "RunawaySpend"]
DEAD = 3
RULES: list[dict[str, Any]] = [
    {"name": "outage", "kind": "error_rate", "dimension": "service", "value": "openai"}
    | {"threshold": "0.3", "min_calls": 10},
    {"name": "quality", "kind": "quality", "dimension": "metric", "threshold": "0.5"}
    | {"min_calls": 3},
    {"name": "letters", "kind": "dead_letters", "threshold": str(DEAD)},
]


@dataclass
class Tenant:
    """A project with rules, a budget and the pack, and a key that it is careless with."""

    server: Server
    client: httpx.Client
    id: int
    key: str
    reader: str = ""
    leaked: str = ""
    leaked_id: str = ""
    budget: str = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, f"/api/projects/{self.id}/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def rule(self, body: dict[str, Any]) -> None:
        self.ask("POST", "alert_rules/", body | {"raise_exception": True})

    def event(self, name: str = "$ai_generation", **properties: Any) -> None:
        event = {"uuid": str(uuid4()), "event": name, "distinct_id": "ada"}
        parts = ai_parts(event, {"$ai_model": "m"} | properties, {})
        answer = send(self.server.url, parts, self.key)
        assert answer.status_code == 200, answer.text

    def misfortune(self) -> None:
        """Everything that the pack knows but for dead letters."""
        for place in range(10):
            self.event(**{"$ai_provider": "openai", "$ai_is_error": place < 4})
        self.event(**{"$ai_provider": "p", "$ai_total_cost_usd": "2"})
        for value in ("0.1", "0.2", "0.3"):
            self.event("$ai_metric", **{"$ai_metric_name": "accuracy", "$ai_metric_value": value})
        self.event(**{"$ai_input": f"my key is:\n{self.leaked}\nthanks"})

    def handled(self) -> dict[str, dict[str, Any]]:
        """The incidents by type, once there are all of them and nothing is left to do."""

        def ended() -> dict[str, dict[str, Any]] | None:
            seen[:] = found = self.read(f"/exceptions/{self.id}/")["results"]
            over = all(each["status"] in ("resolved", "escalated", "failed") for each in found)
            by_type = {each["exceptionType"]: each for each in found}
            return by_type if over and sorted(by_type) == TYPES else None

        seen: list[dict[str, Any]] = []
        try:
            return wait_until(ended, seconds=60)
        except AssertionError:
            told = {each["exceptionType"]: self.ending(each) for each in seen}
            raise AssertionError(f"not all are handled: {told}, {self.server.output}") from None

    def read(self, path: str) -> Any:
        """As the project's own reader: exceptions are nobody else's."""
        answer = self.client.get(path, headers={"Authorization": f"Bearer {self.reader}"})
        assert answer.is_success, answer.text
        return answer.json()

    def ending(self, incident: dict[str, Any]) -> list[str] | None:
        """None of one that is resolved, and of any other what happened."""
        if incident["status"] == "resolved":
            return None
        path = f"/exceptions/{self.id}/{incident['exceptionId']}/"
        return [each["summary"] for each in self.read(path)["events"]]

    def executed(self) -> list[dict[str, Any]]:
        return self.ask("GET", "tool_executions/?limit=100")["results"]

    def letters(self) -> int:
        return len(self.ask("GET", "dead_letters/?state=open")["results"])

    def may_spend(self) -> bool:
        return self.ask("POST", "budgets/check/", {})["allowed"]

    def lets_in(self) -> bool:
        event = {"uuid": str(uuid4()), "event": "$ai_span", "distinct_id": "ada"}
        answer = send(self.server.url, ai_parts(event, {"$ai_model": "m"}, {}), self.leaked)
        return answer.status_code == 200


def pack(*, dry: bool) -> str:
    """The pack as it ships, or with every tool in a dry run."""
    if not dry:
        return text_of(PACK)
    document = yaml.safe_load(text_of(PACK))
    for playbook in document["playbooks"]:
        for step in [*playbook["steps"], *playbook.get("recovery", [])]:
            if "tool" in step:
                step["dry_run"] = True
    return json.dumps(document)


def tenant(server: Server, client: httpx.Client, receiver: Receiver, *, dry: bool) -> Tenant:
    made = client.post("/api/projects/", json={"name": "dry" if dry else "real"}).json()
    found = Tenant(server, client, made["id"], made["api_token"])
    reads = {"kind": "personal", "name": "reader", "scopes": ["read"]}
    found.reader = found.ask("POST", "keys/", reads)["token"]
    leaked = found.ask("POST", "keys/", {"kind": "project", "name": "careless"})
    found.leaked, found.leaked_id = leaked["token"], leaked["id"]
    budget = {"name": "all", "amount_usd": "1", "period": "month", "thresholds": [100]}
    found.budget = found.ask("POST", "budgets/", budget | {"raise_exception": True})["id"]
    for rule in RULES:
        found.rule(rule)
    hook = {
        "name": "incident-webhook",
        "kind": "webhook",
        "config": {"url": f"{receiver.url}/hook"},
    }
    found.ask("POST", "tools/", hook)
    told = {"name": "ops", "kind": "webhook", "config": {"url": f"{receiver.url}/told"}}
    found.ask("POST", "notification_channels/", told)
    found.ask("POST", "packs/", {"text": pack(dry=dry)})
    found.ask("POST", f"packs/{PACK}/1/activate/")
    return found


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[list[Tenant]]:
    """One in a dry run and one for real, after all that the pack knows has happened to both."""
    folder: Path = tmp_path_factory.mktemp("operations")
    faults = folder / "faults"
    faults.write_text("")
    settings = {
        "FAILPOINTS": f"@{faults}",
        "DEAD_LETTER_SHARE": 1,
        "ALERT_RULE_SECONDS": 0.5,
        "NOTIFICATION_NETWORKS": "127.0.0.0/8",
    }
    with running(folder / "data", **settings) as server, server.client() as client:
        made = [tenant(server, client, receiver, dry=dry) for dry in (True, False)]
        for each in made:
            each.misfortune()
        wait_until(lambda: all(stored(each) == 15 for each in made), what="events are stored")
        faults.write_text("map=error")
        for each in made:
            # Content is looked at once a minute, and at once by a rule that is new.
            each.rule({"name": "leak", "kind": "leaked_key"})
            for _ in range(DEAD):
                each.event("$ai_span")
        wait_until(lambda: all(each.letters() == DEAD for each in made), what="dead letters")
        faults.write_text("")
        yield made


def hooks(receiver: Receiver) -> list[Received]:
    """The calls of the tool; its channel's notifications come beside them."""
    return [each for each in receiver.received if each.path == "/hook"]


def stored(each: Tenant) -> int:
    return len(each.ask("GET", "events/?limit=100")["results"])


def test_in_a_dry_run_everything_is_decided_and_nothing_done(
    tenants: list[Tenant], receiver: Receiver
) -> None:
    dry, _ = tenants
    found = dry.handled()
    assert {name: dry.ending(each) for name, each in found.items()} == dict.fromkeys(TYPES)
    executed = dry.executed()
    assert {each["tool"] for each in executed} >= {
        *("budget_hard_stop", "key_revoke", "dead_letters_replay", "incident-webhook"),
    }
    assert all(each["dry_run"] for each in executed)
    assert dry.may_spend()
    assert dry.lets_in()
    assert dry.letters() == DEAD
    mine = {each["id"] for each in executed}
    assert not mine & {each.headers["webhook-id"] for each in hooks(receiver)}


def test_each_situation_has_its_effect_once(tenants: list[Tenant], receiver: Receiver) -> None:
    _, real = tenants
    found = real.handled()
    assert {name: real.ending(each) for name, each in found.items()} == dict.fromkeys(TYPES)
    told = [each.json["data"]["input"] for each in hooks(receiver)]
    assert sorted(each["type"] for each in told) == TYPES
    assert {each["incident"] for each in told} == {each["exceptionId"] for each in found.values()}
    assert len({each.headers["webhook-id"] for each in hooks(receiver)}) == len(TYPES)
    by_type = {each["type"]: each["payload"] for each in told}
    assert by_type["RunawaySpend"]["budget_id"] == real.budget
    assert by_type["ProviderOutage"]["error_rate"] == "0.4"
    assert by_type["KeyLeak"]["key_id"] == real.leaked_id
    assert by_type["QualityDrop"]["metric"] == "accuracy"
    assert by_type["PipelineTrouble"]["dead_letters"] == str(DEAD)
    assert real.leaked not in json.dumps(told)

    assert not real.may_spend()
    wait_until(lambda: not real.lets_in(), what="the key is revoked")
    assert real.letters() == 0
    wait_until(lambda: stored(real) >= 15 + DEAD, what="what was given up is stored")


def test_the_timeline_says_why_and_the_alert_names_the_exception(tenants: list[Tenant]) -> None:
    _, real = tenants
    found = real.handled()
    raised = {each["exception_id"] for each in real.ask("GET", "alerts/")["results"]}
    raised |= {each["exception_id"] for each in real.ask("GET", "budget_alerts/")["results"]}
    assert raised == {each["exceptionId"] for each in found.values()}
    spend = found["RunawaySpend"]["exceptionId"]
    events = real.read(f"/exceptions/{real.id}/{spend}/")["events"]
    types = [each["type"] for each in events]
    assert types[0] == "ExceptionIngested"
    assert types[-1] in ("ExceptionResolved", "FeedbackCaptured")
    assert {"TriageCompleted", "PolicyEvaluated", "PlaybookMatched", "ToolExecutionCompleted"} <= {
        *types
    }
    assert all(each["summary"] for each in events)
