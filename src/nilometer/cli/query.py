"""`nilometer query`: one SELECT, or a prompt for many."""

from __future__ import annotations

import json
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    AsJson,
    Client,
    Key,
    Project,
    Url,
    connected,
    show_document,
)
from nilometer.cli.output import show_table, visible
from nilometer.errors import InvalidInput, NilometerError

_LIMIT = re.compile(r"\bLIMIT \d+(, \d+)?( OFFSET \d+)?\s*$")


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


@app.command("query")
def query(
    sql: Annotated[
        str | None,
        typer.Argument(help="One SELECT; `-` reads it from standard input. Without: a prompt."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--value", help="A parameter's value, name=value; JSON, or else a text."),
    ] = None,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="All rows, as a file on standard output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where the file goes instead.", dir_okay=False)
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = 1,
    as_json: AsJson = False,
) -> None:
    """Ask in SQL; docs/sql.md has the tables, and 20 examples."""
    with connected(url, key) as client:
        path = f"/api/projects/{project}/query/"
        if sql is None:
            _prompt(client, path)
            return
        body = _body(sys.stdin.read() if sql == "-" else sql, _values(values or []))
        if output_format is not None:
            _write(client, path, body, output_format, output)
        elif as_json:
            show_document(client.post(path, body))
        else:
            _show(client.post(path, body))


def _body(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"query": {"kind": "HogQLQuery", "query": sql, "values": values}}


def _values(texts: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput("give --value name=value")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _write(
    client: Client, path: str, body: dict[str, Any], output_format: Format, output: Path | None
) -> None:
    if output is None and output_format in (Format.ARROW, Format.PARQUET) and sys.stdout.isatty():
        raise InvalidInput("a terminal cannot show this format; give --output FILE")
    parameters = {"format": output_format.value}
    if output is None:
        client.download(path, parameters, body, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with output.open("wb") as file:
        client.download(path, parameters, body, file)


def _show(text: str) -> None:
    answer: dict[str, Any] = json.loads(text, parse_float=_Number)
    rows = ([_cell(value) for value in row] for row in answer["results"])
    show_table([visible(name) for name in answer["columns"]], rows)
    if answer["hasMore"]:
        asks = "" if _LIMIT.search(answer["hogql"]) else "; LIMIT asks for more"
        typer.echo(f"the first {answer['limit']} rows, and there are others{asks}", err=True)


class _Number(str):
    """A number as it was written: read as a float it could lose digits."""

    __slots__ = ()


def _cell(value: object) -> object:
    """A value in a table: NULL is told from the empty text."""
    if value is None:
        return "NULL"
    return _nested(cast("object", value)) if isinstance(value, list | dict) else value


def _nested(value: object) -> str:
    if isinstance(value, list):
        items = cast("list[object]", value)
        return f"[{', '.join(map(_nested, items))}]"
    if isinstance(value, dict):
        members = cast("dict[str, object]", value).items()
        return f"{{{', '.join(f'{_nested(name)}: {_nested(each)}' for name, each in members)}}}"
    return value if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)


def _prompt(client: Client, path: str) -> None:
    """Queries from the keyboard, each ended by a semicolon, until the end of input."""
    _complete()
    lines: list[str] = []
    while True:
        try:
            line = input("   ...> " if lines else "query> ")
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo()
            lines = []
            continue
        lines.append(line)
        if line.rstrip().endswith(";"):
            _answer(client, path, "\n".join(lines))
            lines = []


def _answer(client: Client, path: str, sql: str) -> None:
    try:
        _show(client.post(path, _body(sql, {})))
    except NilometerError as error:
        typer.echo(error.detail, err=True)


def _complete() -> None:
    """Tab completes tables, columns and functions, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    from nilometer.query.sql.completion import completions

    def complete(text: str, state: int) -> str | None:
        found = completions(text)
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" \t\n,()+-*/=<>.;")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
