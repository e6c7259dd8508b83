"""`nilometer serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nilometer.cli.app import app


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 8000 by default.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept; ./nilometer-data by default.")
    ] = None,
) -> None:
    """Run Nilometer in one process, with nothing beside it."""
    from nilometer import settings
    from nilometer.serve import serve as run

    run(settings.load(host=host, port=port, data_dir=data_dir))
