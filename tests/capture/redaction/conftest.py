"""A door whose blobs can be searched on disk, and projects with rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.capture.door import Access, Door, open_door


class Guarded:
    """A door, and where its blobs are."""

    def __init__(self, door: Door, directory: Path, access: Access) -> None:
        self.door, self.directory, self.access = door, directory, access

    def project(self, rules: dict[str, Any] | None) -> str:
        """The key of a new project with these rules."""
        project, key = self.access.project()
        if rules is not None:
            self.access.accounts.projects.change(project, redaction=rules)
        return key

    def kept(self) -> bytes:
        """Everything that was made durable: the log's payloads, then every file."""
        payloads = [envelope.payload for envelope in self.door.log.envelopes]
        files = [path.read_bytes() for path in self.directory.rglob("*") if path.is_file()]
        return b"\n".join(payloads + files)


@pytest.fixture(scope="module")
def _guarded(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    with open_door(access, directory) as door:
        yield Guarded(door, directory / "blobs", access)


@pytest.fixture
def guarded(_guarded: Guarded) -> Guarded:
    """The door; what it kept before is gone."""
    _guarded.door.log.envelopes.clear()
    _guarded.door.log.error = None
    for path in _guarded.directory.rglob("*"):
        if path.is_file():
            path.unlink()
    return _guarded
