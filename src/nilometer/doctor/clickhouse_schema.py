"""What the store's record of its migrations means, on either of its engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nilometer.clickhouse.migrate import migrations
from nilometer.doctor.finding import (
    FIRST_START,
    FIRST_START_OR_MOVE,
    Verdict,
    failed,
    ok,
    warning,
)

RECORD = "SELECT * FROM nilometer.schema_migrations"
"""The statement whose rows `judged` takes: an older record has fewer columns."""


def judged(
    record: Sequence[Mapping[str, Any]], *, may_create: bool = True, movable: bool = False
) -> Verdict:
    """The version of the store's tables; `record` is empty when there are none. `movable`: an
    embedded server can be moved to it."""
    run = {int(row["version"]): str(row["checksum"]) for row in record}
    ours = {each.version: each for each in migrations()}
    newest = max(ours)
    needed = max((int(row.get("min_compatible") or 0) for row in record), default=0)
    if needed > newest:
        return failed(
            f"The store serves releases that know its migration {needed:04}; this one knows "
            f"{newest:04}.",
            "Upgrade this release.",
        )
    changed = [
        number for number, each in ours.items() if run.get(number, each.checksum) != each.checksum
    ]
    if changed:
        return failed(
            f"Migration {changed[0]:04} of the store was run with another text than this release "
            "has.",
            "Install a release as it was published, or start on an empty store.",
        )
    missing = [number for number in ours if number not in run]
    if not missing:
        ahead = f"; a newer release has expanded it to {max(run):04}" if max(run) > newest else ""
        return ok(f"The store has all {newest} migrations of this release{ahead}.")
    if not record:
        found = "The store has no tables yet."
    else:
        found = f"The store lacks {len(missing)} of the {len(ours)} migrations of this release."
    if not may_create:
        return failed(
            f"{found} Its user may not make tables.",
            "Grant what deploy/clickhouse/users.sql grants for migrations, for the first start of "
            "this release.",
        )
    return warning(found, FIRST_START_OR_MOVE if movable and not record else FIRST_START)
