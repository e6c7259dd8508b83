"""What is told of a forked process through a pipe: its pid, by itself; then, by its origin, how it
ended."""

from __future__ import annotations

import os
import struct


class _Number:
    """One number."""

    _FORM = struct.Struct("!q")

    @classmethod
    def write(cls, pipe: int, number: int) -> None:
        os.write(pipe, cls._FORM.pack(number))

    @classmethod
    def read(cls, pipe: int) -> int:
        data = os.read(pipe, cls._FORM.size)
        if len(data) < cls._FORM.size:
            raise ChildProcessError("the process that Nilometer is forked from has ended")
        return cls._FORM.unpack(data)[0]


class Pid(_Number):
    """Of the new process."""


class Code(_Number):
    """Its exit code; that of a signal is below zero."""
