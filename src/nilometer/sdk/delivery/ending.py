"""The ends of a process, and its forks: nothing that was recorded is forgotten there."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from multiprocessing import util
from types import FrameType
from typing import Any

from nilometer.sdk.delivery.delivery import Delivery


class _Live(set[Delivery]):
    """The deliveries that are not closed: held, because a client may be all that is left of a
    manager. (A class, because multiprocessing wants a weak reference to it.)"""


_LIVE = _Live()
_HANDLED: dict[str, Any] = {}
_FORKING = threading.local()
_SOON = 0.01
"""Seconds until a signal that came at a bad moment comes again."""


def watch(delivery: Delivery, *, sigterm: bool) -> None:
    """Close the delivery at exit and at SIGTERM, start it over in a forked child.

    A handler of SIGTERM can be set in the main thread only; one that is there is called after ours.
    Where SIGTERM is ignored, or handled by something that is not Python's, it stays so.
    """
    if not _HANDLED:
        _HANDLED["exit"] = True
        atexit.register(_at_exit)
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork
        )
        # The children of multiprocessing know no atexit, and forget finalizers from before.
        util.register_after_fork(_LIVE, lambda _: util.Finalize(None, _at_exit, exitpriority=1))
    _LIVE.add(delivery)
    if sigterm:
        _handle_sigterm()


def unwatch(delivery: Delivery) -> None:
    """It is closed."""
    _LIVE.discard(delivery)


def _handle_sigterm() -> None:
    if "sigterm" in _HANDLED or threading.current_thread() is not threading.main_thread():
        return
    earlier = signal.getsignal(signal.SIGTERM)
    if earlier is signal.SIG_IGN or earlier is None:
        return
    _HANDLED["sigterm"] = earlier
    signal.signal(signal.SIGTERM, _at_sigterm)


def _at_sigterm(number: int, frame: FrameType | None) -> None:
    if any(delivery.held_here() for delivery in list(_LIVE)) and _again(number):
        return
    earlier = _HANDLED["sigterm"]
    if callable(earlier):
        # A server that ends in its own time has more calls to make: what there is is made safe,
        # and the exit does the rest.
        for delivery in list(_LIVE):
            delivery.persist()
        earlier(number, frame)
        return
    _at_exit()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _again(number: int) -> bool:
    """Send the signal again a little later: what this thread holds, those that there is to wait for
    may wait for. False where that cannot be."""

    def send() -> None:
        time.sleep(_SOON)
        os.kill(os.getpid(), number)

    try:
        threading.Thread(target=send, daemon=True).start()
    except RuntimeError:  # the interpreter is ending
        return False
    return True


def _at_exit() -> None:
    for delivery in list(_LIVE):
        delivery.close(delivery.limits.exit_timeout)


def _before_fork() -> None:
    _FORKING.held = [delivery for delivery in list(_LIVE) if delivery.before_fork()]


def _after_fork_in_parent() -> None:
    for delivery in _FORKING.held:
        delivery.after_fork_in_parent()


def _after_fork() -> None:
    for delivery in list(_LIVE):
        delivery.after_fork()
