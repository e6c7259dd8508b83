"""Makes system calls of this process fail for good, from here on, in every thread.

A seccomp filter: the real call fails in the kernel, whoever makes it (SQLite's C code too), without
privileges and without a compiler.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_NUMBERS = {
    "x86_64": {"seccomp": 317, "fsync": 74, "fdatasync": 75, "write": 1, "pwrite64": 18},
    "aarch64": {"seccomp": 277, "fsync": 82, "fdatasync": 83, "write": 64, "pwrite64": 68},
}[platform.machine()]

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_ALL_THREADS = 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def fail_calls(*names: str, error: int) -> None:
    """From now on these system calls fail with this errno. There is no way back."""
    steps = [(_LOAD, 0, 0, 0)]
    for name in names:
        steps += [(_JUMP_IF_EQUAL, 0, 1, _NUMBERS[name]), (_RETURN, 0, 0, _FAIL | error)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        raise OSError(ctypes.get_errno(), "prctl")
    program = _Program(len(steps), code)
    if libc.syscall(
        ctypes.c_long(_NUMBERS["seccomp"]),
        ctypes.c_long(_SET_MODE_FILTER),
        ctypes.c_long(_ALL_THREADS),
        ctypes.byref(program),
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
