"""`nilometer serve`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nilometer.cli.app import app


class AnyRole(StrEnum):
    """Those of `nilometer.settings.Role`, which needs the server part."""

    ALL = "all"
    CAPTURE = "capture"
    WORKER = "worker"
    API = "api"


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 8000 by default.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept; ./nilometer-data by default.")
    ] = None,
    role: Annotated[
        AnyRole | None, typer.Option(help="Of the distributed profile: what this process does.")
    ] = None,
) -> None:
    """Run Nilometer in one process, with nothing beside it, or one role of several."""
    from nilometer import settings

    # What is wrong with them is told before the server is loaded, which takes seconds.
    loaded = settings.load(host=host, port=port, data_dir=data_dir, role=role and role.value)
    loaded.check_profile()
    from nilometer.serve import serve as run

    run(loaded)
