"""What trace files, and who writes to the same folders, cannot do."""

import csv
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.errors import InvalidInput
from nilometer.importers import repository
from nilometer.importers.parquet.partition import Partition, add
from nilometer.importers.store import TraceStore
from tests.importers.parquet.hammer import PLACE, exported, hammer
from tests.running import wait_until

RACE_SECONDS = float(os.environ.get("NILOMETER_RACE_SECONDS", "12"))
LINE_BYTES = int(os.environ.get("NILOMETER_LINE_BYTES", str(256 * 1024 * 1024)))

TRAVERSALS = [
    *("../x", "a/../b", "..", ".", "./a", "a/.", "a/..", "/etc/passwd", "a//b", "a/", "/"),
    *("..\\x", "a\\b", "C:\\x", "c:/x", "~/x", "a/~", "a/b/c/d/e", ".git/hooks", "a/.github"),
    *("%2e%2e/x", "..%2fx", "%2e%2e%2fx", "%252e%252e/x", "..%c0%afx", "a%00b", "a/b%2f.."),
    *("a\0b", "a/b\0", "\0", "a\nb", "a/b\n", "a\r", "a\tb", " a/b", "a/b ", " ", ""),
    *("．．/x", "a/․․", "a∕b", "аcme/x", "a\u202eb", "acme/naïve"),
    *("con", "a/NUL", "aux.txt", "a/com1", "LPT9.log/a", "a/b.", "a...b", "-rf", "--help/x"),
    *("a" * 101, "/".join(["a" * 60] * 4), "repo=x/y", "a/day=1", "a*b", "a?b", "$HOME/x", "`id`"),
]


@pytest.mark.parametrize("slug", TRAVERSALS, ids=ascii)
def test_a_path_is_no_repository(slug):
    assert not repository.is_safe(slug)
    with pytest.raises(InvalidInput):
        Partition(slug, "2026-11-02").folders  # noqa: B018


@pytest.mark.parametrize("slug", ["acme/river", "a/b/c/d", "solo", "a_b/c-d.e", "x/con1", "0/1"])
def test_a_repository_is_one(slug):
    assert repository.checked(slug) == slug


@given(st.text(st.sampled_from("aZ0._-/\\%~:\0\n 2eE٠．")) | st.text())
def test_no_name_at_all_leads_out_of_the_folder(slug):
    root = Path("/srv/traces")
    try:
        path = root / Partition(slug, "2026-11-02").path
    except InvalidInput:
        return
    assert os.path.normpath(path) == str(path)
    assert path.parts[:3] == root.parts
    assert len(path.parts) == 6
    assert not any(part.startswith(".") for part in path.parts)
    assert all(len(part.encode()) <= 255 for part in path.parts)


@given(st.text())
def test_no_day_leads_out_of_the_folder(day):
    try:
        folders = Partition("a/b", day).folders
    except InvalidInput:
        return
    assert folders[1] == f"day={day}"
    assert day.replace("-", "").isdigit()


def record(**values):
    told = {
        "timestamp": "2025-10-12T10:00:00Z",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "attributes": {"llm.model_name": "claude-3-opus-20240229"},
    }
    return json.dumps(told | values)


def run(*arguments):
    done = CliRunner().invoke(app, ["traces", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def ingested(tmp_path, *lines):
    """What the summary of an ingestion of these lines says."""
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines))
    return read(tmp_path, file)


def read(tmp_path, file):
    database = tmp_path / "traces.db"
    arguments = ["--db", database, "--parquet-dir", tmp_path / "out", "--json"]
    return json.loads(run("ingest", file, *arguments))


def tree(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_hostile_repositories_are_dead_letters_and_the_rest_of_the_file_is_kept(tmp_path):
    hostile = [
        record(metadata={"repo": slug})
        for slug in TRAVERSALS
        if slug.strip() and not repository.is_safe(slug)
    ]
    good = [record(metadata={"repo": "acme/river"}, attributes={"llm.model_name": "a"})]
    done = ingested(tmp_path, *hostile, *good)
    assert done["inserted"] == 1
    assert done["rejected_by_reason"] == {"bad_repository": len(hostile)}
    assert tree(tmp_path / "out") == ["repo=acme%2Friver/day=2025-10-12/calls.parquet"]


def test_names_that_differ_in_case_share_a_partition_and_lose_nothing(tmp_path):
    lines = [record(metadata={"repo": slug}) for slug in ("Acme/River", "acme/river", "ACME/RIVER")]
    assert ingested(tmp_path, *lines)["inserted"] == 3
    assert tree(tmp_path / "out") == ["repo=acme%2Friver/day=2025-10-12/calls.parquet"]
    file = pq.ParquetFile(tmp_path / "out" / "repo=acme%2Friver/day=2025-10-12/calls.parquet")
    slugs = file.read(["repo_slug"])[0].to_pylist()
    assert sorted(slugs) == ["ACME/RIVER", "Acme/River", "acme/river"]


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text("mine")
    return folder


@pytest.fixture
def calls(tmp_path):
    return exported(tmp_path, [f"call-{number}" for number in range(10)])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_symbolic_link_in_the_way_is_not_followed(tmp_path, outside, calls, depth):
    root = tmp_path / "out"
    parts = PLACE.path.split("/")
    link = root.joinpath(*parts[: depth + 1])
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "kept" if depth == 2 else outside)
    with pytest.raises(InvalidInput, match="symbolic link"):
        add(root, PLACE, calls, frozenset())
    assert tree(outside) == ["kept"]
    assert (outside / "kept").read_text() == "mine"


