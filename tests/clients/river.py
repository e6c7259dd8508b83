"""A running server, projects in it, and clients' pages run against it as they are written."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.running import Server, wait_until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".build" / "clients" / "bin" / "python"
BUCKETS = (
    *("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h"),
    *("text_output", "reasoning"),
)


@dataclass(frozen=True)
class Project:
    """A project of the server, with its key."""

    server: Server
    number: int
    key: str

    def query(self, sql: str) -> list[dict[str, Any]]:
        asked = {"query": {"kind": "HogQLQuery", "query": sql}}
        with self.server.client() as http:
            answer = http.post(f"/api/projects/{self.number}/query/", json=asked)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return [dict(zip(body["columns"], row, strict=True)) for row in body["results"]]

    def calls(self, count: int) -> list[dict[str, Any]]:
        """All calls, in order, once there are so many."""
        sql = "SELECT * FROM calls ORDER BY timestamp"
        wait_until(lambda: len(self.query(sql)) >= count, what=f"{count} calls")
        return self.query(sql)

    def tree(self, trace: str) -> set[tuple[str, str, str | None]]:
        """Each event of a trace: its name, its span's name, and the name of its parent's span."""
        sql = f"SELECT event, span_id, span_name, parent_id FROM events WHERE trace_id = '{trace}'"
        rows = self.query(sql)
        names = {row["span_id"]: row["span_name"] for row in rows}
        return {(r["event"], r["span_name"], names.get(r["parent_id"])) for r in rows}

    def settings(self, text: str) -> str:
        """A page's text with what stands for the server and the key filled in."""
        text = text.replace("$NILOMETER_URL", self.server.url)
        text = text.replace("$NILOMETER_API_KEY", self.key)
        return text.replace("$NILOMETER_PROJECT", str(self.number))

    def run(self, page: Page, upstream: str, snippet: int = 0, **more: str) -> str:
        """What a page's example writes, with nothing set but what the page says."""
        variables = {
            "HOME": os.environ["HOME"],
            "OPENAI_BASE_URL": upstream,
            "OPENAI_API_KEY": "sk-upstream",
            "NILOMETER_URL": self.server.url,
            "NILOMETER_API_KEY": self.key,
        }
        done = subprocess.run(
            [str(PYTHON), "-c", page.blocks("python")[snippet]],
            env=variables | page.exports(self) | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Page:
    """A page of docs/clients."""

    name: str

    def blocks(self, language: str) -> list[str]:
        text = (ROOT / "docs" / "clients" / self.name).read_text()
        return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)

    def exports(self, project: Project) -> dict[str, str]:
        """The environment variables that the page sets."""
        found: dict[str, str] = {}
        for block in self.blocks("sh"):
            lines = re.findall(r'^export (\w+)="?(.*?)"?$', project.settings(block), re.MULTILINE)
            found |= dict(lines)
        return found


def new_project(server: Server, name: str) -> Project:
    with server.client() as http:
        made = http.post("/api/projects/", json={"name": name})
    assert made.status_code == 201, made.text
    return Project(server, made.json()["id"], made.json()["api_token"])


def vector(call: Mapping[str, Any]) -> dict[str, int]:
    """The buckets that hold tokens."""
    counts = {bucket: int(call[f"vector_{bucket}"] or 0) for bucket in BUCKETS}
    assert sum(counts.values()) == int(call["vector_total"] or 0)
    return {bucket: count for bucket, count in counts.items() if count}


def cost(call: Mapping[str, Any]) -> Decimal:
    """The computed cost, which is there."""
    assert call["price_reason"] == ""
    return Decimal(call["cost_total"])
