"""Files: durable in the right order, whole or absent after a kill, and honest on a full disk."""

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from nilometer.blobs.backend import Limits
from nilometer.blobs.store import BlobStore, open_store
from nilometer.blobs.types import BlobNotFound, BlobsFull, BlobsUnavailable
from nilometer.errors import ConfigurationError
from tests.blobs.samples import (
    BUCKET,
    EVENT,
    Traced,
    all_keys,
    files,
    key_of,
    noise,
    part,
    prose,
    put,
    read,
)

FAR_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)


class Calls:
    """The fsyncs and renames of a put, in order, with inodes for names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int]] = []
        fsync, rename = os.fsync, os.rename

        def traced_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self.seen.append(("fsync", os.fstat(descriptor).st_ino))

        def traced_rename(source: Path, target: Path) -> None:
            rename(source, target)
            self.seen.append(("rename", Path(target).stat().st_ino))

        monkeypatch.setattr(os, "fsync", traced_fsync)
        monkeypatch.setattr(os, "rename", traced_rename)


class Gate:
    """Holds every fsync until it is opened, and counts who waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.waiting = threading.Semaphore(0)
        fsync = os.fsync

        def held(descriptor: int) -> None:
            self.waiting.release()
            assert self.opened.wait(90)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", held)


@pytest.fixture
def gate(local_store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    put(local_store, part("a", b"makes the folders"))
    found = Gate(monkeypatch)
    yield found
    found.opened.set()


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_the_file_is_fsynced_then_renamed_then_its_folder_is_fsynced(
    local_store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(local_store, part("a", b"makes the folders"))
    calls = Calls(monkeypatch)

    [reference] = put(local_store, part("a", b"x"))

    path = root / key_of(local_store, reference.url)
    assert calls.seen == [
        ("fsync", inode(path)),
        ("rename", inode(path)),
        ("fsync", inode(path.parent)),
    ]


def test_every_new_folders_entry_is_fsynced_before_the_first_put_returns(
    local_store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)

    [reference] = put(local_store, part("a", b"x"))

    path = root / key_of(local_store, reference.url)
    parents = [root, root / "llma", root / "llma" / "1"]
    assert [("fsync", inode(parent)) for parent in parents] == calls.seen[1:4]
    assert calls.seen[4:] == [("rename", inode(path)), ("fsync", inode(path.parent))]


def test_folders_that_another_process_made_are_fsynced_too(
    local_store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(local_store, part("a", b"x"))
    other = open_store(root.as_uri(), bucket=BUCKET)
    calls = Calls(monkeypatch)

    put(other, part("a", b"x"))
    other.close()

    synced = [number for call, number in calls.seen if call == "fsync"]
    assert {inode(root), inode(root / "llma"), inode(root / "llma" / "1")} <= set(synced)


def test_new_parents_of_the_directory_are_fsynced_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)

    open_store((tmp_path / "a" / "b").as_uri(), bucket=BUCKET).close()

    made = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert calls.seen == [("fsync", inode(directory)) for directory in made]


def test_puts_wait_for_the_disk_side_by_side_and_not_on_the_event_loop(
    local_store: BlobStore, gate: Gate
) -> None:
    async def eight_puts() -> None:
        puts = [
            asyncio.ensure_future(local_store.put(1, EVENT, now_micros(), 30, [part("a", b"x")]))
            for _ in range(8)
        ]
        for _ in range(8):  # the loop turns while eight puts are inside fsync at once
            await asyncio.to_thread(gate.waiting.acquire)
        assert not any(item.done() for item in puts)
        gate.opened.set()
        await asyncio.gather(*puts)

    asyncio.run(asyncio.wait_for(eight_puts(), 20))
    assert len(all_keys(local_store)) == 9


def now_micros() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)


def test_a_disk_that_hangs_is_unavailable_after_the_time_limit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(root.as_uri(), bucket=BUCKET, limits=Limits(put=0.1, probe=0.1))
    gate = Gate(monkeypatch)

    with pytest.raises(BlobsUnavailable, match="did not answer"):
        put(store, part("a", b"x"))
    with pytest.raises(BlobsUnavailable, match="did not answer"):
        asyncio.run(store.probe())

    gate.opened.set()
    store.close()


def test_a_disk_that_hangs_holds_a_bounded_number_of_bytes_however_many_puts_time_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, room = 100_000, 10
    with closing(open_store(root.as_uri(), bucket=BUCKET)) as patient:
        put(patient, part("a", b"makes the folders"))
    limits = Limits(put=0.05)
    store = open_store(root.as_uri(), bucket=BUCKET, max_waiting_bytes=room * size, limits=limits)
    gate = Gate(monkeypatch)

    async def wave() -> list[BaseException | object]:
        return await asyncio.gather(
            *(
                store.put(1, EVENT, now_micros(), 30, [part("a", Traced(noise(size)))])
                for _ in range(20)
            ),
            return_exceptions=True,
        )

    for _ in range(5):
        assert all(isinstance(outcome, BlobsUnavailable) for outcome in asyncio.run(wave()))
        gc.collect()
        assert Traced.alive <= room

    gate.opened.set()
    store.close()
    gc.collect()
    assert Traced.alive == 0
    assert [item.name for item in files(root) if item.parent.name == ".tmp"] == []


def test_probes_of_a_disk_that_hangs_do_not_pile_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(root.as_uri(), bucket=BUCKET, limits=Limits(probe=0.05))
    gate = Gate(monkeypatch)

    async def probes() -> None:
        for _ in range(20):
            with pytest.raises(BlobsUnavailable):
                await store.probe()

    asyncio.run(probes())
    assert gate.waiting.acquire(timeout=30)
    assert len(list((root / ".tmp").iterdir())) == 1
    gate.opened.set()
    store.close()
    assert list((root / ".tmp").iterdir()) == []


@pytest.mark.parametrize("failing", ["fsync of the file", "rename", "fsync of the folder"])
def test_a_put_that_fails_at_any_step_leaves_nothing(
    local_store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    put(local_store, part("a", b"before"))
    before = files(root)
    fsync, syncs = os.fsync, iter(["fsync of the file", "fsync of the folder"])

    def failing_fsync(descriptor: int) -> None:
        if next(syncs) == failing:
            raise OSError(5, "Input/output error", str(root))
        fsync(descriptor)

    def failing_rename(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing_fsync)
        if failing == "rename":
            patched.setattr(os, "rename", failing_rename)
        with pytest.raises(BlobsUnavailable) as caught:
            put(local_store, part("a", b"x"))

    assert files(root) == before
    assert str(root) not in caught.value.detail
    assert read(local_store, put(local_store, part("a", b"after"))[0].url) == b"after"


KILLED_BEFORE_RENAME = """
import asyncio, os, signal, sys, time
from nilometer.blobs.store import open_store
from nilometer.blobs.types import BlobPart
os.rename = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
store = open_store(sys.argv[1], bucket="test-bucket")
part = BlobPart("a", "text/plain", None, [b"never acknowledged"])
uuid = "123e4567-e89b-12d3-a456-426614174000"
asyncio.run(store.put(1, uuid, time.time_ns() // 1000, 30, [part]))
"""


def test_a_kill_before_the_rename_leaves_only_a_temporary_that_is_swept(
    local_store: BlobStore, root: Path
) -> None:
    script = [sys.executable, "-c", KILLED_BEFORE_RENAME, root.as_uri()]
    killed = subprocess.run(script, check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    [left] = files(root)
    assert left.parent.name == ".tmp"
    assert b"never acknowledged" in left.read_bytes()
    assert all_keys(local_store) == []
    assert local_store.delete_temporaries(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert local_store.delete_temporaries(FAR_FUTURE) == 1
    assert files(root) == []


ON_A_FULL_DISK = """
import asyncio, json, os, shutil, sys, time
from pathlib import Path
from nilometer.blobs.store import open_store
from nilometer.blobs.types import BlobPart, BlobsUnavailable

disk_usage = shutil.disk_usage
root = Path(sys.argv[1])
store = open_store((root / "blobs").as_uri(), bucket="test-bucket")

def put(size):
    part = BlobPart("a", "application/octet-stream", None, [bytes(size)])
    uuid = "123e4567-e89b-12d3-a456-426614174000"
    return asyncio.run(store.put(1, uuid, time.time_ns() // 1000, 30, [part]))[0].url

def refused(function, *arguments):
    try:
        function(*arguments)
    except BlobsUnavailable as error:
        return type(error).__name__, error.detail
    return None

def probe():
    asyncio.run(store.probe())

def names():
    return sorted(path.name for path in root.rglob("*") if path.is_file())

first = put(10_000)
before = names()
result = {"large": refused(put, 2_000_000), "left_as_it_was": names() == before}
with (root / "filler").open("wb", buffering=0) as filler:
    while True:
        try:
            filler.write(bytes(4096))
        except OSError:
            break
result["full"] = refused(put, 10_000)
result["probe_full"] = refused(probe)
shutil.disk_usage = lambda path: disk_usage(path)._replace(free=1 << 40)  # and then it is full
result["unexpectedly_full"] = refused(put, 10_000)
shutil.disk_usage = disk_usage
(root / "filler").unlink()
result["still_as_it_was"] = names() == before
result["probe_recovered"] = refused(probe)
second = put(10_000)
result["read"] = [
    len(asyncio.run(store.read_all(1, url, limit=1 << 20)).data) for url in (first, second)
]
print(json.dumps(result))
"""


def test_a_full_disk_is_unavailable_leaves_nothing_and_recovers(tmp_path: Path) -> None:
    # A disk of 512 KiB, seen by this process only.
    mounted = 'mount -t tmpfs -o size=512k tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", mounted, "sh",
         str(tmp_path), sys.executable, ON_A_FULL_DISK],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)

    for refusal in ("large", "full", "probe_full", "unexpectedly_full"):
        assert result[refusal][0] == "BlobsFull"
        assert "the disk" in result[refusal][1]
        assert str(tmp_path) not in result[refusal][1]
    assert result["left_as_it_was"]
    assert result["still_as_it_was"]
    assert result["probe_recovered"] is None
    assert result["read"] == [10_000, 10_000]


def test_puts_and_the_probe_leave_the_reserve_free(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve, largest = 1 << 20, 1 << 21
    store = open_store(root.as_uri(), bucket=BUCKET, disk_reserve=reserve, max_put_bytes=largest)
    free = 0
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))

    free = reserve + largest
    asyncio.run(store.probe())
    free -= 1
    with pytest.raises(BlobsFull, match="no room"):
        asyncio.run(store.probe())
    put(store, part("a", noise(1_000_000)))  # a smaller one still fits

    free = reserve + 1_000_000
    with pytest.raises(BlobsFull, match="no room"):
        put(store, part("a", noise(1_000_000)))  # its headers do not
    assert len(files(root)) == 1
    store.close()


def test_a_directory_on_another_disk_is_refused_by_that_disks_room(
    tmp_path: Path,
) -> None:
    script = (
        "import asyncio, sys\n"
        "from nilometer.blobs.store import open_store\n"
        "store = open_store(sys.argv[1], bucket='b-b', max_put_bytes=2_000_000)\n"
        "asyncio.run(store.probe())\n"
    )
    mounted = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "file://$1/blobs"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", mounted, "sh",
         str(tmp_path), sys.executable, script],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "BlobsFull" in done.stderr


