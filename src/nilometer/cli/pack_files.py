"""What the commands of packs and playbooks have in common: files, and problems told."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import typer

from nilometer.cli.output import visible
from nilometer.errors import InvalidInput, NotFound

_MAX_BYTES = 4 * 1024 * 1024


def read_bytes(file: Path) -> bytes:
    """A file's bytes, of `-` those of stdin. Raises NotFound and InvalidInput."""
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(f"{visible(str(file))} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise InvalidInput(f"{visible(str(file))} is larger than {_MAX_BYTES:,} bytes")
    return data


def show_problems(problems: Iterable[tuple[str, int | None, str]]) -> NoReturn:
    """Tell every problem, given as path, line and sentence, and end with code 1."""
    for path, line, sentence in problems:
        place = visible(path or "pack") + (f" (line {line})" if line else "")
        typer.echo(f"{place}: {visible(sentence)}", err=True)
    raise typer.Exit(1)
