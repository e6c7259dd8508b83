"""One module a resource: its routes, and how it looks as JSON."""