def test_a_folder_that_was_removed_is_made_again(local_store: BlobStore, root: Path) -> None:
    [reference] = put(local_store, part("a", b"x"))
    path = root / key_of(local_store, reference.url)
    path.unlink()
    path.parent.rmdir()

    [again] = put(local_store, part("a", b"again"))

    assert read(local_store, again.url) == b"again"


def test_a_directory_that_went_away_is_unavailable_and_not_made_again(
    local_store: BlobStore, root: Path
) -> None:
    moved = root.rename(root.with_name("unmounted"))

    with pytest.raises(BlobsUnavailable):
        put(local_store, part("a", b"x"))
    with pytest.raises(BlobsUnavailable):
        asyncio.run(local_store.probe())

    assert not root.exists()
    moved.rename(root)
    asyncio.run(local_store.probe())


def test_the_file_ends_with_its_metadata_after_the_last_boundary(
    local_store: BlobStore, root: Path
) -> None:
    [first, _] = put(local_store, part("$ai_input", prose(3000)), part("b", b"2"), project=3)

    data = (root / key_of(local_store, first.url)).read_bytes()

    boundary = data.partition(b"\r\n")[0]
    line = data.partition(boundary + b"--\r\n")[2]
    metadata = json.loads(line)
    assert (metadata["team_id"], metadata["event_id"]) == (3, EVENT)
    assert datetime.fromisoformat(metadata["upload_timestamp"]).tzinfo is not None
    assert [entry["name"] for entry in metadata["parts"]] == ["$ai_input", "b"]
    assert metadata["parts"][0]["encoded_by"] == "nilometer"
    assert first.url.endswith("?range=" + metadata["parts"][0]["range"])


