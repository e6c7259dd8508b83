"""The bytes of one part as they arrive."""

from __future__ import annotations

_SMALL_CHUNK = 16 * 1024
_JOINED_CHUNKS = 64 * 1024


class PartBody:
    """The bytes of a part, in chunks that are never joined into one, and never tiny: a body sent
    byte by byte must not cost an object per byte."""

    __slots__ = ("_tail", "chunks", "keep", "size")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.keep = True
        self._tail = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.size += len(chunk)
        if not self.keep:
            return
        if self.chunks and len(chunk) < _SMALL_CHUNK:
            self._tail += chunk
            if len(self._tail) >= _JOINED_CHUNKS:
                self.seal()
        else:
            self.seal()
            self.chunks.append(chunk)

    def seal(self) -> None:
        """Move what was collected of small chunks to `chunks`."""
        if self._tail:
            self.chunks.append(bytes(self._tail))
            self._tail = bytearray()

    def drop(self) -> None:
        """Keep nothing, and count on."""
        self.keep = False
        self.chunks = []
        self._tail = bytearray()

    def joined(self) -> bytes:
        """All bytes; for the parts that are small by their limits."""
        self.seal()
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