def test_a_link_swapped_in_while_a_file_is_written_leads_nowhere(tmp_path, outside, calls):
    root = tmp_path / "out"
    add(root, PLACE, calls[:1], frozenset())
    day = (root / PLACE.path).parent

    def swapping():
        yield from calls[:5]
        day.rename(tmp_path / "moved")
        day.symlink_to(outside)
        yield from calls[5:]

    with pytest.raises(InvalidInput, match="moved while it was written"):
        add(root, PLACE, swapping(), frozenset())
    assert tree(outside) == ["kept"]


def test_a_file_that_unpacks_to_gigabytes_is_stopped(tmp_path):
    bomb = tmp_path / "bomb.jsonl.zst"
    packer = zstandard.ZstdCompressor().compressobj()
    block = b" " * (1 << 20)
    with bomb.open("wb") as file:
        file.write(packer.compress(f"{record()}\n".encode()))
        for _ in range(1024):
            file.write(packer.compress(block))
        file.write(packer.flush())
    assert bomb.stat().st_size < 200_000
    done = read(tmp_path, bomb)
    assert done["inserted"] == 1
    assert "too_much_decompressed" in done["rejected_by_reason"]


# The most memory, in KiB, that the program had: of what it was started from there is none in it.
MEASURED = """
import pathlib, re, sys
from nilometer.cli import main
try:
    main()
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    print(re.search("VmHWM:\\s+(\\d+)", status)[1], file=sys.stderr)
"""


def test_a_line_of_a_gigabyte_is_passed_in_little_memory(tmp_path):
    file = tmp_path / "long.jsonl"
    with file.open("wb") as long:
        long.write(b'{"a":"')
        long.truncate(LINE_BYTES)
        long.seek(LINE_BYTES)
        long.write(f'"}}\n{record()}\n'.encode())
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "traces", "ingest", file, "--json", "--db",
         tmp_path / "traces.db", "--workers", "0"],
        check=True, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (told["inserted"], told["rejected_by_reason"]) == (1, {"line_too_long": 1})
    assert int(done.stderr) < 200 * 1024
    with TraceStore(tmp_path / "traces.db") as store:
        (letter,) = store.letters.list()
    assert letter.raw_bytes == LINE_BYTES + 2
    assert len(letter.raw) <= 64 * 1024


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"usage":['])
def test_json_nested_too_deep_harms_no_other_record(tmp_path, opening):
    done = ingested(tmp_path, record(), opening * 100_000, record(timestamp=1))
    assert done["inserted"] == 2
    assert done["rejected"] == 1


FORMULAS = ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "  =1"]


def test_csv_of_a_report_holds_no_formula(tmp_path):
    lines = [record(metadata={"developer_id": each, "session_id": each}) for each in FORMULAS]
    ingested(tmp_path, *lines)
    text = run("report", "--db", tmp_path / "traces.db", "--by", "developer", "--by", "session",
               "--format", "csv")  # fmt: skip
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]


HOSTILE = "x\n# Heading <script>alert(1)</script> ![i](http://evil/) | cell | \x1b[2J `code` <!--"


def test_markdown_of_a_session_shows_what_was_sent_as_text(tmp_path):
    lines = [
        record(
            metadata={"session_id": "s", "developer_id": HOSTILE},
            attributes={"llm.model_name": HOSTILE},
        ),
        record(metadata={"session_id": "s", "developer_id": "[link](javascript:alert(1))"}),
    ]
    ingested(tmp_path, *lines)
    page = run("show", "s", "--db", tmp_path / "traces.db")
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == ["# Session s", "## Tokens", "## Models", "## Calls"]
    for character in "<>|`![":
        for place, found in enumerate(page):
            if found == character and character != "|":
                assert page[place - 1] == "\\", (character, page[max(0, place - 20) : place + 5])
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {3, 6, 9}
    assert "\x1b" not in page


def test_a_dead_letter_does_not_drive_the_terminal(tmp_path):
    ingested(tmp_path, '{"a": "\x1b[2J')
    shown = run("dead-letters", "show", "1", "--db", tmp_path / "traces.db")
    assert "\x1b" not in shown


def test_writers_that_are_killed_lose_no_row_and_leave_no_torn_file(tmp_path):
    """Eight processes write one partition and are killed, each again and again."""
    multiprocessing.set_forkserver_preload(["tests.importers.parquet.hammer"])
    context = multiprocessing.get_context("forkserver")
    root, file = tmp_path / "out", tmp_path / "out" / PLACE.path
    (template,) = exported(tmp_path, ["template"])
    chance = random.Random(8)
    writers: dict[int, multiprocessing.Process] = {}
    started = 0

    def start(place):
        nonlocal started
        started += 1
        promised = tmp_path / f"promised-{started}"
        writers[place] = context.Process(target=hammer, args=(root, promised, template))
        writers[place].start()

    for place in range(8):
        start(place)
    wait_until(file.exists, seconds=60)
    deadline, next_kill = time.monotonic() + RACE_SECONDS, 0.0
    while (now := time.monotonic()) < deadline:
        assert pq.ParquetFile(file).read(["trace_hash"]).num_rows > 0  # never torn, never empty
        if now >= next_kill:
            next_kill = now + 0.4
            place = chance.randrange(8)
            writers[place].kill()
            writers[place].join(90)
            start(place)
    for each in writers.values():
        each.kill()
        each.join(90)
    promised = {
        line.strip()
        for told in tmp_path.glob("promised-*")
        for line in told.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    }
    add(root, PLACE, [], frozenset())
    found = pq.ParquetFile(file).read(["trace_hash"])[0].to_pylist()
    assert len(promised) >= 20
    assert started > 10
    assert promised <= set(found)
    assert len(found) == len(set(found))
    assert [each.name for each in file.parent.iterdir()] == [file.name]
