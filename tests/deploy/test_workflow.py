"""The workflow of GitHub Actions is one, as far as can be said without GitHub: it has the published
schema, calls targets that the Makefile has, and trusts nothing that can be changed under it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools

FOLDER = tools.ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.iterdir())
SCHEMA = tools.TOOLS / "check_jsonschema/builtin_schemas/vendor/github-workflows.json"
TARGETS = set(re.findall(r"^([a-z]+):", (tools.ROOT / "Makefile").read_text(), re.MULTILINE))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def check(path: Path, code: int = 0) -> str:
    return tools.run(
        ["check-jsonschema", "--schemafile", SCHEMA, path], cwd=path.parent, code=code
    ).stdout


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from job["steps"]


@every_workflow
def test_a_workflow_has_the_published_schema(path: Path) -> None:
    check(path)


def test_a_workflow_that_github_would_refuse_is_refused(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text()
    for number, (right, wrong) in enumerate(
        [("runs-on:", "run-on:"), ("contents: read", "contents: some"), ("- run: make", "- make")]
    ):
        assert right in text
        broken = tmp_path / f"{number}.yml"
        broken.write_text(text.replace(right, wrong, 1))
        assert broken.name in check(broken, code=1)


@every_workflow
def test_commands_are_targets_that_there_are(path: Path, tmp_path: Path) -> None:
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for number, command in enumerate(commands):
        script = tmp_path / f"{number}.sh"
        script.write_text(f"#!/bin/bash\n{command}\n")
        tools.run(["shellcheck", script])
        # What GitHub puts into a command, who sends a pull request may choose.
        assert "${{" not in command
        assert re.fullmatch(r"make ([a-z]+)", command)[1] in TARGETS  # type: ignore[index]


@every_workflow
def test_actions_are_pinned_and_may_only_read(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 120
    for step in steps(path):
        if "uses" in step:
            assert PINNED.fullmatch(step["uses"])
            line = next(each for each in path.read_text().splitlines() if step["uses"] in each)
            assert re.search(r"# v\d+\.\d+\.\d+$", line)


def test_the_coverage_that_is_written_is_uploaded() -> None:
    [path] = WORKFLOWS
    job = yaml.safe_load(path.read_text())["jobs"]["coverage"]["steps"]
    made = next(place for place, step in enumerate(job) if step.get("run") == "make coverage")
    uploaded = next(step for step in job[made:] if "upload-artifact" in step.get("uses", ""))
    assert uploaded["with"]["path"] == "coverage.xml"
    assert "-o coverage.xml" in (tools.ROOT / "Makefile").read_text()
