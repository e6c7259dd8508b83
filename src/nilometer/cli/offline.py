"""Opens the data directory's database for commands that need no running server."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.errors import NotFound

if TYPE_CHECKING:
    from nilometer.access.accounts import Accounts

DataDir = Annotated[
    Path | None, typer.Option(help="The server's data directory; ./nilometer-data by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]


@contextmanager
def open_accounts(data_dir: Path | None) -> Generator[Accounts]:
    """The accounts of a data directory; safe while a server uses it.

    Raises NotFound when there is no database, and DatabaseUnavailable.
    """
    from nilometer import settings
    from nilometer.access.accounts import Accounts
    from nilometer.database.engine import Database

    with closing(Database(settings.load(data_dir=data_dir).database_url)) as database:
        if not database.path.exists():
            raise NotFound(
                f"there is no database in {database.path.parent}; start `nilometer serve` there "
                "once, or name its directory with --data-dir"
            )
        yield Accounts(database)
