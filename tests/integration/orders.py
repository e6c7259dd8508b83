"""Tenants whose orders fail: each a project with a pack, and tools on a counting server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from tests.running import KEY, NO_TLS
from tests.tools.counting import Counting

KIND = "OrderFailed"
ATTEMPTS = 6
"""A worker that dies may cost one."""
SETTINGS = {"NOTIFICATION_NETWORKS": "127.0.0.0/8"}
"""With these a server may call tools on this machine."""

_STEPS = (("handle", "once", ""), ("second", "keyed", "second"), ("third", "once", "third"))


def pack(steps: int) -> dict[str, Any]:
    """Calls a tool once, and in steps after the first where the exception asks for them."""
    return {
        "format": 1,
        "name": "orders",
        "exceptions": [{"type": KIND, "severity": "high"}],
        "playbooks": [
            {
                "name": "handle-order",
                "types": [KIND],
                "steps": [_step(*each) for each in _STEPS[:steps]],
            }
        ],
    }


def _step(name: str, tool: str, asked_by: str) -> dict[str, Any]:
    return {
        "name": name,
        "tool": tool,
        **({"when": f"exception.payload.{asked_by}"} if asked_by else {}),
        "params": {
            "incident": "{{ incident.id }}",
            "step": name,
            "fate": "ok" if asked_by else "{{ exception.payload.fate }}",
            "mark": "{{ exception.payload.mark }}",
        },
        "retries": {"attempts": ATTEMPTS, "initial_seconds": 0.1, "longest_seconds": 0.5},
    }


@dataclass(frozen=True)
class Tenant:
    """A project, and the key by which it raises exceptions."""

    id: int
    key: str


def tenant(
    url: str, counting: Counting, name: str, *, steps: int = 1, keyed: bool = True
) -> Tenant:
    """Make one, by way of this server; its playbook has so many steps. `keyed`: all receivers do
    what is sent under one key once; else some do it again and again, and can be asked."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, verify=NO_TLS) as client:
        project = _made(client, "/api/projects/", {"name": name})["id"]
        at = f"/api/projects/{project}"
        door = {"kind": "project", "name": "door", "scopes": []}
        key = _made(client, f"{at}/keys/", door)["token"]
        taken_once = {"url": counting.url("keyed"), "honours_idempotency_key": True}
        asked = {"url": f"{counting.url('once')}/{{execution_id}}"}
        told = {"url": counting.url("once"), "reconcile": asked}
        for tool, how in (("keyed", taken_once), ("once", taken_once if keyed else told)):
            made = {"name": tool, "kind": "http", "config": how, "max_concurrency": 100}
            _made(client, f"{at}/tools/", {**made, "breaker_failures": 100})
        added = _made(client, f"{at}/packs/", {"pack": pack(steps)})
        _made(client, f"{at}/packs/{added['name']}/{added['version']}/activate/", None)
    return Tenant(project, key)


def order(mark: int | None = None, fate: str = "ok", steps: int = 1) -> dict[str, Any]:
    """An exception that asks for so many steps, one to three."""
    payload = {"mark": mark, "fate": fate, "second": steps > 1, "third": steps > 2}
    return {"exception_type": KIND, "source_system": "shop", "payload": payload}


def request(tenant: Tenant, orders: list[dict[str, Any]], key: str | None = None) -> bytes:
    """One whole HTTP request that raises these; `key` is for idempotency."""
    body = orjson.dumps(orders[0] if len(orders) == 1 else {"exceptions": orders})
    named = f"Idempotency-Key: {key}\r\n" if key else ""
    return (
        "POST /exceptions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {tenant.key}\r\n{named}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _made(client: httpx.Client, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json()
