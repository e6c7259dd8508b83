"""Files that are either there whole, or as they were."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nilometer.errors import InvalidInput


@contextmanager
def written_whole(path: Path) -> Generator[BinaryIO]:
    """A file beside the path, which takes its name and mode when the block ends without an error,
    and is deleted otherwise. What is no file, such as a pipe, is written directly.

    Raises InvalidInput when it cannot be written.
    """
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as device:
                yield device
            return
        with _beside(target) as file:
            yield file
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _beside(target: Path) -> Generator[BinaryIO]:
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            yield file
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
