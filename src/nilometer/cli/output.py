"""How commands show results: tables for people, one JSON document for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 10_000


def show_json(document: object) -> None:
    """Print one JSON document, indented, its members in the order given."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns. Piped, nothing is coloured, cut or wrapped."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(visible("" if cell is None else str(cell))) for cell in row))
    console().print(table)


def console() -> Console:
    """Standard output: of the terminal's width, and piped, of any."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False)


def visible(text: str) -> str:
    """The text with every control character shown as an escape, so that what someone sent cannot
    drive the terminal of who reads it."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
