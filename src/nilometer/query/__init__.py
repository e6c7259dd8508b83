"""Named reads of the store, each scoped to one project."""
