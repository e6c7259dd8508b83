"""The store: client, schema, migrations, writers."""
