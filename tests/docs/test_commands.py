"""Every command and example of the README and the docs works as written.

A ```sh or ```python block runs against a real server; the blocks of a page run in one shell, in
order, so that one may use what an earlier one set. A ```console block is for what cannot run inside
a test (starting and stopping Nilometer itself); it may only name targets of the Makefile and
commands that exist, which other tests run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import KEY, running

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, *languages):
    return [code for language, code in BLOCK.findall(page.read_text()) if language in languages]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("docs") / "data") as server:
        yield server


def pages_with(*languages):
    found = [page for page in PAGES if blocks(page, *languages)]
    return pytest.mark.parametrize("page", found, ids=lambda page: page.name)


@pages_with("sh", "python")
def test_the_examples_of_a_page_run(server, page, tmp_path):
    script = ["set -euo pipefail"]
    for number, (language, code) in enumerate(BLOCK.findall(page.read_text())):
        if language == "sh":
            script.append(code)
        elif language == "python":
            (tmp_path / f"example{number}.py").write_text(code)
            script.append(f"python example{number}.py")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "NILOMETER_URL": server.url,
            "NILOMETER_API_KEY": KEY,
            "NILOMETER_DATA_DIR": str(server.data_dir),
        },
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pages_with("console")
def test_a_page_names_only_commands_that_exist(page):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in blocks(page, "console"):
        for line in filter(None, (line.split("#")[0].strip() for line in code.splitlines())):
            words = line.removeprefix("$ ").split()
            words = [word for word in words if "=" not in word] or words
            if words[0] == "make":
                assert words[1] in targets, line
            else:
                known = {"nilometer", "git", "cd"}
                tools = {f".venv/bin/{name}" for name in ("nilometer", "pytest", "alembic")}
                assert words[0] in known | tools, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
