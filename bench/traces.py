"""Trace files: records per second and peak memory of `nilometer traces ingest`, beside the simple
way (read whole, normalise, insert), on the same records in the same run: a mixture of lines, and
one JSON array, as LiteLLM answers for spend logs.

    python -m bench.traces 1000000

Seconds are from the start of the process to its end, for every way. What a command says of itself,
which leaves its start out, is under "said".
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.trace_records import write_array, write_mixture

_EVERY = 0.05


def measure(records: int) -> dict[str, Any]:
    """So many records, of the lines a hundredth bad: each way in processes of its own."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        lines, array = folder / "mixture.jsonl", folder / "array.json"
        write_mixture(lines, records)
        write_array(array, records)
        sizes = {"lines": lines.stat().st_size, "array": array.stat().st_size}
        found: dict[str, Any] = {"records": records, "bytes": sizes}
        database = ("--db", folder / "traces.db")
        ways = {
            "nilometer": _ingest(lines, *database),
            "nilometer again": _ingest(lines, *database, "--again"),
            "nilometer, one process": _ingest(lines, "--db", folder / "one.db", "--workers", "0"),
            "nilometer, array": _ingest(array, "--db", folder / "array.db"),
            "simple": _simple(lines, folder / "simple.db"),
            "simple, array": _simple(array, folder / "simple-array.db"),
        }
        for name, command in ways.items():
            found[name] = _measured([str(part) for part in command], records)
        return found


def _ingest(*arguments: Any) -> list[Any]:
    return [sys.executable, "-m", "nilometer", "traces", "ingest", *arguments, "--json"]


def _simple(file: Path, database: Path) -> list[Any]:
    return [sys.executable, "-m", "bench.traces", "simple", file, database]


def _measured(command: list[str], records: int) -> dict[str, Any]:
    """Seconds from start to end, and the most memory of the process and its children together: what
    processes share counts once."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_kib, _family(process.pid))))
            time.sleep(_EVERY)
        seconds = time.perf_counter() - began
        said = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, said
    return {
        "seconds": round(seconds, 2),
        "records_per_second": round(records / seconds),
        "peak_mb": round(peak / 1024, 1),
        "said": json.loads(said),
    }


def _family(pid: int) -> list[int]:
    """The process and what it started."""
    found = [pid]
    for each in found:
        try:
            text = Path(f"/proc/{each}/task/{each}/children").read_text()
        except OSError:
            continue
        found += map(int, text.split())
    return found


def _kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


_TABLE = """
CREATE TABLE sessions (id INTEGER PRIMARY KEY, session_id TEXT, developer_id TEXT, timestamp TEXT,
  model TEXT, tokens_in INTEGER, tokens_out INTEGER, latency_ms REAL, status_code INTEGER,
  repo_slug TEXT, cost_usd REAL)"""


def simple(file: Path, database: Path) -> dict[str, int]:
    """What one would write in an afternoon: the whole file in memory, one price for everything, no
    identity, bad lines left out."""
    text = file.read_text(errors="replace")
    records = json.loads(text) if file.suffix == ".json" else _loaded(text)
    rows = [row for record in records if (row := _normalised(record)) is not None]
    with sqlite3.connect(database) as connection:
        connection.execute(_TABLE)
        connection.executemany(
            "INSERT INTO sessions (session_id, developer_id, timestamp, model, tokens_in,"
            " tokens_out, latency_ms, status_code, repo_slug, cost_usd)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    connection.close()
    return {"inserted": len(rows)}


def _loaded(text: str) -> list[Any]:
    records: list[Any] = []
    for line in text.splitlines():
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return records


def _normalised(record: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, dict):
        return None
    message = record.get("message") if isinstance(record.get("message"), dict) else {}
    usage = record.get("usage") or message.get("usage") or record
    attributes = record.get("attributes") or {}
    metadata = record.get("metadata") or {}
    if not isinstance(usage, dict) or not isinstance(metadata, dict):
        return None
    entered = usage.get("input_tokens", usage.get("prompt_tokens")) or 0
    left = usage.get("output_tokens", usage.get("completion_tokens")) or 0
    if not isinstance(attributes, dict) or not isinstance(entered, int):
        return None
    return (
        metadata.get("session_id") or record.get("sessionId"),
        metadata.get("developer_id"),
        str(record.get("timestamp") or record.get("startTime")),
        attributes.get("llm.model_name") or record.get("model") or message.get("model"),
        entered,
        left,
        attributes.get("latency_ms"),
        attributes.get("status_code"),
        str(metadata.get("repo")),
        (entered + left) * 10 / 1e6,
    )


def _main() -> None:
    if sys.argv[1] == "simple":
        print(json.dumps(simple(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print(json.dumps(measure(int(sys.argv[1])), indent=1))


if __name__ == "__main__":
    _main()
