"""The PostHog API: questions in HogQL, teams made and deleted, with a personal key.

What the API calls a project is a team everywhere in this suite, as in blob keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import requests

from tests.acceptance.llma.configuration import Configuration
from tests.acceptance.llma.polling import until

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Team:
    """A team: its id, and the project key that captures into it."""

    id: int
    token: str


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization of its own: its first team, and a personal key with every scope."""

    id: str
    personal_key: str
    team: Team


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the query API gives it."""

    uuid: str
    event: str
    distinct_id: str
    properties: dict[str, Any]


class Api:
    """Asks with one key. `call` gives the response as it is; the others expect success."""

    def __init__(self, configuration: Configuration, key: str | None = None) -> None:
        self._base = f"{configuration.host}/api/"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key or configuration.api_key}"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Any request below `/api/`."""
        return self._session.request(method, self._base + path, timeout=SECONDS, **options)

    def ask(self, team_id: int, query: str) -> requests.Response:
        """One HogQL query, whatever the answer."""
        body = {"query": {"kind": "HogQLQuery", "query": query}}
        return self.call("POST", f"projects/{team_id}/query/", json=body)

    def rows(self, team_id: int, query: str) -> list[dict[str, Any]]:
        """The rows of a query, by column name."""
        answer = self.ask(team_id, query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return [dict(zip(body["columns"], row, strict=True)) for row in body["results"]]

    def events(self, team_id: int) -> list[StoredEvent]:
        """Every event of a team, in no order."""
        return self._events(team_id, "1 = 1")

    def wait_for_event(self, team_id: int, uuid: str, seconds: float = 60) -> StoredEvent:
        """The event, once the pipeline has stored it; AssertionError if it is there twice."""
        found = until(lambda: self._events(team_id, f"uuid = '{uuid}'"), f"event {uuid}", seconds)
        assert len(found) == 1, f"event {uuid} is there {len(found)} times"
        return found[0]

    def create_team(self, name: str) -> Team:
        """A new team in the key's organization."""
        answer = self.call("POST", "projects/", json={"name": name})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        return Team(body["id"], body["api_token"])

    def update_team(self, team_id: int, **rules: Any) -> None:
        """Change a team's rules, such as `retention_days`."""
        answer = self.call("PATCH", f"projects/{team_id}/", json=rules)
        assert answer.status_code == 200, answer.text

    def rotate_token(self, team_id: int) -> str:
        """A new project key in place of the team's."""
        answer = self.call("POST", f"projects/{team_id}/rotate/")
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["api_token"]

    def delete_team(self, team_id: int) -> None:
        """Ask for a team's deletion."""
        answer = self.call("DELETE", f"projects/{team_id}/")
        assert answer.status_code in (202, 404), answer.text

    def wait_until_deleted(self, team_id: int, seconds: float = 90) -> None:
        """Return once everything that the team had is deleted."""

        def deleted() -> bool:
            answer = self.call("GET", f"projects/{team_id}/deletion/")
            return answer.status_code == 200 and answer.json()["state"] == "deleted"

        until(deleted, f"team {team_id} is deleted", seconds)

    def create_organization(self, name: str) -> Organization:
        """A new organization, which this client's key cannot see."""
        answer = self.call("POST", "organizations/", json={"name": name})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        key = body["project_key"]
        return Organization(
            body["id"], body["personal_key"]["token"], Team(key["project_id"], key["token"])
        )

    def delete_organization(self) -> None:
        """Ask for the deletion of this key's own organization, the key included."""
        answer = self.call("DELETE", "organizations/@current/")
        assert answer.status_code == 202, answer.text

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _events(self, team_id: int, condition: str) -> list[StoredEvent]:
        columns = "toString(uuid) AS uuid, event, distinct_id, properties"
        rows = self.rows(team_id, f"SELECT {columns} FROM events WHERE {condition} LIMIT 1000")
        return [StoredEvent(**{**row, "properties": json.loads(row["properties"])}) for row in rows]
