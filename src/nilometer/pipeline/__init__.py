"""From log to store: map, deduplicate, insert, commit."""
