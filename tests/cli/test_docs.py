"""docs/cli.md says what each command that asks a server is for."""

from pathlib import Path

import pytest
from typer.main import get_group

from nilometer.cli import dead_letters, events, log, prices, rewrites, trace, traces
from nilometer.cli.app import MODULES, app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
MODULES_READING = (dead_letters, events, log, prices, rewrites, trace, traces)
READING = {module.__name__ for module in MODULES_READING}


def commands():
    for name, module in MODULES.items():
        if module in READING:
            command = get_group(app).commands[name]
            yield f"nilometer {name}"
            yield from (f"`{each}" for each in getattr(command, "commands", {}))


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_is_documented(command):
    assert command in PAGE or command.replace("`", "") in PAGE
