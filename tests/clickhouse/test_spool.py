"""An insert's bytes reach the engine as a file that leaves nothing behind."""

import os
from pathlib import Path

import pytest

from nilometer.clickhouse import spool

DATA = b"a prompt\n" * 100_000


def test_the_file_holds_the_data_and_no_disk_holds_the_file(tmp_path: Path):
    with spool.spooled(DATA, tmp_path) as path:
        assert Path(path).read_bytes() == DATA
        assert Path(path).read_bytes() == DATA, "each reader starts at the beginning"
        assert list(tmp_path.iterdir()) == []
    assert not Path(path).exists()


def test_without_memory_files_the_file_is_in_the_directory_and_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delattr(os, "memfd_create")
    with spool.spooled(DATA, tmp_path) as path:
        assert Path(path).parent == tmp_path
        assert Path(path).read_bytes() == DATA
    assert list(tmp_path.iterdir()) == []


def test_no_descriptor_is_left_open_when_the_insert_fails(tmp_path: Path):
    before = _descriptors()
    for _ in range(50):
        with pytest.raises(KeyError), spool.spooled(b"x", tmp_path):
            raise KeyError
    assert _descriptors() == before


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