def test_nobody_else_on_the_machine_may_read_the_files(local_store: BlobStore, root: Path) -> None:
    put(local_store, part("a", b"x"))

    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_url_names_the_bucket_and_never_the_directory(local_store: BlobStore, root: Path) -> None:
    [reference] = put(local_store, part("a", b"x"))

    assert reference.url.startswith(f"file://{BUCKET}/llma/1/")
    assert root.name not in reference.url


def test_a_directory_whose_name_needs_quoting_works(tmp_path: Path) -> None:
    root = tmp_path / "a b%?#é"
    store = open_store("file://" + quote(str(root)), bucket=BUCKET)

    [reference] = put(store, part("a", b"x"))

    assert read(store, reference.url) == b"x"
    assert (root / key_of(store, reference.url)).is_file()
    store.close()


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ConfigurationError):
        open_store((tmp_path / "file" / "blobs").as_uri(), bucket=BUCKET)


@pytest.mark.parametrize("left", [1 << 20, (2 << 20) + 500_000], ids=["early", "in the last piece"])
def test_a_file_that_ends_early_is_not_read_as_if_it_were_whole(
    local_store: BlobStore, root: Path, left: int
) -> None:
    [reference] = put(local_store, part("a", noise((3 << 20) - 1000), "application/octet-stream"))
    path = root / key_of(local_store, reference.url)

    async def cut_while_reading() -> None:
        blob = await local_store.read(1, reference.url)
        async for _ in blob.chunks:
            os.truncate(path, left)

    with pytest.raises(BlobNotFound):
        asyncio.run(cut_while_reading())


def test_foreign_files_are_neither_listed_nor_deleted(local_store: BlobStore, root: Path) -> None:
    [reference] = put(local_store, part("a", b"x"))
    path = root / key_of(local_store, reference.url)
    foreign = [path.with_name("notes.txt"), root / "README", root / "llma" / "1" / "keep"]
    for item in foreign:
        item.write_text("mine")
    (root / "llma" / "lost+found").mkdir()

    assert all_keys(local_store) == [key_of(local_store, reference.url)]
    assert asyncio.run(local_store.delete_project(1)) == 1
    assert all(item.exists() for item in foreign)
