"""What an install brings, and what it loads."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from nilometer.cli.app import SERVER_MODULES

ROOT = Path(__file__).parents[1]


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_bare_import_loads_nothing_but_itself():
    done = python(
        "import sys; before = set(sys.modules); import nilometer; "
        "print(sorted(set(sys.modules) - before))"
    )
    assert done.stdout.strip() == "['nilometer']", done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["events", "--help"]])
def test_the_command_line_answers_without_the_server_part(arguments):
    blocked = (
        f"import sys; sys.modules |= dict.fromkeys({sorted(SERVER_MODULES - {'pydantic'})}); "
        "from nilometer.cli import main; main()"
    )
    done = python(blocked, *arguments)
    assert done.returncode == 0, done.stderr
    assert any(word in done.stdout for word in ("nilometer 0.", "Capture every", "events"))


def test_serve_without_the_server_part_says_what_to_install():
    blocked = (
        f"import sys; sys.modules |= dict.fromkeys({sorted(SERVER_MODULES - {'pydantic'})}); "
        "from nilometer.cli import main; main()"
    )
    done = python(blocked, "serve")
    assert done.returncode == 1
    assert "pip install 'nilometer[server]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_holds_the_files_that_are_not_code(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)],
        check=True,
        cwd=ROOT,
        capture_output=True,
        timeout=110,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for pattern in (
        r"nilometer/py\.typed",
        r"nilometer/capture/schemas/ai_generation\.v1\.json",
        r"nilometer/clickhouse/schema/0001_\w+\.sql",
        r"nilometer/database/migrations/versions/0001_\w+\.py",
        r".*/licenses/LICENSE",
    ):
        assert any(re.fullmatch(pattern, name) for name in names), pattern


def test_every_dependency_is_pinned_with_its_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        "requirements.txt": project["project"]["dependencies"]
        + project["project"]["optional-dependencies"]["server"],
        "requirements.lock": project["dependency-groups"]["dev"],
    }
    for name, requirements in wanted.items():
        lines = (ROOT / name).read_text()
        for requirement in requirements:
            package = re.match(r"[\w-]+", requirement)[0]
            pinned = rf"^{package}(\[[\w,-]+\])?==\S+( ;[^\n]*)? \\\n\s+--hash=sha256:"
            assert re.search(pinned, lines, re.MULTILINE), f"{package} in {name}: run make lock"
