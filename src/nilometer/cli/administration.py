"""Organizations, projects and keys, for the commands: through a server, or in its data directory.

With a personal key (`--key`, `NILOMETER_API_KEY`) a command asks the server and reaches the key's
organization. Without one, or with `--data-dir`, it works on the data directory, server or none, and
reaches every organization. Both ways give the same JSON objects.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast
from urllib.parse import quote

import typer

from nilometer.access.types import CaptureMode, KeyKind, Scope
from nilometer.cli.client import DEFAULT_URL, OWN_PROJECT, Client, Key, connected, segment
from nilometer.cli.offline import DataDir, open_accounts
from nilometer.errors import NotFound

if TYPE_CHECKING:
    from nilometer.access.accounts import Accounts

__all__ = ["Administration", "DataDir", "Key", "Url", "administration"]

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="NILOMETER_URL", help="Where the server listens, with --key."),
]
Json = dict[str, Any]
_EVERYTHING = 1_000_000
_ADMIN = frozenset({Scope.ADMIN})


class Administration(Protocol):
    """What the commands do. Raises NotFound, InvalidInput or Refused, and Unavailable."""

    def organizations(self) -> list[Json]:
        """Those within reach."""
        ...

    def create_organization(self, name: str) -> Json:
        """With its first keys."""
        ...

    def rename_organization(self, organization_id: str, name: str) -> Json:
        """The organization as it is then."""
        ...

    def delete_organization(self, organization_id: str) -> list[Json]:
        """The deletions of its projects."""
        ...

    def audit_log(self, limit: int) -> list[Json]:
        """The newest entries."""
        ...

    def projects(self) -> list[Json]:
        """Those within reach, with their rules."""
        ...

    def create_project(self, name: str, organization_id: str | None) -> Json:
        """With `api_token`."""
        ...

    def change_project(self, project_id: int, changes: Mapping[str, Any]) -> Json:
        """The project as it is then; `changes` as the body of a PATCH."""
        ...

    def rotate_project(self, project_id: int) -> Json:
        """With the new `api_token`."""
        ...

    def delete_project(self, project_id: int) -> Json:
        """The deletion."""
        ...

    def deletion(self, project_id: int) -> Json:
        """How far it has come."""
        ...

    def keys(self, project_id: int | None) -> list[Json]:
        """The keys of a project, or all within reach."""
        ...

    def create_key(self, kind: KeyKind, project: str, name: str, scopes: Sequence[Scope]) -> Json:
        """With `token`."""
        ...

    def rename_key(self, key_id: str, name: str) -> Json:
        """The key as it is then."""
        ...

    def rotate_key(self, key_id: str) -> Json:
        """With the new `token`."""
        ...

    def revoke_key(self, key_id: str) -> Json:
        """The key as it is then."""
        ...


@contextmanager
def administration(
    data_dir: Path | None, url: str | None, key: str | None
) -> Generator[Administration]:
    """The way that the options ask for."""
    if key and data_dir is None:
        with connected(url or DEFAULT_URL, key) as client:
            yield _ThroughServer(client)
    else:
        with open_accounts(data_dir) as accounts:
            yield _InDataDirectory(accounts)


class _ThroughServer:
    def __init__(self, client: Client) -> None:
        self._client = client

    def organizations(self) -> list[Json]:
        return self._list("/api/organizations/")

    def create_organization(self, name: str) -> Json:
        return json.loads(self._client.post("/api/organizations/", {"name": name}))

    def rename_organization(self, organization_id: str, name: str) -> Json:
        return json.loads(self._client.patch(_organization(organization_id), {"name": name}))

    def delete_organization(self, organization_id: str) -> list[Json]:
        return json.loads(self._client.delete(_organization(organization_id)))["deletions"]

    def audit_log(self, limit: int) -> list[Json]:
        path = "/api/organizations/@current/audit_log/"
        return self._client.pages(path, {}, limit).values()

    def projects(self) -> list[Json]:
        ids = [project["id"] for project in self._list("/api/projects/")]
        return [json.loads(self._client.get(_project(project_id))) for project_id in ids]

    def create_project(self, name: str, organization_id: str | None) -> Json:
        path = f"{_organization(organization_id or '@current')}projects/"
        return json.loads(self._client.post(path, {"name": name}))

    def change_project(self, project_id: int, changes: Mapping[str, Any]) -> Json:
        return json.loads(self._client.patch(_project(project_id), changes))

    def rotate_project(self, project_id: int) -> Json:
        return json.loads(self._client.post(f"{_project(project_id)}rotate/"))

    def delete_project(self, project_id: int) -> Json:
        return json.loads(self._client.delete(_project(project_id)))

    def deletion(self, project_id: int) -> Json:
        return json.loads(self._client.get(f"{_project(project_id)}deletion/"))

    def keys(self, project_id: int | None) -> list[Json]:
        if project_id is not None:
            return self._list(f"{_project(project_id)}keys/")
        ids = [project["id"] for project in self._list("/api/projects/")]
        return [key for each in ids for key in self._list(f"{_project(each)}keys/")]

    def create_key(self, kind: KeyKind, project: str, name: str, scopes: Sequence[Scope]) -> Json:
        body = {"kind": kind, "name": name, "scopes": list(scopes)}
        return json.loads(self._client.post(f"{_project(project)}keys/", body))

    def rename_key(self, key_id: str, name: str) -> Json:
        return json.loads(self._client.patch(self._key(key_id), {"name": name}))

    def rotate_key(self, key_id: str) -> Json:
        return json.loads(self._client.post(f"{self._key(key_id)}rotate/"))

    def revoke_key(self, key_id: str) -> Json:
        path = self._key(key_id)
        self._client.delete(path)
        return json.loads(self._client.get(path))

    def _list(self, path: str) -> list[Json]:
        return self._client.pages(path, {}, _EVERYTHING).values()

    def _key(self, key_id: str) -> str:
        """The path of a key, which is below that of its project."""
        for key in self.keys(None):
            if key["id"] == key_id.lower():
                return f"{_project(key['project_id'])}keys/{segment(key['id'])}/"
        raise NotFound("this is not the id of a key; `nilometer keys list` shows them")


class _InDataDirectory:
    def __init__(self, accounts: Accounts) -> None:
        from nilometer.api import shapes

        self._accounts = accounts
        self._shapes = shapes

    def organizations(self) -> list[Json]:
        found = self._accounts.organizations.list()
        return [self._shapes.organization_brief(each, _ADMIN) for each in found]

    def create_organization(self, name: str) -> Json:
        made, keys = self._accounts.organizations.create(name)
        projects = self._accounts.projects.list(made.organization_id)
        return self._shapes.new_organization(made, projects, keys)

    def rename_organization(self, organization_id: str, name: str) -> Json:
        renamed = self._accounts.organizations.rename(self._own(organization_id), name)
        projects = self._accounts.projects.list(renamed.organization_id)
        return self._shapes.organization(renamed, projects, _ADMIN)

    def delete_organization(self, organization_id: str) -> list[Json]:
        deletions = self._accounts.organizations.delete(self._own(organization_id))
        return [self._shapes.deletion(deletion) for deletion in deletions]

    def audit_log(self, limit: int) -> list[Json]:
        return [self._shapes.audit_entry(e) for e in self._accounts.audit.list(limit=limit).entries]

    def projects(self) -> list[Json]:
        return [self._shapes.project(project) for project in self._accounts.projects.list()]

    def create_project(self, name: str, organization_id: str | None) -> Json:
        project, key = self._accounts.projects.create_with_key(
            name, organization_id=organization_id and self._own(organization_id)
        )
        return self._shapes.project(project, key.token)

    def change_project(self, project_id: int, changes: Mapping[str, Any]) -> Json:
        days = "default" if changes.get("retention_days", 0) is None else None
        rules = "off" if changes.get("redaction", 0) is None else changes.get("redaction")
        changed = self._accounts.projects.change(
            project_id,
            name=changes.get("name"),
            mode=cast("CaptureMode | None", changes.get("capture")),
            dropped_distinct_ids=changes.get("dropped_distinct_ids"),
            retention_days=days or changes.get("retention_days"),
            keep_other_spans=changes.get("keep_other_spans"),
            redaction=rules,
        )
        return self._shapes.project(changed)

    def rotate_project(self, project_id: int) -> Json:
        key = self._accounts.projects.rotate(project_id)
        return self._shapes.project(self._accounts.projects.get(project_id), key.token)

    def delete_project(self, project_id: int) -> Json:
        return self._shapes.deletion(self._accounts.projects.delete(project_id))

    def deletion(self, project_id: int) -> Json:
        return self._shapes.deletion(self._accounts.projects.deletion(project_id))

    def keys(self, project_id: int | None) -> list[Json]:
        return [self._shapes.key(key) for key in self._accounts.keys.list(project_id)]

    def create_key(self, kind: KeyKind, project: str, name: str, scopes: Sequence[Scope]) -> Json:
        key = self._accounts.keys.create(
            kind=kind, project_id=self._project(project), name=name, scopes=scopes
        )
        return self._shapes.issued_key(key)

    def rename_key(self, key_id: str, name: str) -> Json:
        return self._shapes.key(self._accounts.keys.rename(key_id, name))

    def rotate_key(self, key_id: str) -> Json:
        return self._shapes.issued_key(self._accounts.keys.rotate(key_id))

    def revoke_key(self, key_id: str) -> Json:
        return self._shapes.key(self._accounts.keys.revoke(key_id))

    def _project(self, text: str) -> int:
        """The id, or that of the oldest project for `@current`."""
        if text != OWN_PROJECT:
            return int(text)
        found = self._accounts.projects.list()
        if not found:
            raise NotFound("there is no project; make one with `nilometer projects create`")
        return found[0].project_id

    def _own(self, organization_id: str) -> str:
        """The id, or that of the oldest organization for `@current`."""
        if organization_id != "@current":
            return organization_id
        found = self._accounts.organizations.list()
        return found[0].organization_id if found else organization_id


def _organization(organization_id: str) -> str:
    return f"/api/organizations/{quote(organization_id, safe='@')}/"


def _project(project_id: int | str) -> str:
    return f"/api/projects/{project_id}/"
