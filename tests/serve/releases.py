"""A release after this one: its code and two migrations more, as a user would install it."""

from __future__ import annotations

import shutil
from pathlib import Path

from alembic.script import ScriptDirectory

import nilometer
from nilometer.clickhouse.migrate import migrations
from nilometer.database.migrate import configuration

_REVISION = '''"""What the next release adds."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new."""
    for table in ("organizations", "projects", "api_keys", "dead_letters"):
        op.add_column(table, sa.Column("next_release", sa.Text(), nullable=True))
'''
_STATEMENTS = """-- What the next release adds.
ALTER TABLE events ADD COLUMN IF NOT EXISTS next_release String DEFAULT 'unknown';
ALTER TABLE event_ids ADD COLUMN IF NOT EXISTS next_release String DEFAULT 'unknown';
ALTER TABLE calls ADD COLUMN IF NOT EXISTS next_release String DEFAULT 'unknown';
"""


class NextRelease:
    """The package in a folder, whose schema is one version ahead in the database and the store."""

    def __init__(self, folder: Path) -> None:
        package = folder / "nilometer"
        shutil.copytree(Path(nilometer.__file__).parent, package)
        head = ScriptDirectory.from_config(configuration()).get_current_head()
        assert head is not None
        self.revision = f"{int(head) + 1:04}"
        self.version = migrations()[-1].version + 1
        versions = package / "database/migrations/versions"
        (versions / f"{self.revision}_next_release.py").write_text(
            _REVISION.format(revision=self.revision, head=head)
        )
        (package / f"clickhouse/schema/{self.version:04}_next_release.sql").write_text(_STATEMENTS)
        self.prefix = ["env", f"PYTHONPATH={folder}"]
        """What a command begins with that runs this release."""
