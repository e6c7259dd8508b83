"""`nilometer doctor`: whether the deployment is as it must be, and what to do where it is not."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nilometer.cli.app import app
from nilometer.cli.config import unknown_variables
from nilometer.cli.output import console, show_json, visible
from nilometer.cli.serve import AnyRole
from nilometer.errors import ConfigurationError

if TYPE_CHECKING:
    from nilometer.doctor.finding import Finding
    from nilometer.settings import Settings

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


class Format(StrEnum):
    """How the findings are shown."""

    TABLE = "table"
    JSON = "json"


@app.command("doctor")
def doctor(
    role: Annotated[
        AnyRole | None, typer.Option(help="Only what this role needs; that of the settings.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The data directory; ./nilometer-data by default.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="For people or machines.")] = (
        Format.TABLE
    ),
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    timeout: Annotated[
        float, typer.Option(min=1, max=300, help="Seconds that a check may take.")
    ] = 5.0,
) -> None:
    """Check every connection, permission, clock, topic, bucket, migration and limit.

    Says what was found and what to do. Nothing is made but a probe among the blobs, which is
    deleted. The exit code is 1 when a check failed.
    """
    # What parts log of their troubles is in the findings.
    logging.getLogger().addHandler(logging.NullHandler())
    from nilometer import settings
    from nilometer.doctor.examination import examine

    in_effect: Settings | None = None
    try:
        in_effect = settings.load(role=role and role.value, data_dir=data_dir)
        findings = examine(in_effect, seconds=timeout)
    except ConfigurationError as error:  # there are no settings to go by
        findings = [_unreadable(error)]
    if as_json or output is Format.JSON:
        show_json(_document(in_effect, findings))
    else:
        _show(findings)
    if in_effect is not None:
        for sentence in unknown_variables(os.environ, type(in_effect).model_fields):
            typer.echo(sentence, err=True)
    if any(each.outcome == "failed" for each in findings):
        raise typer.Exit(1)


def _unreadable(error: ConfigurationError) -> Finding:
    from nilometer.doctor.finding import Finding, Outcome

    return Finding(
        "settings",
        Outcome.FAILED,
        error.detail,
        "Mend it and look again; docs/configuration.md has every setting.",
    )


def _document(in_effect: Settings | None, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "profile": in_effect and in_effect.profile.value,
        "role": in_effect and in_effect.role.value,
        "outcomes": _outcomes(findings),
        "checks": [asdict(each) | {"seconds": round(each.seconds, 3)} for each in findings],
    }


def _outcomes(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(each.outcome.value for each in findings)
    return {name: counts[name] for name in _STYLES}


def _show(findings: Sequence[Finding]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found", "what to do", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in findings:
        state = Text(each.outcome.value, _STYLES[each.outcome])
        table.add_row(each.name, state, Text(visible(each.found)), Text(visible(each.remedy)))
    console().print(table)
    counts = _outcomes(findings)
    if counts["warning"] > 1:
        counts = {{"warning": "warnings"}.get(name, name): count for name, count in counts.items()}
    typer.echo(", ".join(f"{count} {name}" for name, count in counts.items() if count) + ".")
