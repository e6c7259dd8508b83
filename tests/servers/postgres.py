"""PostgreSQL, from Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.servers.process import ServerError
from tests.servers.server import Server

USER = PASSWORD = "postgres"
# The first is that of the documents that the project started from, the second the server's own.
DATABASES = ("sentinai_test", "nilometer")
_SETTINGS = {
    "listen_addresses": "localhost",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
}


def programs() -> Path:
    """The folder of initdb and postgres: of the newest version that is installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[4]))
    if folders:
        return folders[-1]
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise ServerError("PostgreSQL is not installed here. Run: scripts/setup-services postgres")


def _may_enter(folder: Path, user: str) -> bool:
    """Whether the user may pass through every folder on the way."""
    number = pwd.getpwnam(user).pw_uid
    states = [parent.stat() for parent in [folder, *folder.parents] if parent.exists()]
    return all(each.st_mode & stat.S_IXOTH or each.st_uid == number for each in states)


class PostgresServer(Server):
    """Writes reach the disk as in production (fsync stays on)."""

    name: ClassVar[str] = "postgres"
    default_port: ClassVar[int] = 5433
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # a fast shutdown: clients are ended

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        owner: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port, owner)
        self._settings = _SETTINGS | dict(settings or {})

    @property
    def address(self) -> str:
        """The URL of its first database."""
        return self.url()

    def url(self, database: str = DATABASES[0], driver: str = "postgresql") -> str:
        return f"{driver}://{USER}:{PASSWORD}@localhost:{self.port}/{database}"

    @property
    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root: then Debian's user does."""
        return "postgres" if os.geteuid() == 0 else None

    @property
    def _data(self) -> Path:
        """Its data: in its folder, or where its user may go when that is closed to it."""
        elsewhere = self.folder / "elsewhere"
        if elsewhere.exists():
            return Path(elsewhere.read_text()) / "data"
        return self.folder / "data"

    def prepare(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        if self._user and not _may_enter(self.folder, self._user):
            place = Path(tempfile.mkdtemp(prefix="nilometer-postgres-"))
            place.chmod(0o711)
            (self.folder / "elsewhere").write_text(str(place))
        unfinished = self._data.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._user:
            shutil.chown(unfinished, self._user, self._user)
        self._initdb(unfinished)
        unfinished.rename(self._data)

    def _initdb(self, data: Path) -> None:
        """One superuser with a password; C.UTF-8 is on every machine."""
        secret = data.with_name("password")
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD)
        if self._user:
            shutil.chown(secret, self._user)
        command = [programs() / "initdb", "-D", data, "-U", USER, f"--pwfile={secret}"]
        done = subprocess.run(
            [*command, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=False,
            capture_output=True,
            text=True,
            cwd=data,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
        )
        secret.unlink()
        if done.returncode:
            raise ServerError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        self.process.launch(
            [programs() / "postgres", "-D", self._data, "-p", str(self.port), *settings],
            user=self._user,
            directory=self._data,
        )

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement with psql; its rows as text. ServerError when it fails."""
        command = [programs() / "psql", "--no-psqlrc", "-qtAXw", "-c", statement]
        done = subprocess.run(
            [*command, self.url(database)],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"PGCONNECT_TIMEOUT": "5"},
        )
        if done.returncode:
            raise ServerError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def create_database(self, name: str) -> str:
        """Make an empty database; its URL."""
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove it, and end its connections."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def healthy(self) -> bool:
        try:
            present = self.sql("SELECT datname FROM pg_database").splitlines()
            for name in DATABASES:
                if name not in present:
                    self.create_database(name)
        except ServerError:
            return False
        return True

    def wipe(self) -> None:
        elsewhere = self._data.parent
        super().wipe()
        if elsewhere != self.folder:
            shutil.rmtree(elsewhere, ignore_errors=True)
