"""Named points where a test makes a running process fail: killed, refused, or made to wait.

Faults are promised to be survived, so they must be possible in the process that users run, at the
instants that matter. Off unless the setting `failpoints` is given, and then a dictionary look-up.

    NILOMETER_FAILPOINTS="after_append=kill"          kill -9 itself at the first hit
    NILOMETER_FAILPOINTS="before_commit=kill@3"       … at the third
    NILOMETER_FAILPOINTS="store=error"                raise Fault until the action is cleared
    NILOMETER_FAILPOINTS="store=slow"                 take half a second longer
    NILOMETER_FAILPOINTS="@/path/file"                the same text, read again at every hit
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

POINTS = frozenset(
    {
        "after_blob_put",
        "before_append",
        "after_append",
        "blobs",
        "store",
        "map",
        "after_pack_put",
        "after_insert",
        "before_commit",
        "moved_objects",
        "moved_chunk",
        "moved_records",
        "moved_rows",
        "moved_all",
        "rewrite_planned",
        "rewrite_written",
        "notification_sent",
        "incident_accepted",
        "stage_worked",
        "stage_settled",
        "tool_begun",
        "tool_performed",
        "tool_recorded",
        "outbox_appended",
    }
)

SLOW_SECONDS = 0.5

_actions: dict[str, str] = {}
_file: Path | None = None
_hits: dict[str, int] = {}


class Fault(Exception):
    """What a failpoint with the action `error` raises, where a real part would fail."""


def configure(text: str) -> None:
    """Set the actions; an empty text clears them. Raises ValueError for an unknown point."""
    global _file, _actions  # noqa: PLW0603  (one process, one set of failpoints)
    _hits.clear()
    _file = Path(text[1:]) if text.startswith("@") else None
    _actions = {} if _file else _parse(text)


def hit(point: str) -> None:
    """Do what is configured for this point; nothing at all by default."""
    if not _actions and _file is None:
        return
    actions = _parse(_file.read_text()) if _file and _file.exists() else _actions
    action, _, nth = actions.get(point, "").partition("@")
    if not action:
        return
    _hits[point] = _hits.get(point, 0) + 1
    if nth and _hits[point] < int(nth):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "slow":
        time.sleep(SLOW_SECONDS)
        return
    raise Fault(f"failpoint {point}")


def _parse(text: str) -> dict[str, str]:
    actions = dict(pair.strip().split("=", 1) for pair in text.split(",") if pair.strip())
    for point, action in actions.items():
        if point not in POINTS or action.partition("@")[0] not in ("kill", "error", "slow"):
            raise ValueError(f"unknown failpoint {point}={action}; points: {sorted(POINTS)}")
    return actions
