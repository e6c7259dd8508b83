"""`nilometer config`: the settings in effect, and where each comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.cli.app import app
from nilometer.cli.offline import AsJson
from nilometer.cli.output import show_json, show_table

if TYPE_CHECKING:
    from nilometer.settings import Settings

PREFIX = "NILOMETER_"
# Variables that are read elsewhere: the settings' file, and the commands that talk to a server.
OTHER_VARIABLES = frozenset({"NILOMETER_CONFIG_FILE", "NILOMETER_URL", "NILOMETER_API_KEY"})
MASK = "********"

_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@]*@")


@app.command("config")
def config(
    as_json: AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The table of docs/configuration.md.", hidden=True)
    ] = False,
) -> None:
    """Show the settings in effect and where each comes from. Secrets are masked."""
    from nilometer import settings

    if markdown:
        typer.echo(markdown_table())
        return
    in_effect = settings.load()
    origins = settings.origins()
    shown = {name: _shown(in_effect, name) for name in origins}
    if as_json:
        show_json({name: {"value": shown[name], "source": origins[name]} for name in shown})
    else:
        rows = ((PREFIX + name.upper(), shown[name], origins[name]) for name in shown)
        show_table(("setting", "value", "source"), rows)
    for sentence in unknown_variables(os.environ, shown):
        typer.echo(sentence, err=True)


def unknown_variables(environment: Iterable[str], names: Collection[str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none: most are misspelt."""
    known = {PREFIX + name.upper() for name in names} | OTHER_VARIABLES
    sentences: list[str] = []
    for variable in sorted(environment):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            close = get_close_matches(variable.upper(), known, n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            sentences.append(f"nilometer: {variable} is not a setting and has no effect{hint}")
    return sentences


def markdown_table() -> str:
    """Every setting with its variable, default and meaning, as a Markdown table."""
    from nilometer.settings import Settings

    lines = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "none" if field.default is None else f"`{field.default}`"
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {meaning} |")
    return "\n".join(lines)


def _shown(in_effect: Settings, name: str) -> str | int | float | None:
    from pydantic import SecretStr

    value = getattr(in_effect, name)
    if isinstance(value, SecretStr):
        return MASK
    if value is None or isinstance(value, int | float):
        return value
    return _PASSWORD_IN_URL.sub(f"{MASK}@", str(value))
