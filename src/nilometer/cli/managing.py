"""One way to write a management command: what it does and what it says, the options given to all.

A function of `(way, arguments …)` returns a `Shown`; `managing` makes it a command that also takes
`--data-dir`, `--url`, `--key` and `--json`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, get_type_hints

import typer

from nilometer.cli.administration import Administration, DataDir, Key, Url, administration
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json, show_table

P = ParamSpec("P")
_SHARED = {"data_dir": DataDir, "url": Url, "key": Key, "as_json": AsJson}
_DEFAULTS = {"as_json": False}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command answers: a document for machines, and how people are told of it."""

    document: object
    tell: Callable[[], None]


def sentence(document: object, text: str) -> Shown:
    """A document, and a sentence for people."""
    return Shown(document, lambda: typer.echo(text))


def table(document: object, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Shown:
    """A document, and a table of it for people."""
    return Shown(document, lambda: show_table(columns, rows))


def secrets(document: object, tokens: Sequence[str], text: str) -> Shown:
    """A document with keys that are shown this once: alone on stdout, a line each, so that a
    script can take them; the sentence goes to stderr."""

    def tell() -> None:
        for token in tokens:
            typer.echo(token)
        typer.echo(text, err=True)

    return Shown(document, tell)


def managing(
    group: typer.Typer, name: str
) -> Callable[
    [Callable[Concatenate[Administration, P], Shown]],
    Callable[Concatenate[Administration, P], Shown],
]:
    """Make a function a command of the group. It stays what it was for whoever calls it."""

    def register(
        function: Callable[Concatenate[Administration, P], Shown],
    ) -> Callable[Concatenate[Administration, P], Shown]:
        group.command(name)(_with_options(function))
        return function

    return register


def _with_options(function: Callable[..., Shown]) -> Callable[..., None]:
    @wraps(function)
    def run(**given: Any) -> None:
        data_dir, url, key, as_json = (given.pop(shared) for shared in _SHARED)
        with administration(data_dir, url, key) as way:
            shown = function(way, **given)
        if as_json:
            show_json(shown.document)
        else:
            shown.tell()

    # Typer reads a command's options from its signature and its hints.
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=_DEFAULTS.get(name), annotation=hint)
        for name, hint in _SHARED.items()
    ]
    parameters = [each.replace(kind=keyword, annotation=hints[each.name]) for each in own]
    run.__signature__ = inspect.Signature([*parameters, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*parameters, *shared)}
    return run
