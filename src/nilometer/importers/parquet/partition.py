"""One partition: the calls of a repository on a day, in one file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nilometer.errors import InvalidInput
from nilometer.importers import repository
from nilometer.importers.parquet import folders, merging
from nilometer.importers.parquet.arrow import arrow, compute, parquet
from nilometer.importers.parquet.tables import BATCH_ROWS, schema, tables
from nilometer.importers.store.columns import Exported

NONE = "__HIVE_DEFAULT_PARTITION__"
"""Hive's name of the partition of NULL, which readers know."""
FILE = "calls.parquet"

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Partition:
    """A repository, as `repository.checked` takes it, or None; and a day, `YYYY-MM-DD`."""

    repo: str | None
    day: str

    @property
    def folders(self) -> tuple[str, str]:
        """The folders under the root. Raises InvalidInput for what is no repository or no day."""
        if not _DAY.fullmatch(self.day):
            raise InvalidInput(f"{self.day!a} is no day", code="unsafe_path")
        name = NONE if self.repo is None else repository.folder(self.repo)
        return f"repo={name}", f"day={self.day}"

    @property
    def path(self) -> str:
        """The file, relative to the root."""
        return "/".join((*self.folders, FILE))


def add(root: Path, partition: Partition, rows: Iterable[Exported], gone: frozenset[str]) -> int:
    """Put calls into a partition, in the order of `trace_hash` and each once, and take those of
    `gone` out; how many the file has then. Calls that are there already stay, each once: the fuller
    telling. Other writers wait meanwhile.

    What is in the file when this returns is durable. Raises InvalidInput where the file is none of
    ours, or the way there is not safe, and OSError; the file is as it was then.
    """
    with (
        folders.locked(root, partition.folders) as folder,
        folders.reading(folder, FILE) as file,
    ):
        merged = merging.merged(tables(rows), _present(file, gone))
        first = next(merged, None)
        if first is None and file is None:
            return 0
        with folders.replacing(folder, FILE) as new:
            return _write(new, first, merged)


def present(root: Path, path: str) -> Iterator[Any]:
    """What a file under the root has, in tables; nothing where there is none. Takes no lock: a file
    is always whole. Raises InvalidInput for one that is none, and where a link is on the way."""
    *names, name = path.split("/")
    with folders.found(root, tuple(names), name) as file:
        yield from _present(file, frozenset())


def _write(file: BinaryIO, first: Any, rest: Iterator[Any]) -> int:
    count = 0
    with parquet().ParquetWriter(file, schema(), compression="zstd") as writer:
        if first is not None:
            writer.write_table(first)
            count += len(first)
        for each in rest:
            writer.write_table(each)
            count += len(each)
    return count


def _present(file: BinaryIO | None, gone: frozenset[str]) -> Iterator[Any]:
    if file is None:
        return
    try:
        for batch in parquet().ParquetFile(file).iter_batches(batch_size=BATCH_ROWS):
            yield _without(_conformed(arrow().Table.from_batches([batch])), gone)
    except (arrow().ArrowException, OSError) as error:
        raise InvalidInput(f"{FILE} cannot be read, and is left as it is: {error}") from None


def _conformed(found: Any) -> Any:
    """A table of an earlier release with the columns of this one."""
    wanted = schema()
    if found.schema.equals(wanted):
        return found
    have = set(found.column_names)
    return arrow().Table.from_arrays(
        [
            found[field.name].cast(field.type)
            if field.name in have
            else arrow().nulls(len(found), field.type)
            for field in wanted
        ],
        schema=wanted,
    )


def _without(found: Any, gone: frozenset[str]) -> Any:
    if not gone:
        return found
    among = compute().is_in(found[merging.KEY], arrow().array(sorted(gone), arrow().string()))
    return found.filter(compute().invert(among))
