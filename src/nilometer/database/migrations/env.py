"""How Alembic reaches the database: the one it is given, or that of the settings in effect."""

from alembic import context

from nilometer import settings
from nilometer.access import tables as access_tables
from nilometer.alerts import tables as alert_tables
from nilometer.budgets import tables as budget_tables
from nilometer.database import compatibility
from nilometer.database.engine import Base, Database
from nilometer.database.migrate import create, migrating
from nilometer.incidents.packs import tables as pack_tables
from nilometer.incidents.tools import tables as tool_tables
from nilometer.migrate_data import claim
from nilometer.notifications import tables as notification_tables
from nilometer.pipeline import dead_letters
from nilometer.pipeline.rewriting import jobs
from nilometer.workflows import tables as workflow_tables

# Every module that declares tables.
TABLES = (
    access_tables,
    dead_letters,
    jobs,
    budget_tables,
    alert_tables,
    notification_tables,
    workflow_tables,
    pack_tables,
    tool_tables,
    compatibility,
    claim,
)


def run() -> None:
    """Run the command that Alembic was given, in one transaction."""
    database: Database | None = context.config.attributes.get("database")
    if database is None:
        database = Database(settings.load().effective_database_url)
        create(database)
    with migrating(database) as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            compare_server_default=True,
        )
        context.run_migrations()
        compatibility.note(connection, context.script)


run()
