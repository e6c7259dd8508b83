"""Opens the data directory's database for commands that need no running server."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.access.types import Authority
from nilometer.errors import NotFound

if TYPE_CHECKING:
    from nilometer.access.accounts import Accounts

DataDir = Annotated[
    Path | None, typer.Option(help="The server's data directory; ./nilometer-data by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]


@contextmanager
def open_accounts(data_dir: Path | None) -> Generator[Accounts]:
    """The accounts of a data directory, for its operator; safe while a server uses it.

    Raises NotFound when there is no database, and DatabaseUnavailable.
    """
    from nilometer import settings
    from nilometer.access.accounts import Accounts
    from nilometer.database.engine import Database

    with closing(Database(settings.load(data_dir=data_dir).effective_database_url)) as database:
        file = database.path
        if file is not None and not file.exists():
            raise NotFound(
                f"there is no database in {file.parent}; start `nilometer serve` there "
                "once, or name its directory with --data-dir"
            )
        yield Accounts(database, Authority(f"operator:{_user()}", socket.gethostname(), None))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())
